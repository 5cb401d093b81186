"""What labels are: the names of classes, or a quantity. One rule for pictures, pages and metrics."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
MOST_NUMBERS = 64
ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?")


def is_quantity(different: Sequence[Any], most: int = MOST_NUMBERS) -> bool:
    """Return whether different labels are a quantity: more than `most` numbers, or dates.

    Texts are classes, however many they are. Numbers may be either, and their count alone tells: sets of images have
    their classes numbered, emnist 47, and a measured value seldom has so few. Taken as classes, a quantity of few
    values does no harm: a picture names classes only where they lie apart. A picture that has fewer colours than 64
    gives its own `most`.
    """
    return len(different) > most and (
        all(map(reads_as_number, different)) or dates(np.array(different, object)) is not None
    )


def reads_as_number(value: Any) -> bool:
    """Return whether a label is a finite number, or a text that reads as one."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def dates(labels: Array | None) -> Array | None:
    """Return labels as dates (N,), where they are dates or texts in ISO 8601; NaT where there is none."""
    if labels is None:
        return None
    if labels.dtype.kind == "M":
        return labels.astype("datetime64[us]")
    values = ["NaT" if is_missing(value) else value for value in labels.tolist()] if labels.dtype.kind in "OU" else []
    texts = set(values) - {"NaT"}
    if not texts or not all(isinstance(text, str) and ISO.fullmatch(text) for text in texts):
        return None
    try:
        return np.array(values, "datetime64[us]")
    except ValueError:  # such as a thirteenth month
        return None


def is_missing(value: Any) -> bool:
    """Return whether a label is none: None, NaN or an empty text."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
