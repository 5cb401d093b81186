"""The base class of every source of rows: a schema, and batches in input order.

Shape letters, here and everywhere: N rows, D input values per row, K latent values per row.
"""

import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.config import Schema
from aecli.data.part import FileRows
from aecli.data.units import Units
from aecli.errors import DataError, EmptyRowError

if TYPE_CHECKING:
    from aecli.data.beside import Beside

Array = np.ndarray[Any, Any]
CHECK_VALUES = 1 << 22
NAMED_BAD_ROWS = 5


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in the source's own units: `x` (N, D), `labels` (N,) if there are any, `kept` columns (N,) by name.

    Columns are NumPy or Arrow arrays. The first row is row number `row` of the file `name`, counted from 0. `blank`
    (N,) marks the rows that could not be read: their x is NaN, and every output cell of theirs is empty. `bad` maps the
    position of each row that cannot be read to its error, until `Source.batches` has handled it. `numbers` (N,) are the
    positions of the rows in the whole source, counted from 0, with skipped rows counted too; None if the source does
    not number its rows itself.
    """

    x: Array
    labels: Any = None
    kept: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    row: int = 0
    blank: Array | None = None
    bad: Mapping[int, DataError] = field(default_factory=dict)
    numbers: Array | None = None

    def __getitem__(self, rows: Any) -> "Batch":
        """Return the rows that a slice, a mask (N,) or positions select."""
        labels = None if self.labels is None else _chosen(self.labels, rows)
        kept = {name: _chosen(column, rows) for name, column in self.kept.items()}
        blank, numbers = (None if each is None else each[rows] for each in (self.blank, self.numbers))
        return Batch(self.x[rows], labels, kept, blank=blank, numbers=numbers)


def joined(batches: Sequence[Batch]) -> Batch:
    """Return several batches as one."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    labels = None if first.labels is None else _concatenated([batch.labels for batch in batches])
    kept = {name: _concatenated([batch.kept[name] for batch in batches]) for name in first.kept}
    blank = None
    if any(batch.blank is not None for batch in batches):
        blank = np.concatenate([np.zeros(len(b.x), bool) if b.blank is None else b.blank for b in batches])
    counted = [batch.numbers for batch in batches if batch.numbers is not None]
    numbers = np.concatenate(counted) if len(counted) == len(batches) else None
    return Batch(np.concatenate([batch.x for batch in batches]), labels, kept, blank=blank, numbers=numbers)


def resized(batches: Iterable[Batch], rows: int) -> Iterator[Batch]:
    """Yield the same rows in batches of exactly `rows`; the last may be shorter. No rows give one empty batch."""
    waiting: list[Batch] = []
    missing = rows
    empty: Batch | None = None
    found = False
    for batch in batches:
        start = 0
        found, empty = found or len(batch.x) > 0, batch
        while len(batch.x) - start >= missing:
            yield joined([*waiting, batch[start : start + missing]])
            start += missing
            waiting, missing = [], rows
        if start < len(batch.x):
            waiting.append(batch[start:])
            missing -= len(batch.x) - start
    if waiting:
        yield joined(waiting)
    elif empty is not None and not found:
        yield empty


