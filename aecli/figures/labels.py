"""How pictures show a column of labels: as classes, or as numbers."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from aecli.data.labels import dates, is_missing, is_quantity, reads_as_number
from aecli.figures.style import MARKERS, PALETTE, Entry, Look, number

Array = np.ndarray[Any, Any]
MAX_CLASSES = 20
RANGES = 8
NONE = "(no label)"


@dataclass(frozen=True)
class Classes:
    """Some classes: their names, and the class of each row, `of` (N,).

    If `rest`, the last class holds all other labels. If `ranged`, the classes are ranges of numbers.
    """

    names: list[str]
    of: Array
    rest: bool = False
    ranged: bool = False

    @property
    def are_quiet(self) -> list[bool]:
        """Whether each class is one without meaning: rows without a label, or the rest."""
        last = len(self.names) - 1
        return [name == NONE or (self.rest and i == last) for i, name in enumerate(self.names)]

    def colours(self, look: Look) -> list[str]:
        """Return the colour of each class."""
        named = len(self.names) - sum(self.are_quiet)
        colours = [look.graded(i / max(1, named - 1)) if self.ranged else look.colour(i) for i in range(named)]
        return [*colours, *[look.colours.faint] * (len(self.names) - named)]

    def entries(self, look: Look) -> list[Entry]:
        """Return the entries of a legend."""
        markers = [MARKERS[0 if quiet else i // len(PALETTE) % len(MARKERS)] for i, quiet in enumerate(self.are_quiet)]
        return [
            Entry(name, colour, {"marker": marker, "markersize": 5.5, "markeredgewidth": 0})
            for name, colour, marker in zip(self.names, self.colours(look), markers, strict=True)
        ]


def classes(labels: Array | None, most: int = MAX_CLASSES) -> Classes | None:
    """Return labels (N,) as sorted classes: numbers by size, texts by their letters, numbers inside texts by size.

    None, NaN and empty texts are one class, the last. If there are more than `most` texts, the most frequent ones are
    classes, and the others together are one. More numbers or dates are not classes: returns None, as without labels.
    See `data.labels.is_quantity`.
    """
    if labels is None:
        return None
    if labels.dtype.kind in "mM":
        missing_dates, labels = np.isnat(labels), labels.astype(str).astype(object)
        labels[missing_dates] = None
    values = [NONE if is_missing(value) else value for value in labels.tolist()]
    counts = Counter(values)
    missing = NONE in counts
    different = [value for value in counts if value is not NONE]
    if not different:
        return None
    if is_quantity(different, most - missing):
        return None
    if len(counts) <= most:
        chosen, others = different, []
    else:
        common = sorted(different, key=lambda value: (-counts[value], str(value)))
        chosen, others = common[: most - 1 - missing], common[most - 1 - missing :]
    chosen.sort(key=_by_size if all(map(reads_as_number, chosen)) else _by_letters)
    names = [_name(value) for value in chosen] + [NONE] * missing
    place = {value: i for i, value in enumerate([*chosen, *[NONE] * missing])}
    place |= dict.fromkeys(others, len(names))
    if others:
        names.append(f"{len(others):,} others")
    return Classes(names, np.array([place[value] for value in values], np.intp), bool(others))


def groups(labels: Array | None) -> Classes | None:
    """Return labels (N,) as classes, like `classes`; more than 20 numbers or dates as ranges of equally many rows.

    None if there are no labels.
    """
    found, values = classes(labels), numbers(labels)
    if found is not None or values is None or labels is None:
        return found
    known = np.isfinite(values)
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, RANGES + 1)))
    names = ranges(edges, dated=dates(labels) is not None)
    of = np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(names) - 1)
    of[~known] = len(names)
    return Classes(names + [NONE] * bool(not known.all()), of, ranged=True)


def ranges(edges: Array, digits: int = 3, *, dated: bool = False) -> list[str]:
    """Return the names of the ranges between sorted edges: numbers, or days since 1970."""
    ends = [str(np.datetime64(int(edge), "D")) if dated else number(edge, digits) for edge in edges]
    return [f"{low} to {high}" for low, high in pairwise(ends)]


def numbers(labels: Array | None) -> Array | None:
    """Return labels as float64 numbers (N,), NaN for missing ones, if they are numbers or texts that read as numbers.

    Otherwise None. Dates are days since 1970, durations seconds.
    """
    if labels is None:
        return None
    if (found := dates(labels)) is not None:
        return np.where(np.isnat(found), np.nan, found.astype(np.float64) / 86_400e6)
    if labels.dtype.kind == "m":
        return np.where(np.isnat(labels), np.nan, labels / np.timedelta64(1, "s"))
    try:
        values = np.array([math.nan if is_missing(value) else float(value) for value in labels.tolist()], np.float64)
        return values if np.isfinite(values).any() else None
    except (TypeError, ValueError):
        return None


def _name(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _by_size(value: Any) -> tuple[float, str]:
    return float(value), str(value)


def _by_letters(value: Any) -> list[tuple[str, int]]:
    parts = re.split(r"(\d{1,18})", str(value))
    return [(part, 0) if i % 2 == 0 else ("", int(part)) for i, part in enumerate(parts)]
