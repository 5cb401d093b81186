"""Codes: the latent rows that `aecli embed` writes. Tables have columns z0, z1, ... or one of lists; arrays are (N, K).

Sparse codes are two columns of lists: the positions of each row's active values, and the values.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.config import Column, ModelConfig, Schema
from aecli.data.opening import open_source, split_name
from aecli.data.source import Array, Batch, Source, empty_rows
from aecli.errors import DataError, EmptyRowError, WidthError
from aecli.options import Applying, Decoding, Reading, Writing

if TYPE_CHECKING:
    from aecli.data.table import Table

INDEX, VALUE = SPARSE = "index", "value"  # the columns of sparse codes
VECTOR = "z"  # the column of codes, unless something else names it
PIECE = 1024  # codes on the way between two rows, computed at once
BAD = "--bad-rows skip leaves such rows out, --bad-rows blank writes empty ones"


class Codes(Source):
    """The latent rows (N, K) of a source. A row with a value that is not finite in single precision is a bad row.

    A row without any value gives an empty row, as embed writes it. In rows with fewer than the K `values` of a code,
    the missing ones are 0.
    """

    def __init__(self, source: Source, values: int, bad_rows: str) -> None:
        super().__init__(source.name, source.schema, source.rows)
        self._source, self._values = source, values
        features = source.schema.features or ()
        self._is_sparse = tuple(name.rpartition(".")[2] for name in features) == SPARSE
        self.columns, self.features, self.bad_rows = source.columns, source.features, bad_rows

    def _batches(self) -> Iterator[Batch]:
        for batch in self._source._batches():  # noqa: SLF001, bad rows are handled once, here
            with np.errstate(over="ignore"):
                z = batch.x.astype(np.float32)
            bad, empty = self._not_finite(batch, z), np.isnan(z).all(axis=1)
            if self._is_sparse:
                z, wrong = self._dense(batch)
                bad |= wrong
            elif (missing := self._values - z.shape[1]) > 0:
                z = np.pad(z, ((0, 0), (0, missing)))
            z[empty] = np.nan
            bad |= {row: error for row, error in batch.bad.items() if not isinstance(error, EmptyRowError)}
            yield dataclasses.replace(batch, x=z, bad=bad)

    def _judged(self, batch: Batch, bad: Mapping[int, DataError], empty: Sequence[int] = ()) -> Iterator[Batch]:
        return super()._judged(batch, bad, empty or empty_rows(batch))

    @property
    def _leaves_out_empty(self) -> bool:
        return not self.blanks or self.bad_rows == "skip"

    def _dense(self, batch: Batch) -> tuple[Array, dict[int, DataError]]:
        """Return codes (N, K) from positions and values (N, 2 M), and the rows with an invalid or repeated position."""
        index, value = np.split(batch.x, 2, axis=1)  # (N, M)
        fits = (index == np.floor(index)) & (index >= 0) & (index < self._values)
        places = np.where(fits, index, 0).astype(np.int64)
        again = np.zeros(len(index), bool)
        if index.shape[1] > 1:
            again = (np.diff(np.sort(index, axis=1), axis=1) == 0).any(axis=1)
        found = {}
        for row in np.flatnonzero((~fits & ~np.isnan(index)).any(axis=1) | again).tolist():
            cells = index[row]
            wrong = cells[int(fits[row].argmin())] if not fits[row].all() else None
            what = "the same position twice" if wrong is None else f"{wrong:g}"
            found[row] = DataError(
                f"{self._where(batch, row, INDEX)} holds {what}, and a code has distinct positions from 0 to "
                f"{self._values - 1}",
                hint=BAD,
            )
        z = np.zeros((len(index), self._values), np.float32)
        with np.errstate(over="ignore"):
            np.put_along_axis(z, places, np.where(fits, value, 0).astype(np.float32), axis=1)
        return z, found

    def _where(self, batch: Batch, row: int, column: str) -> str:
        return f"{batch.name or self.name}: row {batch.row + row + 1}, column {column!r}"

    def _not_finite(self, batch: Batch, z: Array) -> dict[int, DataError]:
        """Return an error for each row that lacks a value or has one that is too large, by the row's position."""
        finite = np.isfinite(z)
        if finite.all():
            return {}
        found = {}
        for row in np.flatnonzero(~finite.all(axis=1) & ~np.isnan(z).all(axis=1)).tolist():
            place = int(finite[row].argmin())
            what = "is empty or NaN" if np.isnan(z[row, place]) else "is infinite, or too large"
            column = self.schema.column_of(place) or f"z{place}"
            values = z.shape[1] // (1 + self._is_sparse)
            found[row] = DataError(
                f"{self._where(batch, row, column)} {what}, and a code has all of its {values} values", hint=BAD
            )
        return found

    def between(self, first: int, last: int, steps: int) -> Iterator[Batch]:
        """Return the straight line between two rows, counted from 1, as `steps` codes; the two rows are its ends.

        Rows after them are not read. If `bad_rows` is "blank", a bad row is an error only if it is one of the two.
        Raises DataError if there are no such rows.
        """
        ends: dict[int, Array] = {}
        count = 0
        for batch in self.batches():
            for row in {first, last} - ends.keys():
                place = row - count - 1
                if 0 <= place < len(batch.x):
                    if batch.blank is not None and batch.blank[place]:
                        raise DataError(f"{self.name}: row {row} is not a code: it cannot be read, or lacks a value")
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