class Source(ABC):
    """Rows from somewhere.

    `resizes` is True if the source can bring images to one size. `columns` are all columns of a table, `features` those
    that the model reads. `rows` is the number of rows if it is known before reading; `dropped` counts the rows dropped
    because of holes, `skipped` the files that could not be read, `holes` the cells without a value. The schema's
    categories are complete once all rows are read.
    `filled_with` names what a model puts into holes ("mean"); if it is set, a hole never stops a row, whatever the
    schema says. If it is None, the schema decides. `bad_rows` is what to do with rows that cannot be read: "error",
    "blank" or "skip". `beside` is the label column of another table. `turned` is True if images were stored as (C, H,
    W); they are yielded as (H, W, C). `row_shape` is the shape of a row in an array or an image, None for other rows.
    `types` are the Arrow types of a typed table's features; None for each that is not a list of numbers. `unknown` maps
    the positions of some of the D values to the texts of categories that the model does not know, each with its number:
    -1, -2, ...
    """

    resizes = False
    endless = False  # whether rows with infinite cells are allowed, and get infinite errors
    blanks = True  # whether a row without any value gives an empty output row instead of none
    fills = False  # whether the output has values in place of holes
    in_time_order = False  # whether the rows should be: a remark says so if a table's are not
    further = False  # whether the rows continue the training of a model, whose columns are fixed
    units: Units | None = None  # how to convert pixels to the model's units, if they differ
    laid_on: str | None = None  # the background colour, if there were transparent pixels
    renumbered: Mapping[int, Array] = MappingProxyType({})
    unknown: Mapping[int, Mapping[str, int]] = MappingProxyType({})
    turned = False
    row_shape: tuple[int, ...] | None = None
    doubt: str | None = None  # a warning that the pixels may not be in the model's units
    remarks: Sequence[str] = ()
    paths: Sequence[str] | None = None  # one per row, if the rows are image files
    columns: Sequence[str] = ()
    features: Sequence[str] = ()
    types: Sequence[Any] = ()
    beside: "Beside | None" = None

    def __init__(self, name: str, schema: Schema, rows: int | None = None) -> None:
        self.name = name
        self.schema = schema
        self.rows = rows
        self.rows_read = 0
        self.dropped = 0
        self.skipped = 0
        self.holes = 0
        self.filled_with: str | None = None
        self.bad_rows = "error"
        self._bad: list[DataError] = []  # the first ones
        self._bad_count = 0
        self._empty: list[str] = []  # the first ones
        self._empty_count = 0

    @property
    def left_out(self) -> int:
        """The number of rows left out so far: with holes, without any value, or unreadable."""
        bad, empty = self._bad_count * (self.bad_rows == "skip"), self._empty_count * self._leaves_out_empty
        return self.dropped + self.skipped + bad + empty

    @abstractmethod
    def _batches(self) -> Iterator[Batch]:
        """Yield the rows in input order, in batches of any size, holes as NaN."""

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in input order. Holes are left to the model, or handled as the schema says.

        Raises DataError if the data ends too early, or holds a value that is neither a finite number nor a permitted
        hole.
        """
        found = self._with_numbers()
        for batch in found if self.beside is None else self.beside.joined(found, lambda: self.skipped):
            bad: Mapping[int, DataError] = batch.bad
            if self.filled_with is not None or self.schema.missing is not None:  # a row of only holes is not bad
                bad = {row: error for row, error in bad.items() if not isinstance(error, EmptyRowError)}
            if self.filled_with is None:
                yield from map(self._without_holes, self._judged(batch, bad))
                continue
            whole = batch.x.dtype.kind != "f" or bool(np.isfinite(batch.x).all())
            if not (whole or self.endless):
                bad = {**self._infinite(batch), **bad}
            for fine in self._judged(batch, bad, [] if whole else empty_rows(batch)):
                self.rows_read += len(fine.x)
                if not whole:
                    self.holes += _count_holes(fine)
                yield fine

    def _with_numbers(self) -> Iterator[Batch]:
        """Yield the batches, each with the numbers of its rows."""
        first = 0
        for batch in self._batches():
            own = np.arange(first, first + len(batch.x)) if batch.numbers is None else batch.numbers
            yield dataclasses.replace(batch, numbers=own)
            first += len(batch.x)

    def _without_holes(self, batch: Batch) -> Batch:
        """Return a batch without its empty rows, and without its rows with holes if the schema drops them.

        Raises DataError for a hole if the schema does not permit holes.
        """
        x = batch.x if batch.blank is None else batch.x[~batch.blank]
        allowed = self.schema.missing is not None
        name, schema = batch.name or self.name, self.schema
        where = functools.partial(self._place, batch) if self.paths is not None else None
        holes_there = check_finite(x, name, schema, batch.row, holes=allowed, may_exclude=not self.further, where=where)
        self.rows_read += len(batch.x)
        batch = next(self._judged(batch, {}, empty_rows(batch))) if holes_there else batch
        if self.schema.missing != "drop" or not holes_there:
            return batch
        holes = np.asarray(np.isnan(batch.x).any(axis=1))
        holes = holes if batch.blank is None else holes & ~batch.blank
        self.dropped += int(holes.sum())
        return batch[~holes]

    def _place(self, batch: Batch, row: int) -> str:
        """Return the name of a row of a batch; for an image file, its path and page."""
        if self.paths is None:
            return f"{batch.name or self.name}: row {batch.row + row + 1}"
        page = f": page {batch.kept['page'][row]}" if "page" in batch.kept else ""
        return f"{batch.kept['path'][row]}{page}"

    def _infinite(self, batch: Batch) -> dict[int, DataError]:
        """Return an error for each row that holds infinity, by the row's position."""
        infinite = np.isinf(batch.x)
        found = {}
        for row in np.flatnonzero(infinite.any(axis=1)).tolist():
            column = (
                ": a pixel"
                if self.paths is not None
                else f", column {self.schema.names[int(infinite[row].argmax())]!r}"
            )
            found[row] = DataError(
                f"{self._place(batch, row)}{column} is infinite, or too large, and every value must be a finite number",
                hint="--bad-rows skip leaves such rows out, --bad-rows blank writes empty ones",
            )
        return found

    @property
    def _leaves_out_empty(self) -> bool:
        return not self.blanks or self.filled_with is None or self.bad_rows == "skip"

    def _judged(self, batch: Batch, bad: Mapping[int, DataError], empty: Sequence[int] = ()) -> Iterator[Batch]:
        """Yield a batch after handling its `bad` rows as `bad_rows` says, and its `empty` rows as `blanks` says.

        If a bad row is an error, raises the first one, after the rows before it.
        """
        places, empty = sorted(bad), [row for row in empty if row not in bad]
        if places and self.bad_rows == "error":
            if (first := places[0]) > 0:
                before = dataclasses.replace(batch[:first], name=batch.name, row=batch.row)
                yield from self._judged(before, {}, [row for row in empty if row < first])
            raise bad[first]
        self._bad_count += len(places)
        self._bad += [bad[place] for place in places[: NAMED_BAD_ROWS - len(self._bad)]]
        self._empty_count += len(empty)
        self._empty += [self._place(batch, row) for row in empty[: NAMED_BAD_ROWS - len(self._empty)]]
        skipped = [*places * (self.bad_rows == "skip"), *empty * self._leaves_out_empty]
        if blank := {*places, *empty}.difference(skipped):
            mask, x = np.zeros(len(batch.x), bool), np.array(batch.x, np.float64)
            mask[[*blank]], x[[*blank]] = True, np.nan
            batch = dataclasses.replace(batch, x=x, blank=mask if batch.blank is None else mask | batch.blank)
        if skipped:
            kept = np.ones(len(batch.x), bool)
            kept[skipped] = False
            batch = dataclasses.replace(batch[kept], name=batch.name, row=batch.row)
        yield dataclasses.replace(batch, bad={}) if batch.bad else batch

    def read(self) -> Batch:
        """Return all rows as one batch."""
        return joined(list(self.batches()))

    def learning(self) -> list[str]:
        """Return sentences on what training is about to learn, if there is something to say."""
        return []

    def notes(self) -> list[str]:
        """Return sentences on what a user may not expect: what was left out, what was filled."""
        counts = ((self.dropped, "row", "with holes"), (self.skipped, "image", "that cannot be read"))
        filled = [f"filled {self.holes:,} empty cell{'s' * (self.holes != 1)}"] if self.fills else []
        notes = filled + [
            f"left out {count:,} {what}{'s' * (count != 1)} {why}" for count, what, why in counts if count
        ]
        notes += [] if self.beside is None else self.beside.notes()
        notes += [] if self.doubt is None else [self.doubt]
        if self._bad_count:
            what = "left out" if self.bad_rows == "skip" else "left blank"
            bad = [error.message for error in self._bad]
            notes.append(f"{what} {_first_of(self._bad_count, 'that cannot be read', bad)}")
        if self._empty_count:
            what = "left out" if self._leaves_out_empty else "left blank"
            notes.append(f"{what} {_first_of(self._empty_count, 'without any value', self._empty)}")
        if self.fills:
            return notes
        if self.holes == 1:
            notes.append(f"1 empty cell was replaced by its column's {self.filled_with}")
        elif self.holes:
            notes.append(f"{self.holes:,} empty cells were replaced by their columns' {self.filled_with}s")
        return notes

    def share_read(self) -> float | None:
        """Return the fraction of the data read so far, 0 to 1; None if its size is unknown."""
        return self.rows_read / self.rows if self.rows else None


