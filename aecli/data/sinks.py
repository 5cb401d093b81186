"""Writers of tables: CSV, TSV, JSON Lines, Parquet, Arrow and NPY."""

import base64
import contextlib
import csv
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from aecli import files
from aecli.data.places import Where
from aecli.errors import DataError, UsageError

Array = np.ndarray[Any, Any]
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".npy": "npy",
}
TEXTS = ("csv", "tsv", "jsonl")
FORMATS = tuple(dict.fromkeys(ENDINGS.values()))


class Sink(ABC):
    """Writes a table to a stream in pieces; each piece maps column names to columns (N,).

    A column may also be an array (N, width), which is a vector, written as one column of lists.
    `has_nulls` is True if the format has empty cells; if not, NaN is written. `mixes` is True if a column may be a list
    of values of several types.
    """

    has_nulls = True
    mixes = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    @abstractmethod
    def write(self, columns: Mapping[str, Any]) -> None:
        """Write the next rows."""

    def flush(self) -> None:
        """Send everything that was written to the stream."""
        self._stream.flush()

    def close(self) -> None:  # noqa: B027, most formats have no end
        """Write the end of the file. The stream stays open."""


def format_of(path: Where, asked: str | None) -> str:
    """Return the format of an output file: the requested one, or else the one of its name's ending.

    Raises UsageError for an unknown ending.
    """
    if asked is not None:
        return asked
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"{path}: the name ends in {path.suffix or 'nothing'!r}, which is no known output format",
            hint=f"the endings are {', '.join(ENDINGS)}; --format sets it for any other name; a folder ends in /",
        )
    return ENDINGS[path.suffix.lower()]


@contextlib.contextmanager
def to_stream(
    stream: BinaryIO,
    form: str,
    *,
    header: bool = True,
    metadata: Mapping[bytes, bytes] | None = None,
    apart: Collection[str] = (),
) -> Iterator[Sink]:
    """Open a sink that writes to a stream.

    Parquet and Arrow store the `metadata`, and leave out the columns named in `apart`.
    """
    if form == "npy" and not stream.seekable():
        raise UsageError("NPY can be written only to a file, not to a pipe", hint="name one: -o rows.npy")
    sink: Sink
    match form:
        case "csv" | "tsv":
            sink = Delimited(stream, "\t" if form == "tsv" else ",", header=header)
        case "jsonl":
            sink = JsonLines(stream)
        case "parquet" | "arrow":
            sink = Arrow(stream, form, metadata, apart)
        case _:
            sink = Npy(stream)
    yield sink
    sink.close()
    stream.flush()


@contextlib.contextmanager
def to_file(path: Where, form: str, **how: Any) -> Iterator[Sink]:
    """Open a sink that writes a file, which appears only when it is complete."""
    with files.replacing(path) as stream, to_stream(stream, form, **how) as sink:
        yield sink


