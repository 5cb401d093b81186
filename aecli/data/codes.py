"""Codes, the latent rows that `aecli embed` writes: tables with columns z0, z1, ... or one of lists; arrays (N, K)."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.config import Column, Schema
from aecli.data.opening import open_source, split_name
from aecli.data.source import Array, Batch, Source
from aecli.errors import DataError, WidthError
from aecli.options import Applying, Decoding, Reading, Writing

if TYPE_CHECKING:
    from aecli.data.table import Table

VECTOR = "z"  # the column of codes, where nothing else names it
PIECE = 1024  # steps between two codes, at a time
BAD = "--bad-rows skip leaves such rows out, --bad-rows blank writes empty ones"


class Codes(Source):
    """The latent rows (N, K) of a source. A row whose values are not all finite in single precision is a bad row."""

    def __init__(self, source: Source, bad_rows: str) -> None:
        super().__init__(source.name, source.schema, source.rows)
        self._source = source
        self.columns, self.features, self.bad_rows = source.columns, source.features, bad_rows

    def _batches(self) -> Iterator[Batch]:
        for batch in self._source._batches():  # noqa: SLF001, bad rows are treated once, here
            with np.errstate(over="ignore"):
                z = batch.x.astype(np.float32)
            yield dataclasses.replace(batch, x=z, bad={**self._not_finite(batch, z), **batch.bad})

    def _not_finite(self, batch: Batch, z: Array) -> dict[int, DataError]:
        """Return the rows that lack a value, or have one that is too large, by their places."""
        finite = np.isfinite(z)
        if finite.all():
            return {}
        found = {}
        for row in np.flatnonzero(~finite.all(axis=1)).tolist():
            place = int(finite[row].argmin())
            what = "is empty or NaN" if np.isnan(z[row, place]) else "is infinite, or too large"
            column = self.schema.column_of(place) or f"z{place}"
            where = f"{batch.name or self.name}: row {batch.row + row + 1}, column {column!r}"
            found[row] = DataError(f"{where} {what}, and a code has all of its {z.shape[1]} values", hint=BAD)
        return found

    def between(self, first: int, last: int, steps: int) -> Iterator[Batch]:
        """Return the straight way between two rows, which count from 1: so many codes, the rows' own at both ends.

        What lies behind them is not read. Where `bad_rows` is "blank", a bad row is an error if it is one of the two.
        Raises DataError where there are no such rows.
        """
        ends: dict[int, Array] = {}
        count = 0
        for batch in self.batches():
            for row in {first, last} - ends.keys():
                place = row - count - 1
                if 0 <= place < len(batch.x):
                    if batch.blank is not None and batch.blank[place]:
                        raise DataError(f"{self.name}: row {row} is no code: it cannot be read, or lacks a value")
                    ends[row] = batch.x[place].astype(np.float64)
            count += len(batch.x)
            if len(ends) == len({first, last}):
                return _between(ends[first], ends[last], steps)
        beyond = max({first, last} - ends.keys())
        raise DataError(
            f"{self.name} has {count:,} row{'s' * (count != 1)}, and there is no row {beyond}",
            hint=f"rows count from 1 to {count:,}" if count else None,
        )

    def share_read(self) -> float | None:
        return self._source.share_read() or super().share_read()


def open_codes(data: Any, values: int, asked: Decoding, announce: Callable[[str], None] = lambda _: None) -> Codes:
    """Open codes of so many latent values: files, "-" for standard input, a data frame or an array.

    Columns z0, z1, ... are matched by name, where there are names. Codes may also be one column of lists.
    Raises DataError where there is no such data, or its codes are of another width.
    """
    names = [f"z{i}" for i in range(values)]
    written = (
        f"codes are what aecli embed writes: {names[0]}{f' to {names[-1]}' if values > 1 else ''}; "
        "aecli reconstruct takes the rows themselves"
    )
    for word in data if isinstance(data, list) else [data]:
        if isinstance(word, str) and split_name(word, "test") is not None:
            raise DataError(f"{word}: a data set, and codes were expected", hint=written)
    reading = Reading(**{field.name: getattr(asked, field.name) for field in dataclasses.fields(Writing)})
    applying = Applying(
        bad_rows=asked.bad_rows, keep=asked.keep, keep_all=asked.keep_all, line_buffered=asked.line_buffered
    )
    schema = Schema(values, tuple(Column(name) for name in names))
    try:
        source = open_source(data, schema=schema, reading=reading, applying=applying, announce=announce, codes=True)
    except WidthError as error:
        from aecli.data.table import NAMELESS

        nameless = error.hint == NAMELESS
        alone = "aecli embed --no-header --no-label writes codes alone"
        raise DataError(error.message, hint=alone if nameless else written) from error
    if source.schema.image_shape is not None:
        raise DataError(f"{source.name}: an array of images, and codes (N, {values}) were expected", hint=written)
    if (more := f"z{values}") in source.columns:
        raise DataError(f"{source.name}: a column {more!r}, and the model has {values} latent values", hint=written)
    return Codes(source, asked.bad_rows)


def in_one_column(table: "Table", schema: Schema) -> Schema:
    """Return the schema of codes as a table has them: in one column of lists, where it has one and no z0.

    Of several columns of lists as wide as codes, the one named z is it.
    """
    from aecli.data import kinds

    if not table.named or schema.column_names[0] in table.columns:
        return schema
    try:
        peeked = table.peek()
        found = [kinds.guessed(name, peeked[name]).column for name in table.columns]
    except DataError:  # of a row that cannot be read, which is told at its turn
        vectors = [name for name, kind in table.types().items() if kinds.kind_of(kind) == "vector"]
        found = [Column(name, "vector", width=schema.inputs) for name in vectors]
    codes = [column for column in found if column.kind == "vector" and column.width == schema.inputs]
    if len(codes) > 1:
        codes = [column for column in codes if column.name == VECTOR]
    return Schema(schema.inputs, (codes[0],)) if codes else schema


def _between(first: Array, last: Array, steps: int) -> Iterator[Batch]:
    for start in range(0, steps, PIECE):
        share = np.arange(start, min(start + PIECE, steps))[:, None] / (steps - 1)  # (N, 1)
        yield Batch(((1 - share) * first + share * last).astype(np.float32), row=start)