class ArraySource(Source):
    """Rows of one array (N, ...), in memory or in a file, with or without labels (N,)."""

    batch_size = 4096
    said: Sequence[str] = ()

    def learning(self) -> list[str]:
        return list(self.said)

    def __init__(self, name: str, array: Array | FileRows, labels: Any = None, **schema: Any) -> None:
        width = math.prod(array.shape[1:])
        if not width:
            raise DataError(f"{name}: no rows to read, the array's shape is {array.shape}")
        self.x = array.reshape(len(array), width)  # (N, D)
        self.labels = labels
        super().__init__(name, Schema(self.x.shape[1], **schema), len(array))

    def _batches(self) -> Iterator[Batch]:
        for start in range(0, max(1, len(self.x)), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield Batch(self.x[rows], None if self.labels is None else self.labels[rows], row=start)

    def check(self) -> bool:
        """Return whether each row has a value.

        Raises DataError for a value that is neither a finite number nor a permitted hole.
        """
        step, holes, full = max(1, CHECK_VALUES // self.x.shape[1]), self.schema.missing is not None, True
        for start in range(0, len(self.x), step):
            x = self.x[start : start + step]
            full &= not check_finite(x, self.name, self.schema, start, holes=holes) or not empty_rows(Batch(x))
        return full


class Chain(Source):
    """Several sources with the same schema, read one after the other; each is opened when its turn comes."""

    def __init__(self, first: Source, others: Iterable[Source], rows: int | None = None) -> None:
        self._first, self._all = first, chain([first], others)
        super().__init__(f"{first.name} and others", first.schema, rows)
        self.turned, self.row_shape = first.turned, first.row_shape
        self._ranges: dict[str, tuple[float, float]] = {}  # the ranges of float pixels, by source name

    def learning(self) -> list[str]:
        return self._first.learning()

    def _batches(self) -> Iterator[Batch]:
        for source in self._all:
            for batch in source._batches():  # noqa: SLF001, the chain handles holes and bad rows, once
                if self.schema.image_shape is not None and batch.x.dtype.kind == "f" and batch.x.size:
                    low, high = self._ranges.get(source.name, (np.inf, -np.inf))
                    low = float(np.fmin.reduce(batch.x, axis=None, initial=low))
                    self._ranges[source.name] = low, float(np.fmax.reduce(batch.x, axis=None, initial=high))
                yield dataclasses.replace(batch, name=source.name)

    def notes(self) -> list[str]:
        """Return sentences on what a user may not expect, also on pixels in different units."""
        notes = super().notes()
        if self._ranges:
            narrow, (low, high) = min(self._ranges.items(), key=lambda each: each[1][1] - each[1][0])
            margin = (high - low) / 2
            for name, (least, most) in self._ranges.items():
                if least < low - margin or most > high + margin:
                    notes.append(
                        f"{name}: pixels from {least:g} to {most:g}, and those of {narrow} from {low:g} to {high:g}: "
                        "are black and white the same in them?"
                    )
                    break
        return notes


def check_finite(
    x: Array,
    name: str,
    schema: Schema,
    first_row: int,
    *,
    holes: bool,
    may_exclude: bool = True,
    where: Callable[[int], str] | None = None,
) -> bool:
    """Return whether `x` (N, D) holds NaN, if `holes` are permitted.

    Raises DataError for the first value that is infinite or a forbidden hole, and names its row and column. `first_row`
    is the number of rows of the source before these; the message counts rows from 1. `may_exclude` is True if a model
    can be trained without the column. `where` returns the name of a row's image, if the rows are image files.
    """
    if not np.issubdtype(x.dtype, np.floating):
        return False
    finite = np.isfinite(x)
    if finite.all():
        return False
    if holes:
        finite = ~np.isinf(x)
        if finite.all():
            return True
    row, column = np.unravel_index(int(finite.argmin()), finite.shape)
    what = "is empty or NaN" if np.isnan(x[row, column]) else "is infinite, or too large"
    fill, drop = "--missing mean to fill holes with their column's mean", "--missing drop to leave such rows out"
    ways = f"{fill}, or {drop}"
    if may_exclude and (named := schema.column_of(int(column))) is not None:
        ways = f"{fill}, {drop}, or --exclude {named!r} to leave the column out"
    cell = f"{name}: row {first_row + row + 1}, column {schema.names[column]!r}"
    raise DataError(
        f"{cell if where is None else f'{where(int(row))}: a pixel'} {what}, and every value must be a finite number",
        hint=f"train with {ways}" if what.endswith("NaN") else "correct or drop such rows first",
    )


def _first_of(count: int, kind: str, named: Sequence[str]) -> str:
    """Return how many rows are of a kind, and the names of the first ones."""
    more = f"; and {count - len(named):,} more" if count > len(named) else ""
    return f"{count:,} row{'s' * (count != 1)} {kind}: {'; '.join(named)}{more}"


def empty_rows(batch: Batch) -> list[int]:
    """Return the positions of the readable rows that have no value at all."""
    empty: Array = np.isnan(batch.x[:, 0])
    if empty.any():
        empty &= np.isnan(batch.x).all(axis=1)
    found: list[int] = np.flatnonzero(empty if batch.blank is None else empty & ~batch.blank).tolist()
    return found


def _count_holes(batch: Batch) -> int:
    """Return the number of cells without a value in readable rows."""
    by_row = np.isnan(batch.x).sum(axis=1)
    return int(by_row.sum() if batch.blank is None else by_row[~batch.blank].sum())


def _chosen(column: Any, rows: Any) -> Any:
    if isinstance(rows, slice) or isinstance(column, np.ndarray):
        return column[rows]
    import pyarrow as pa

    return column.filter(pa.array(rows)) if rows.dtype == bool else column.take(pa.array(rows))


def _concatenated(columns: Sequence[Any]) -> Any:
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    import pyarrow as pa

    kinds = list(dict.fromkeys(column.type for column in columns))
    schemas = [pa.schema([("", kind)]) for kind in kinds]
    for promotion in (lambda: pa.unify_schemas(schemas, promote_options="permissive").field(0).type, pa.string):
        try:
            kind = kinds[0] if len(kinds) == 1 else promotion()
            return pa.chunked_array([c if c.type == kind else c.cast(kind) for c in columns], kind).combine_chunks()
        except pa.ArrowException:  # no type holds both, or not all of their values
            continue
    raise DataError(f"a kept column is {kinds[0]} at first, and {kinds[1]} later")
