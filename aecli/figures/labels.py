"""What a column of labels is to a picture: some classes, or numbers."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.figures.style import MARKERS, PALETTE, Entry, Look

Array = np.ndarray[Any, Any]
MAX_CLASSES = 20
NONE = "(no label)"


@dataclass(frozen=True)
class Classes:
    """Up to 20 classes: their names, and the class of each row, `of` (N,). Where `rest`, the last is all the others."""

    names: list[str]
    of: Array
    rest: bool

    @property
    def are_quiet(self) -> list[bool]:
        """Whether each class is one that says nothing: rows without a label, and the rest."""
        last = len(self.names) - 1
        return [name == NONE or (self.rest and i == last) for i, name in enumerate(self.names)]

    def colours(self, look: Look) -> list[str]:
        """Return each class its colour."""
        return [look.colours.faint if quiet else look.colour(i) for i, quiet in enumerate(self.are_quiet)]

    def entries(self, look: Look) -> list[Entry]:
        """Return the lines of a legend."""
        markers = [MARKERS[0 if quiet else i // len(PALETTE)] for i, quiet in enumerate(self.are_quiet)]
        return [
            Entry(name, colour, {"marker": marker, "markersize": 5.5, "markeredgewidth": 0})
            for name, colour, marker in zip(self.names, self.colours(look), markers, strict=True)
        ]


def classes(labels: Array | None) -> Classes | None:
    """Sort labels (N,) into classes, numbers by size and texts by their letters, numbers in them by size.

    None, NaN and empty texts are one class, the last. Of more than 20 texts, the 19 that most rows have are classes,
    and the others one. More than 20 numbers are no classes: None, as for no labels.
    """
    if labels is None:
        return None
    values = [NONE if _is_missing(value) else value for value in labels.tolist()]
    counts = Counter(values)
    missing = NONE in counts
    different = [value for value in counts if value is not NONE]
    numeric = all(_reads_as_number(value) for value in different)
    if len(counts) <= MAX_CLASSES:
        chosen, others = different, []
    elif numeric or labels.dtype.kind in "mM":
        return None
    else:
        common = sorted(different, key=lambda value: (-counts[value], str(value)))
        chosen, others = common[: MAX_CLASSES - 1 - missing], common[MAX_CLASSES - 1 - missing :]
    chosen.sort(key=_by_size if numeric else _by_letters)
    names = [_name(value) for value in chosen] + [NONE] * missing
    number = {value: i for i, value in enumerate([*chosen, *[NONE] * missing])}
    number |= dict.fromkeys(others, len(names))
    if others:
        names.append(f"{len(others):,} others")
    return Classes(names, np.array([number[value] for value in values], np.intp), bool(others))


def numbers(labels: Array | None) -> Array | None:
    """Return labels as numbers (N,) float64, where they are numbers or read as such; NaN where there is none."""
    if labels is None or labels.dtype.kind in "mM":
        return None
    try:
        values = labels.tolist()
        return np.array([math.nan if _is_missing(value) else float(value) for value in values], np.float64)
    except (TypeError, ValueError):
        return None


def _name(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _reads_as_number(value: object) -> bool:
    try:
        return math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _by_size(value: Any) -> tuple[float, str]:
    return float(value), str(value)


def _by_letters(value: Any) -> list[tuple[str, int]]:
    parts = re.split(r"(\d{1,18})", str(value))
    return [(part, 0) if i % 2 == 0 else ("", int(part)) for i, part in enumerate(parts)]
