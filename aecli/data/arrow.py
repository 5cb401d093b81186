"""Typed tables: Parquet, and Arrow, which is also called Feather version 2."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aecli.data import compute as pc
from aecli.data.fetched import Fetched
from aecli.data.kinds import kind_of
from aecli.data.stream import Stream
from aecli.data.table import Piece, Table, as_kind
from aecli.errors import DataError

MAX_BATCH_ROWS = 1 << 16
BATCH_VALUES = 1 << 20
COMPUTED_ROWS = 1024  # rows computed at once: pieces that are a multiple of it need no copy
BUFFER_BYTES, MAX_BUFFERED_BYTES = 1 << 20, 1 << 26  # read ahead per column, and in all, from a Parquet file
FILE_MAGIC = b"ARROW1\0\0"


class ParquetTable(Table):
    """A Parquet file. Input without random access, such as a pipe, is first copied to a temporary file."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._name = stream, stream.name
        file = stream.anywhere()
        try:
            self._file = pq.ParquetFile(file, pre_buffer=isinstance(file, Fetched))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{stream.name}: not a Parquet file, or a damaged one ({_first_line(error)})") from error
        schema, rows = self._file.schema_arrow, self._file.metadata.num_rows
        self._schema = flattened(_without_rows(schema)).schema
        super().__init__(stream.name, self._schema.names, rows=rows if schema.names else 0)
        is_here, count = not isinstance(file, Fetched), self._file.metadata.num_columns
        if is_here and self._values(None) > count:  # a vector may be most of the file
            size = min(BUFFER_BYTES, MAX_BUFFERED_BYTES // count)
            self._file = pq.ParquetFile(file, metadata=self._file.metadata, pre_buffer=False, buffer_size=size)
        self.aside = _index_columns(schema)

    def types(self) -> Mapping[str, pa.DataType]:
        return {field.name: field.type for field in self._schema}

    def peek(self) -> pa.Table:
        first = next(self._batches(None), None)
        return flattened(_without_rows(self._file.schema_arrow) if first is None else pa.Table.from_batches([first]))

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        batches = self._batches(list({column for column, _ in wanted}))
        return _pieces(self.name, batches, wanted, self._file.schema_arrow)

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        try:
            count = len(columns or self.columns)
            rows = _rows_of(count, self._values(columns) - count)
            for batch in self._file.iter_batches(rows, columns=columns):
                batch.validate(full=True)
                yield batch
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self._name}: a damaged Parquet file ({_first_line(error)})") from error

    def _values(self, columns: list[str] | None) -> float:
        """Return the number of values in a row of some columns, with those inside lists, by the first row group."""
        metadata = self._file.metadata
        if not metadata.num_row_groups or not (rows := metadata.row_group(0).num_rows):
            return 0
        group = metadata.row_group(0)
        leaves = [group.column(i) for i in range(group.num_columns)]
        wanted = [f"{column}." for column in columns or ()]
        found = [leaf for leaf in leaves if columns is None or f"{leaf.path_in_schema}.".startswith(tuple(wanted))]
        return float(sum(leaf.num_values for leaf in found) / rows)