class Delimited(Sink):
    """CSV or TSV. A cell is quoted if and only if Python's `csv` would quote it, independent of the other cells.

    A null and an empty text are both written as an empty cell. Lists and structs are written as JSON, bytes as base64.
    """

    def __init__(self, stream: BinaryIO, delimiter: str, *, header: bool) -> None:
        super().__init__(stream)
        self._delimiter, self._header = delimiter, header

    def write(self, columns: Mapping[str, Any]) -> None:
        if self._header:
            names = io.StringIO(newline="")
            csv.writer(names, delimiter=self._delimiter).writerow(columns)
            self._stream.write(names.getvalue().removesuffix("\r\n").encode() + b"\n")
            self._header = False
        table = to_table({name: _as_text(column) for name, column in columns.items()})
        if table.num_columns > 1 and not self._has_special(table):
            options = pacsv.WriteOptions(include_header=False, delimiter=self._delimiter, quoting_style="none")
            pacsv.write_csv(table, self._stream, options)
        elif table.num_rows:
            self._stream.write(self._lines([column.combine_chunks() for column in table.columns]))

    def _has_special(self, table: pa.Table) -> bool:
        special = f'"\r\n{self._delimiter}'.encode()
        chunks = [chunk for column in table.columns for chunk in column.chunks]
        return any(byte in text for text in map(_text_of, chunks) for byte in special)

    def _lines(self, columns: list[Any]) -> bytes:
        """Return rows with each cell quoted if needed; pyarrow's own writer quotes whole columns or none."""
        import pyarrow.compute as pc  # slow to import, and seldom needed

        kind = pa.large_string()
        cells = [self._quoted(column.cast(kind)) if _is_text(column.type) else column.cast(kind) for column in columns]
        if len(cells) == 1:  # an empty line would not count as a row
            is_empty = pc.fill_null(pc.equal(cells[0], pa.scalar("", kind)), pa.scalar(value=True))
            cells = [pc.if_else(is_empty, pa.scalar('""', kind), cells[0])]
        options = {"null_handling": "replace", "null_replacement": ""}
        rows = pc.binary_join_element_wise(*cells, pa.scalar(self._delimiter, kind), **options)
        return _text_of(pc.binary_join_element_wise(rows, pa.scalar("\n", kind), pa.scalar("", kind)))

    def _quoted(self, texts: Any) -> Any:
        import pyarrow.compute as pc

        special = pc.match_substring_regex(texts, f'["\r\n{self._delimiter}]')
        quote, nothing = pa.scalar('"', texts.type), pa.scalar("", texts.type)
        doubled = pc.replace_substring(texts, '"', '""')
        return pc.if_else(special, pc.binary_join_element_wise(quote, doubled, quote, nothing), texts)


def to_table(columns: Mapping[str, Any]) -> pa.Table:
    """Return an Arrow table of named columns: Arrow or NumPy arrays (N,), or NumPy vectors (N, width).

    The bytes of numbers are reused: to convert a NumPy array, pyarrow would first import pandas, if it is installed.
    """
    return pa.table({name: _to_arrow(column) for name, column in columns.items()})


def _to_arrow(column: Any) -> Any:
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "iuf" or not column.dtype.isnative:
        return column
    if column.ndim == 2:
        return as_lists(column)
    return pa.Array.from_buffers(
        pa.from_numpy_dtype(column.dtype), len(column), [None, pa.py_buffer(np.ascontiguousarray(column))]
    )


def as_lists(vectors: Array, kind: Any = None) -> Any:
    """Return vectors of floats (N, width) as an Arrow column of lists: of the type `kind`, or else of fixed size.

    If `kind` holds integers, the result has single precision. Numbers beyond a type's range become its largest number.
    """
    width = vectors.shape[1]
    if kind is None:
        return pa.FixedSizeListArray.from_arrays(_to_arrow(vectors.ravel()), width)
    dtype = kind.value_type.to_pandas_dtype() if pa.types.is_floating(kind.value_type) else np.float32
    most = np.finfo(dtype).max
    numbers = _to_arrow(np.clip(vectors.ravel(), -most, most).astype(dtype))
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(numbers, width)
    is_large = pa.types.is_large_list(kind)
    ends = _to_arrow(np.arange(len(vectors) + 1, dtype=np.int64 if is_large else np.int32) * width)
    return (pa.LargeListArray if is_large else pa.ListArray).from_arrays(ends, numbers)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _text_of(column: Any) -> bytes:
    """Return all texts of an Arrow array as one; b"" if it holds something else."""
    if not len(column) or not _is_text(column.type):
        return b""
    _, offsets, text = column.buffers()
    places = np.frombuffer(offsets, np.int64 if pa.types.is_large_string(column.type) else np.int32)
    start, end = places[column.offset], places[column.offset + len(column)]
    return bytes(memoryview(text)[start:end]) if text is not None else b""