def open_codes(
    data: Any,
    values: int,
    asked: Decoding,
    announce: Callable[[str], None] = lambda _: None,
    *,
    shorter: tuple[int, ...] = (),
) -> Codes:
    """Open codes of a number of latent values: files, "-" for standard input, a data frame or an array.

    Columns z0, z1, ... are matched by name, if there are names. Codes may also be one column of lists, or two columns
    of lists, index and value. Codes with only the first values are allowed, if `shorter` contains their number.
    Raises DataError if there is no such data, or its codes have another width.
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
        bad_rows=asked.bad_rows,
        keep=asked.keep,
        keep_all=asked.keep_all,
        line_buffered=asked.line_buffered,
        shorter=shorter,
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
    return Codes(source, values, asked.bad_rows)


def in_lists(table: "Table", schema: Schema, shorter: tuple[int, ...]) -> Schema:
    """Return the schema of codes in a table: with columns of lists, if it has some and no z0.

    They are lists of positions and of values, or one column of lists, which may have fewer values, as `shorter` says.
    If several columns of lists have the width of codes, the one named z is used.
    """
    from aecli.data import kinds

    if not table.named or schema.column_names[0] in table.columns:
        return schema
    has_rows = True
    try:
        peeked = table.peek()
        has_rows = len(peeked) > 0
        found = {name: kinds.guessed(name, peeked[name]).column for name in table.columns}
    except DataError:  # a row cannot be read; the error is raised when the row's turn comes
        vectors = [name for name, kind in table.types().items() if kinds.kind_of(kind) == "vector"]
        if any(name.rpartition(".")[2] == INDEX for name in vectors):  # the length of its lists is unknown
            raise
        found = {name: Column(name, "vector", width=schema.inputs) for name in vectors}
    for name in found:
        pair = name, f"{name.removesuffix(INDEX)}{VALUE}"  # also the fields of a struct: code.index, code.value
        if name.rpartition(".")[2] == INDEX and pair[1] in found and (found[name].kind == "vector" or not has_rows):
            width = max(found[each].width for each in pair)
            return Schema(2 * width, tuple(Column(each, "vector", width=width) for each in pair))
    lists = [each for each in found.values() if each.kind == "vector"]
    codes = [each for each in lists if each.width in (schema.inputs, *shorter)]
    if not codes and len(lists) == 1:
        takes = " or ".join(f"{width:,}" for width in (schema.inputs, *shorter))
        held = f"column {lists[0].name!r} holds lists of {lists[0].width:,}"
        raise WidthError(f"{table.name}: {held}, and a code of this model has {takes} values")
    if len(codes) > 1:
        codes = [column for column in codes if column.name == VECTOR]
    return Schema(codes[0].width, (codes[0],)) if codes else schema


def code_names(model: ModelConfig, as_vector: str | None) -> list[str]:
    """Return the names of the columns that the codes of a model are written in; one where it has a name."""
    if as_vector:
        return [as_vector]
    return [f"z{i}" for i in range(model.latent_dim)] if model.active is None else list(SPARSE)


def code_columns(z: Array, active: int | None, as_vector: str | None) -> dict[str, Any]:
    """Return codes (N, K) as columns, or as one where it has a name.

    Sparse ones, of so many `active` values, are two columns of lists, or one of structs of two lists.
    """
    if active is None:
        return {as_vector: z} if as_vector else {f"z{i}": values for i, values in enumerate(z.T)}
    lists = as_lists(z, active)
    if not as_vector:
        return lists
    import pyarrow as pa

    return {as_vector: pa.StructArray.from_arrays(list(lists.values()), list(lists))}


def as_lists(z: Array, active: int) -> dict[str, Any]:
    """Return sparse codes (N, K) as columns of lists: the sorted positions of `active` values per row, and the values.

    They are the values that are not 0; if a row has fewer of these, the first zeros are added.
    """
    import pyarrow as pa

    from aecli.data.sinks import to_table

    order = np.argsort(z == 0, axis=1, kind="stable")[:, :active]  # (N, M)
    index = np.sort(order, axis=1)
    value = np.take_along_axis(z, index, axis=1)
    flat = to_table({INDEX: index.astype(np.int32).ravel(), VALUE: value.ravel()})
    return {name: pa.FixedSizeListArray.from_arrays(flat[name].combine_chunks(), active) for name in SPARSE}


def _between(first: Array, last: Array, steps: int) -> Iterator[Batch]:
    for start in range(0, steps, PIECE):
        share = np.arange(start, min(start + PIECE, steps))[:, None] / (steps - 1)  # (N, 1)
        yield Batch(((1 - share) * first + share * last).astype(np.float32), row=start)
