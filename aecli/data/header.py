"""Whether the first row of a text table is its header, and the names of its columns."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from aecli.data.cells import HOLES, is_number

NUMBERS_OF_A_HEADER = 4


def named(cells: Sequence[str]) -> tuple[list[str], frozenset[str], list[str]]:
    """Return the names of columns, made from a header's cells so that none is empty or repeated.

    The second value are the names of cells that were empty, the third all names that were changed.
    """
    names = [unicodedata.normalize("NFC", cell).strip() for cell in cells]
    taken, made, nameless, changed = set(names), [], [], []
    seen: set[str] = set()
    for place, name in enumerate(names, 1):
        if name and name not in seen:
            seen.add(name)
            made.append(name)
            continue
        stem, number = (f"{name}_", 2) if name else ("column", place)
        while (new := f"{stem}{number}") in taken:
            number += 1
        taken.add(new)
        seen.add(new)
        made.append(new)
        changed.append(new)
        if not name:
            nameless.append(new)
    return made, frozenset(nameless), changed


def is_header(cells: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Return whether a first row is a header, judged by the next rows."""
    row = _is_like_one_of(cells, below)
    numbers = sum(map(is_number, cells))
    if cells == [str(i) for i in range(len(cells))]:
        return not row
    if all(cell in HOLES for cell in cells):
        return False
    if text_above_numbers(cells, below):
        return True
    return not row and (not numbers or (numbers >= NUMBERS_OF_A_HEADER and _is_even(cells)))


def text_above_numbers(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Return whether a column has text in the first row, and a number in the next cell with a value."""
    for column, above in enumerate(first):
        if is_number(above) or above in HOLES or is_local_number(above):
            continue
        cell = next((row[column] for row in below if column < len(row) and row[column] not in HOLES), "")
        if is_number(cell) or is_local_number(cell):
            return True
    return False


def is_local_number(cell: str) -> bool:
    """Return whether a cell is a number in local notation, such as 1,5 or $1,016.50, and not a name."""
    return re.fullmatch(r"[+(-]?\s*[$€£¥]?\s*[0-9][0-9.,'\u00a0 ]*\s*[%€$£)]?", cell) is not None


def _shape(cell: str) -> str:
    return re.sub(r"[0-9]+([.,][0-9]+)*", "0", cell)


def _is_like_one_of(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Return whether one of the next rows shows that the first is a row, not a header."""
    rows = [list(row) for row in below if len(row) == len(first)]
    if list(first) in rows:
        return True
    if len(first) > 2 and _is_even(first) and any(_is_even(row) for row in rows):
        return True
    for column, cell in enumerate(first):
        if is_number(cell) or not re.search("[0-9]", cell):
            continue
        shapes = {_shape(row[column]) for row in rows if row[column] not in HOLES}
        if shapes == {_shape(cell)}:
            return True
    return False


def _is_even(cells: Sequence[str]) -> bool:
    """Return whether the numbers among some cells, at least two, have a constant step."""
    values = [float(cell) for cell in cells if is_number(cell)]
    if len(values) < 2 or values[0] == values[1]:
        return False
    step = values[1] - values[0]
    return all(abs(b - a - step) <= 1e-6 * abs(step) for a, b in pairwise(values))