def _as_text(column: Any) -> Any:
    """Return a column (N,) that pyarrow can write as text.

    Nested values become JSON, bytes base64, and durations seconds, as aecli reads durations in text.
    """
    if isinstance(column, np.ndarray) and column.ndim == 1:
        return column
    column = _to_arrow(column)
    kind = column.type
    if pa.types.is_duration(kind):
        import pyarrow.compute as pc

        return pc.divide(column.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
    if pa.types.is_dictionary(kind) or pa.types.is_string_view(kind):
        return _as_text(column.dictionary_decode() if pa.types.is_dictionary(kind) else column.cast(pa.large_string()))
    if pa.types.is_nested(kind):
        return _nested_texts(column)
    is_extension = isinstance(kind, pa.BaseExtensionType)
    if not _is_text(kind) and (pa.types.is_binary(kind) or is_extension or not _has_cast(kind)):
        return pa.array([None if value is None else str(plain(value)) for value in _values(column)], pa.string())
    return column


def _nested_texts(column: Any) -> Any:
    """Return nested values as JSON; in lists of floats, numbers have no more digits than their type needs."""
    import pyarrow.compute as pc

    if getattr(column.type, "value_type", None) not in (pa.float16(), pa.float32()):
        return pa.array([None if value is None else to_json(value) for value in _values(column)], pa.string())
    numbers, there = column.flatten(), column.is_valid()
    numbers = numbers.cast(pa.float32()) if pa.types.is_float16(numbers.type) else numbers
    written = pc.if_else(pc.is_finite(numbers), numbers.cast(pa.string()), "null").fill_null("null")
    lengths = pc.list_value_length(column.filter(there)).to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    joined = pc.binary_join(pa.ListArray.from_arrays(_to_arrow(ends), written), ",")
    lists = pc.binary_join_element_wise("[", joined, "]", "")
    if not column.null_count:
        return lists
    given = there.to_numpy(zero_copy_only=False)
    return lists.take(pa.array(np.maximum(np.cumsum(given) - 1, 0), mask=~given))


def texts(column: Any) -> list[str | None]:
    """Return the cells of a column (N,) as in a CSV, before quoting; None for empty cells."""
    array = to_table({"": column}).column(0).combine_chunks()
    cells: list[str | None] = _as_text(array).cast(pa.large_string()).to_pylist()
    return cells


def _has_cast(kind: Any) -> bool:
    try:
        pa.nulls(0, kind).cast(pa.string())
    except pa.ArrowNotImplementedError:
        return False
    return not (pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind))


class JsonLines(Sink):
    """One JSON object per line. Dates and times are ISO 8601, NaN and infinity null, bytes base64."""

    mixes = True

    def write(self, columns: Mapping[str, Any]) -> None:
        table = to_table({name: column for name, column in columns.items() if not isinstance(column, list)})
        values = [
            column if isinstance(column, list) else _values(table.column(name)) for name, column in columns.items()
        ]
        lines = [to_json(dict(zip(columns, row, strict=True))) for row in zip(*values, strict=True)]
        self._stream.write("".join(f"{line}\n" for line in lines).encode())


def to_json(value: Any) -> str:
    """Return a Python value that came from Arrow as compact JSON."""
    options: dict[str, Any] = {"ensure_ascii": False, "separators": (",", ":"), "default": plain}
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(value), **options)


def _finite(value: Any) -> Any:
    """Return a value with null in place of each number that JSON cannot write."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain(value: object) -> Any:
    """Return a value that JSON has no type for as a text or a number."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        number = float(value)
        return number if math.isfinite(number) and Decimal(repr(number)) == value else str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _values(column: Any) -> list[Any]:
    """Return an Arrow column as Python values. Raises DataError for values that Python cannot hold."""
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_timestamp(kind):  # Python has no nanoseconds and no year after 9999
        texts = pc.replace_substring_regex(column.cast(pa.string()), r"\.0+([Zz+-]|$)", r"\1")
        column = pc.replace_substring(texts, " ", "T", max_replacements=1)
    elif pa.types.is_date(kind):
        column = column.cast(pa.string())
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise DataError(f"values of type {kind} cannot be written as text ({error})") from error
    return values