class BatchTable(Table):
    """Record batches of one schema, which can be read once."""

    def __init__(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self._own, self._batches = schema, batches
        self._schema = flattened(_without_rows(schema)).schema
        super().__init__(name, self._schema.names)
        self._first = next(self._batches, None)
        self.rows = 0 if self._first is None else None
        self.aside = _index_columns(schema)

    def types(self) -> Mapping[str, pa.DataType]:
        return {field.name: field.type for field in self._schema}

    def peek(self) -> pa.Table:
        return self._schema.empty_table() if self._first is None else flattened(pa.Table.from_batches([self._first]))

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        def batches() -> Iterator[pa.RecordBatch]:
            first, self._first = self._first, None
            if first is not None:
                yield first
                yield from self._batches

        return _pieces(self.name, batches(), wanted, self._own)


class ArrowTable(BatchTable):
    """The Arrow format, as a stream or as a file, which is a stream between a magic word and an index."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        try:
            start = stream.block(len(FILE_MAGIC))
            source = _Rest(b"" if start == FILE_MAGIC else start, stream)
            reader = pa.ipc.open_stream(pa.PythonFile(source, "r"))
            _ = flattened(_without_rows(reader.schema)).schema.names  # raises if one is not UTF-8
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(
                f"{stream.name}: not an Arrow file, or a damaged one ({_first_line(error)})",
                hint="Feather version 1 is not read: write it as version 2" if start[:4] == b"FEA1" else None,
            ) from error
        super().__init__(stream.name, reader.schema, self._read(reader))

    def share_read(self) -> float | None:
        return self._stream.share_read()

    def _read(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """Yield the batches in pieces of a bounded size, each validated, because the bytes are not trusted."""
        try:
            for batch in reader:
                batch.validate(full=True)
                yield from bounded(batch)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name}: the file is damaged or cut short ({_first_line(error)})") from error


class FrameTable(Table):
    """A data frame in memory: from pandas, polars, Arrow, or any other library that exports an Arrow stream."""

    def __init__(self, frame: Any) -> None:
        name = "the data frame"
        try:
            table = frame if isinstance(frame, pa.Table) else pa.table(frame)
        except (pa.ArrowException, TypeError, ValueError) as error:
            if hasattr(frame, "collect_schema"):
                raise DataError("a lazy frame, and rows were expected", hint="collect it: frame.collect()") from error
            raise DataError(f"{name}: a column is not of one type ({_first_line(error)})") from error
        table = flattened(table)
        self._table = table.rename_columns([str(column) for column in table.column_names])
        super().__init__(name, self._table.column_names, rows=len(table))
        self.aside = _index_columns(table.schema)

    def types(self) -> Mapping[str, pa.DataType]:
        return {field.name: field.type for field in self._table.schema}

    def peek(self) -> pa.Table:
        return self._table.slice(0, _rows_of(1, _inside(self._table)))

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        return _pieces(
            self.name, iter(self._table.to_batches(_rows_of(1, _inside(self._table)))), wanted, self._table.schema
        )


def _pieces(
    name: str, batches: Iterator[pa.RecordBatch], wanted: Sequence[tuple[str, str]], schema: pa.Schema
) -> Iterator[Piece]:
    """Yield the wanted columns of each batch; without batches, yield one piece without rows."""
    row = 0
    first = next(batches, None)
    for batch in [_without_rows(schema)] if first is None else chain([first], batches):
        flat = flattened(batch)
        columns = [as_kind(flat.column(column), kind, name, column, row) for column, kind in wanted]
        yield Piece(name, row, columns)
        row += len(batch)


class _Rest:
    """The file that pyarrow reads a stream from: the bytes already read, then the rest."""

    closed = False

    def __init__(self, start: bytes, stream: Stream) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int) -> bytes:
        start, self._start = self._start[:size], self._start[size:]
        return start + self._stream.block(size - len(start)) if size > len(start) else start


def _rows_of(columns: int, inside: float) -> int:
    """Return how many rows to read at once, for a number of columns and of values inside vectors."""
    rows = max(1, min(MAX_BATCH_ROWS, int(BATCH_VALUES / max(1, columns + inside))))
    return (rows // COMPUTED_ROWS * COMPUTED_ROWS or rows) if inside > 0 else rows


def bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a batch in pieces of a bounded size; none for no rows."""
    flat = flattened(batch)
    step = _rows_of(flat.num_columns, _inside(flat))
    for start in range(0, len(batch), step):
        yield batch.slice(start, step)


def _inside(rows: Any) -> float:
    """Return the number of values in all vectors of a row of a batch or a table."""
    vectors = [column for column in rows.columns if kind_of(column.type) == "vector"]
    inside = sum(pc.sum(pc.list_value_length(column)).as_py() or 0 for column in vectors)
    return float(inside / max(1, len(rows)))


def flattened(rows: Any) -> Any:
    """Return a batch or a table with structs as columns of their own, `item.embedding`, and tensors as lists.

    Views of texts, which polars has and few of Arrow's functions take, become texts.
    """
    while any(pa.types.is_struct(field.type) for field in rows.schema):
        rows = (rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])).flatten()
    if any(_plain_type(field.type) != field.type for field in rows.schema):
        rows = type(rows).from_arrays([_plain(column) for column in rows.columns], rows.schema.names)
    return rows


def _without_rows(schema: pa.Schema) -> pa.Table:
    """Return a table without rows. Arrow's own method fails for tensors inside structs."""
    return pa.Table.from_batches([], schema)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return lists for tensors, texts for views of texts, and categories of these; any other type as it is."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return kind.storage_type
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _plain_type(kind.value_type), kind.ordered)
    return pa.large_string() if pa.types.is_string_view(kind) else kind


def _plain(column: Any) -> Any:
    """Return a column of its plain type."""
    kind = _plain_type(column.type)
    if kind == column.type:
        return column
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([_plain(chunk) for chunk in column.chunks], kind)
    if isinstance(column.type, pa.FixedShapeTensorType):
        return column.storage
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(column.indices, _plain(column.dictionary), ordered=kind.ordered)
    return column.cast(kind)


def _index_columns(schema: pa.Schema) -> dict[str, str]:
    """Return the index columns of a pandas frame, by pandas' metadata, each with why it is not a feature."""
    try:
        index = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
        return dict.fromkeys([name for name in index if name in schema.names], "row index")
    except (ValueError, LookupError, TypeError):  # not written by pandas
        return {}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
