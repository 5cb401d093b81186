"""What training learns from a table: which columns, as which kinds, and which columns it leaves out.

The rules look at the first rows of the table, up to some megabytes. Unless `--features` names them, they leave out:
- an integer column with a constant step in 99% of the rows, or one that rises and is named id, index, row, no, key or
  not at all;
- a date or a time that never falls, or never rises: the rows are sorted by it;
- what a format marks as no feature: the row index that pandas stored, the partition of a folder.
If fewer than two features would remain, nothing is left out. Every other sorted column is learnt, with a note.
"""

import dataclasses
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aecli.config import Column, Dialect
from aecli.data import compute as pc
from aecli.data import kinds
from aecli.data.stream import changed
from aecli.errors import DataError, Piped

Array = np.ndarray[Any, Any]
MIN_ROWS = 10  # in fewer rows, a counter may be a coincidence
ONE_STEP = 0.99
COUNTERS = ("id", "index", "row", "no", "key")
NAMELESS = re.compile(r"|unnamed: \d+|__index_level_\d+__")  # the names that pandas and R give to columns without one
LIST = re.compile(r"\s*(-?\d+(\.\d+)?\s+){8,}-?\d+(\.\d+)?\s*")
SORTED = "the rows are sorted by it"
NAMED_ALONE = 3  # columns with holes that an error names one by one; more are listed
SPIKE = 1e4  # in interquartile ranges from the median


@dataclass
class Settled:
    """The columns to learn, the columns left out with their reasons, and notes for the user."""

    columns: list[Column] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def settled(
    name: str,
    peeked: pa.Table,
    candidates: Sequence[str],
    *,
    chosen: Sequence[str] = (),
    categorical: Sequence[str] = (),
    may_have_holes: bool = False,
    dialect: Dialect = kinds.PLAIN,
    na: Sequence[str] = (),
    written: Callable[[str, int], str | None] = lambda _column, _row: None,
    nameless: Collection[str] = (),
    is_text: bool = False,
    may_be_label: bool = False,
) -> Settled:
    """Decide what each of the candidates is, by the first rows of the table called `name`.

    The `chosen` ones are always learnt. Text is written in the `dialect`; `na` are spellings of holes. `written`
    returns a cell as it is written, by its column and its row, counted from 0. `nameless` are the columns without a
    name in the data. `is_text` is True if sed can edit the table, `may_be_label` if a column of text is probably the
    label.
    Raises one DataError for all columns that need an option.
    """
    found = Settled()
    guesses = {
        column: _category(column, peeked[column])
        if column in categorical
        else kinds.guessed(column, peeked[column], dialect, na)
        for column in candidates
    }
    reasons = {
        column: reason
        for column, guess in guesses.items()
        if column not in chosen
        and not guess.problem
        and (reason := reason_to_leave_out(guess.column, peeked[column], has_name=column not in nameless))
    }
    if len(candidates) - len(reasons) >= 2:
        found.left_out = reasons
    learnt = {column: guess for column, guess in guesses.items() if column not in found.left_out}
    holes = (
        {} if may_have_holes else {column: _holes(guess.column, peeked[column], na) for column, guess in learnt.items()}
    )
    if is_text:
        _check_lists(name, peeked, learnt)
    if may_be_label:
        texts = [column for column, guess in learnt.items() if guess.options[:1] == ("--categorical",)]
        if len(texts) == 1:
            learnt[texts[0]] = dataclasses.replace(learnt[texts[0]], options=("--label", texts[0]))
    _check(name, peeked, learnt, holes, written, is_text=is_text)
    found.columns = [guess.column for guess in learnt.values()]
    ordered = [c for c, g in learnt.items() if c not in chosen and _is_sorted(g.column, peeked[c])]
    if ordered and len(ordered) < len(learnt):
        listed = ", ".join(map(repr, ordered))
        found.notes.append(
            f"column{'s' * (len(ordered) > 1)} {listed} only rise{'s' * (len(ordered) == 1)} or fall"
            f"{'s' * (len(ordered) == 1)}, and {'is' if len(ordered) == 1 else 'are'} learnt: "
            f"--exclude {ordered[0]!r} leaves it out"
        )
    return found