class Arrow(Sink):
    """Parquet, or the Arrow IPC file format, which is also called Feather version 2; rows are written in groups."""

    GROUP_BYTES = 16 << 20

    def __init__(
        self,
        stream: BinaryIO,
        form: str,
        metadata: Mapping[bytes, bytes] | None = None,
        apart: Collection[str] = (),
    ) -> None:
        super().__init__(stream)
        self._form, self._metadata, self._apart = form, metadata, apart
        self._writer: Any = None  # created after the first piece, which has the columns' types
        self._waiting: list[pa.Table] = []

    def write(self, columns: Mapping[str, Any]) -> None:
        self._waiting.append(to_table({name: each for name, each in columns.items() if name not in self._apart}))
        if sum(table.nbytes for table in self._waiting) >= self.GROUP_BYTES:
            self._write_group()

    def flush(self) -> None:
        self._write_group()
        super().flush()

    def close(self) -> None:
        self._write_group()
        if self._writer is not None:
            self._writer.close()

    def _open(self) -> Any:
        import pyarrow.parquet as pq

        if self._form == "arrow":
            return pa.ipc.new_file(self._stream, self._schema)
        others = [field.name for field in self._schema if not pa.types.is_fixed_size_list(field.type)]
        return pq.ParquetWriter(self._stream, self._schema, use_dictionary=others)  # values of a vector seldom repeat

    def _write_group(self) -> None:
        if not self._waiting:
            return
        try:
            table = pa.concat_tables(self._waiting, promote_options="permissive")
            self._waiting = []
            if self._writer is None:
                table = table.cast(pa.schema([(f.name, _settled(f.type)) for f in table.schema], self._metadata))
                self._schema = table.schema
                self._writer = self._open()
            self._writer.write_table(table.cast(self._schema).combine_chunks())
        except pa.ArrowException as error:
            raise DataError(
                f"{self._form} cannot hold these columns: {str(error).partition(chr(10))[0]}",
                hint="a column's type changed, or the format lacks it: CSV holds any type",
            ) from error


def _settled(kind: Any) -> Any:
    """Return the type to write a column with: text if it was all null so far."""
    return pa.string() if pa.types.is_null(kind) else kind


class Npy(Sink):
    """One array (N, columns) of the columns of real numbers; labels and kept columns are not written.

    It has the widest type of the first rows' columns. With a `row_shape`, each row has that shape.
    """

    row_shape: tuple[int, ...] | None = None

    has_nulls = False
    HEADER_BYTES = 128

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._shape = (0, 0)
        self._dtype: Any = None
        stream.write(b"\0" * self.HEADER_BYTES)  # written last, when the number of rows is known

    def write(self, columns: Mapping[str, Any]) -> None:
        numbers = [c for c in columns.values() if isinstance(c, np.ndarray) and c.dtype.kind == "f"]
        self._dtype = self._dtype or np.result_type(*numbers)
        array = np.column_stack(numbers).astype(self._dtype, copy=False)
        self._shape = (self._shape[0] + len(array), array.shape[1])
        self._stream.write(array.tobytes())

    def close(self) -> None:
        kind = "<f4" if self._dtype is None else self._dtype.newbyteorder("<").str
        rows, width = self._shape
        shape: tuple[int, ...] = self._shape
        if self.row_shape is not None and math.prod(self.row_shape) == width:  # no kept columns
            shape = (rows, *self.row_shape)
        header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
        self._stream.seek(0)
        length = self.HEADER_BYTES - 10
        self._stream.write(
            b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + header.ljust(length - 1).encode() + b"\n"
        )
