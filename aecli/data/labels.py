"""The labels of rows, from their own table or another file; and whether labels are classes or a quantity."""

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from aecli.data.beside import PATH, Beside, split
from aecli.data.source import Batch, Source
from aecli.errors import DataError

Array = np.ndarray[Any, Any]
MOST_NUMBERS = 64
ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?")


class Labels:
    """The labels of a source's rows, or the values that colour them. Ask for them by batch, in order, then `check`.

    `name` is the name of the column, `word` the option's value, None for the label.
    """

    def __init__(self, source: Source, word: str | None = None, flag: str = "--label") -> None:
        """Use the label, or what the value of an option names: a column of the source, or FILE:COLUMN.

        Raises DataError if there is no such file or column.
        """
        self.word, self._flag, self._source = word, flag, source
        self.beside = Beside(word) if word is not None and split(word) else None
        if self.beside is not None:
            self.beside.meet(source.paths)
        label = source.schema.label or "label"
        self.name = self.beside.column if self.beside else word or label
        self.is_label = self.beside is None and self.name == label

    def of(self, batch: Batch) -> Array | None:
        """Return the values (N,) of a batch's rows, as numbers, texts or dates; None if there are none.

        Raises DataError if there is no such column.
        """
        if self.beside is not None:
            return self.beside.of(batch)
        if self.is_label and (batch.labels is not None or self.word is None):
            return None if batch.labels is None else as_values(batch.labels)
        if self.name in batch.kept:
            return as_values(batch.kept[self.name])
        known = [*[self._source.schema.label or "label"] * (batch.labels is not None), *batch.kept]
        near = difflib.get_close_matches(self.name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(map(repr, known))}" if known else None
        raise DataError(
            f"{self._source.name}: {self._flag} {self.name!r} names no column",
            hint=hint or "name a column of another file as FILE:COLUMN",
        )

    def check(self) -> list[str]:
        """Check, after all rows were read, that another file has as many. Return notes on what it lacks.

        Raises DataError if it has another number of rows.
        """
        if self.beside is None:
            return []
        self.beside.check(self._source.left_out)
        named = f"{self._flag[2:]}s: {self.beside.path}:{self.name}"
        how = [] if self.beside.how == f"matched by {PATH}" else [f"{named}, {self.beside.how}"]
        return [*how, *self.beside.notes()]


def as_values(column: Any) -> Array:
    """Return a NumPy or Arrow column (N,) as an array with hashable items: lists and structs become texts."""
    if isinstance(column, np.ndarray):
        return column
    import pyarrow as pa

    if pa.types.is_temporal(column.type) and not pa.types.is_time(column.type):
        return np.asarray(column)
    values = np.empty(len(column), object)
    nested = pa.types.is_nested(column.type)
    values[:] = [str(cell) if nested and cell is not None else cell for cell in column.to_pylist()]
    return values


def is_quantity(different: Sequence[Any], most: int = MOST_NUMBERS) -> bool:
    """Return whether different labels are a quantity: more than `most` numbers, or dates.

    Texts are always classes. Numbers may be either, and only their count decides: image sets have numbered classes,
    emnist 47, and a measured quantity seldom has so few values. If a quantity with few values is shown as classes, that
    does no harm: a picture names classes only if they lie apart. A picture with fewer colours than 64 passes its own
    `most`.
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
    """Return labels as dates (N,), NaT for missing ones; None unless they are dates or texts in ISO 8601."""
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
    """Return whether a label is missing: None, NaN or an empty text."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