def _category(name: str, values: Any) -> kinds.Guess:
    """Return a column as a category; with a problem if its cells are lists or objects."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    what = f"is of type {values.type}, and a category is one text or number" if pa.types.is_nested(kind) else ""
    return kinds.Guess(Column(name, "category"), what, ("--exclude", name) if what else ())


def reason_to_leave_out(column: Column, values: Any, *, has_name: bool = True) -> str | None:
    """Return why a column is not a feature; None if it may be one."""
    name = (column.name or "").strip().casefold()
    if column.kind in ("date", "timestamp"):
        return SORTED if _is_sorted(column, values) else None
    if column.kind != "number" or not pa.types.is_integer(values.type) or len(values) < MIN_ROWS or values.null_count:
        return None
    steps = np.diff(np.asarray(values.to_numpy()).astype(np.float64))
    different, counts = np.unique(steps, return_counts=True)
    step = different[counts.argmax()]
    nameless = not has_name or NAMELESS.fullmatch(name) is not None
    if step != 0 and counts.max() >= ONE_STEP * len(steps):
        return "row index" if nameless else "counts up" if step > 0 else "counts down"
    if (steps > 0).all() and (nameless or name in COUNTERS):
        return "row index" if nameless else "rises, and has the name of an index"
    return None


def _is_sorted(column: Column, values: Any) -> bool:
    """Return whether a column of numbers or times never falls, or never rises, and is not constant."""
    if column.kind not in ("number", "date", "timestamp") or len(values) < MIN_ROWS or values.null_count:
        return False
    steps = np.diff(kinds.to_numbers(values, column)[0][:, 0])
    return bool(((steps >= 0).all() or (steps <= 0).all()) and steps.any())


class Clock:
    """A column of times that the first rows are sorted by, and whether no row of all is earlier than one before it."""

    def __init__(self, name: str) -> None:
        self.name, self.rises, self._last = name, True, -np.inf

    def see(self, values: Any, dialect: Dialect, na: Sequence[str]) -> None:
        """Look at the next cells (N,). Those that are not times do not count."""
        times = kinds.to_numbers(values, Column(self.name, "timestamp"), dialect, na)[0][:, 0]
        times = np.append(self._last, times[~np.isnan(times)])
        self.rises, self._last = self.rises and bool((times[1:] >= times[:-1]).all()), times[-1]


def _holes(column: Column, values: Any, na: Sequence[str]) -> Array:
    """Return the rows without a value, counted from 0."""
    values = kinds.texts(values, na) if column.kind == "category" and not pa.types.is_nested(values.type) else values
    found: Array = np.flatnonzero(np.asarray(values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)))
    return found


def _check(
    name: str,
    peeked: pa.Table,
    learnt: dict[str, kinds.Guess],
    holes: dict[str, Array],
    written: Callable[[str, int], str | None],
    *,
    is_text: bool,
) -> None:
    """Raise one DataError for all columns that need an option, with the options."""
    problems: list[str] = []
    options: list[str] = []
    with_holes: dict[str, tuple[int, str, str]] = {}  # how many, where, and what is said of them
    seds: dict[str, None] = {}
    for column, guess in learnt.items():
        if guess.problem:
            shown = ""
            if guess.cell is not None:
                shown = f"holds {kinds.shortened(guess.cell)} in row {_row_of(guess.cell, peeked[column])}, "
            problems.append(f"column {column!r} {shown}{guess.problem}")
            options += guess.options if is_text or not guess.sed else ("--exclude", column)
            seds |= dict.fromkeys([guess.sed] if guess.sed and is_text else [])
        elif len(rows := holes.get(column, np.zeros(0, int))) == len(peeked) > 0:
            problems.append(f"column {column!r} is empty: --exclude leaves it out")
            options += ["--exclude", column]
        elif len(rows):
            count = "1 cell" if len(rows) == 1 else f"{len(rows):,} cells"
            spelling = written(column, int(rows[0]))
            shown = f", {spelling.strip()!r}" if spelling and spelling.strip() else ""
            first = f"in row {rows[0] + 1}{shown}" if len(rows) == 1 else f"the first in row {rows[0] + 1}{shown}"
            said = f"column {column!r} has {count} without a value, {first}: --missing says what to do with it"
            with_holes[column] = len(rows), f"column {column!r}, row {rows[0] + 1}{shown}", said
    missing = ["--missing", "mean"] if with_holes else []
    columns = len(problems) + len(with_holes)
    if len(with_holes) > NAMED_ALONE:
        from aecli.data.table import listed

        cells = sum(count for count, *_ in with_holes.values())
        where = next(iter(with_holes.values()))[1]
        problems.append(
            f"{len(with_holes):,} columns have {cells:,} cells without a value: {listed(list(with_holes))}; "
            f"the first is in {where}: --missing says what to do with them"
        )
    else:
        problems += [said for *_, said in with_holes.values()]
    if not problems:
        return
    several = f"{columns:,} columns cannot be learnt as they are: " if len(problems) > 1 else ""
    message = f"{name}: {several}{'; '.join(problems)}"
    if seds:
        first, *others = seds
        writes = " | ".join([changed(first, name), *others])
        raise DataError(message, options=_once(options + missing), piped=Piped(writes, name))
    raise DataError(message, options=_once(options + missing))


def _check_lists(name: str, peeked: pa.Table, learnt: dict[str, kinds.Guess]) -> None:
    """Raise DataError for a column whose cells hold many numbers each, with a command that makes an array."""
    for column, guess in learnt.items():
        if guess.cell is None or not LIST.fullmatch(guess.cell):
            continue
        cells = [cell for cell in peeked[column].to_pylist() if cell is not None and LIST.fullmatch(str(cell))]
        numbers = [float(number) for cell in cells for number in str(cell).split()]
        whole = all(number.is_integer() and 0 <= number <= 255 for number in numbers)
        code = (
            f"import numpy, pandas; t = pandas.read_csv({name!r})[{column!r}]; "
            f"numpy.save({f'{Path(name).stem}.npy'!r}, numpy.stack([numpy.array(c.split(), "
            f"{'numpy.uint8' if whole else 'float'}) for c in t]))"
        )
        raise DataError(
            f"{name}: column {column!r} holds {len(guess.cell.split()):,} numbers in one cell, and one was expected",
            hint=f"convert it to an array: {shlex.join(['python', '-c', code])}",
        )


def _row_of(cell: str | None, values: Any) -> int:
    """Return the number of the first row that holds a cell, counted from 1."""
    found = pc.index(kinds.texts(values), pa.scalar(cell, pa.string())).as_py()
    return max(0, int(found)) + 1


def _once(options: Sequence[str]) -> tuple[str, ...]:
    """Return the options without repeated pairs of flag and value."""
    pairs = dict.fromkeys(zip(options[::2], options[1::2], strict=True))
    return tuple(word for pair in pairs for word in pair)


def grouped(counts: Array, most: int) -> tuple[Array, Array]:
    """Return the numbers of the categories to keep, and each category's new number; rare ones share the last.

    `counts` are the numbers of rows per category; at most `most` categories are kept.
    """
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    numbers = np.full(len(counts), len(kept), np.float64)
    numbers[kept] = np.arange(len(kept))
    return kept, numbers


def spikes(names: Sequence[str], x: Array) -> list[str]:
    """Return notes on values of rows (N, D) that are far larger or smaller than the rest of their columns."""
    said: list[str] = []
    x = x.astype(np.float64, copy=False)
    told = np.asarray(~np.isnan(x).all(axis=0))
    names, x = [name for name, is_told in zip(names, told, strict=True) if is_told], x[:, told]
    low, middle, high = (
        np.nanquantile(x, (0.25, 0.5, 0.75), axis=0) if len(x) >= MIN_ROWS else np.zeros((3, x.shape[1]))
    )
    away = np.abs(x - middle)
    for i in np.flatnonzero(
        np.nanmax(away, axis=0, initial=0) > SPIKE * np.where(high > low, high - low, np.inf)
    ).tolist():
        value, times = x[np.nanargmax(away[:, i]), i], np.nanmax(away[:, i]) / (high[i] - low[i])
        said.append(
            f"column {names[i]!r} holds {value:g}, {times:,.0f} times the spread of the other values away from them: "
            "--scale robust or quantile keeps it from squeezing the others together"
        )
    return said
