"""Where results go: tables as CSV, TSV, JSON Lines, Parquet, Arrow or NPY, images as files."""

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from aecli import files
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
FORMATS = tuple(dict.fromkeys(ENDINGS.values()))


class Sink(ABC):
    """Takes a table in pieces, each a mapping of column names to columns (N,), and writes it to a stream.

    `has_nulls` tells whether a cell may be empty; where none may be, NaN stands for it.
    """

    has_nulls = True

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    @abstractmethod
    def write(self, columns: Mapping[str, Any]) -> None:
        """Write the next rows."""

    def flush(self) -> None:
        """Send on what was written."""
        self._stream.flush()

    def close(self) -> None:  # noqa: B027, most formats have no end
        """Write what ends the file. The stream stays open."""


def format_of(path: Path, asked: str | None) -> str:
    """Return the format of an output file: what was asked for, else what its name's ending says.

    Raises UsageError for an ending of no known format.
    """
    if asked is not None:
        return asked
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"{path}: the name ends in {path.suffix or 'nothing'!r}, which is none of the formats that are written",
            hint=f"the endings are {', '.join(ENDINGS)}; --format names one for any other",
        )
    return ENDINGS[path.suffix.lower()]


@contextlib.contextmanager
def to_stream(stream: BinaryIO, form: str, *, header: bool = True) -> Iterator[Sink]:
    """Open a sink that writes to a stream."""
    if form == "npy" and not stream.seekable():
        raise UsageError("NPY is written to a file, not to a pipe", hint="name one: -o codes.npy")
    sink: Sink
    match form:
        case "csv" | "tsv":
            sink = Delimited(stream, "\t" if form == "tsv" else ",", header=header)
        case "jsonl":
            sink = JsonLines(stream)
        case "parquet" | "arrow":
            sink = Arrow(stream, form)
        case _:
            sink = Npy(stream)
    yield sink
    sink.close()
    stream.flush()


@contextlib.contextmanager
def to_file(path: Path, form: str, *, header: bool = True) -> Iterator[Sink]:
    """Open a sink that writes a file, which appears under its name only when it is whole."""
    with files.replacing(path) as stream, to_stream(stream, form, header=header) as sink:
        yield sink


class Delimited(Sink):
    """CSV or TSV, quoted where needed."""

    def __init__(self, stream: BinaryIO, delimiter: str, *, header: bool) -> None:
        super().__init__(stream)
        self._delimiter, self._header = delimiter, header

    def write(self, columns: Mapping[str, Any]) -> None:
        if self._header:
            self._stream.write((self._delimiter.join(self._quoted(name) for name in columns) + "\n").encode())
            self._header = False
        table = to_table(columns)
        style = "needed" if self._has_special(table) else "none"  # pyarrow's "needed" would quote every text
        options = pacsv.WriteOptions(include_header=False, delimiter=self._delimiter, quoting_style=style)
        pacsv.write_csv(table, self._stream, options)

    def _has_special(self, table: pa.Table) -> bool:
        special = f'"\r\n{self._delimiter}'.encode()
        chunks = [chunk for column in table.columns for chunk in column.chunks]
        return any(byte in text for text in map(_text_of, chunks) for byte in special)

    def _quoted(self, name: str) -> str:
        special = any(c in name for c in (self._delimiter, '"', "\n", "\r"))
        return '"' + name.replace('"', '""') + '"' if special else name


def to_table(columns: Mapping[str, Any]) -> pa.Table:
    """Make an Arrow table of named columns (N,), which are Arrow arrays or NumPy's.

    Numbers are taken over by their bytes: to convert a NumPy array, pyarrow imports pandas first, where there is one.
    """
    return pa.table({name: _to_arrow(column) for name, column in columns.items()})


def _to_arrow(column: Any) -> Any:
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "iuf" or not column.dtype.isnative:
        return column
    return pa.Array.from_buffers(
        pa.from_numpy_dtype(column.dtype), len(column), [None, pa.py_buffer(np.ascontiguousarray(column))]
    )


def _text_of(column: Any) -> bytes:
    """Return all the text of an Arrow array one after another; none, where it holds something else."""
    wide = pa.types.is_large_string(column.type)
    if not len(column) or not (wide or pa.types.is_string(column.type)):
        return b""
    _, offsets, text = column.buffers()
    places = np.frombuffer(offsets, np.int64 if wide else np.int32)
    start, end = places[column.offset], places[column.offset + len(column)]
    return bytes(memoryview(text)[start:end]) if text is not None else b""


class JsonLines(Sink):
    """One JSON object a line."""

    def write(self, columns: Mapping[str, Any]) -> None:
        for row in to_table(columns).to_pylist():
            self._stream.write(json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str).encode() + b"\n")


class Arrow(Sink):
    """Parquet, or the Arrow IPC file format, which is also called Feather version 2; in groups of rows of some size."""

    GROUP_BYTES = 16 << 20

    def __init__(self, stream: BinaryIO, form: str) -> None:
        super().__init__(stream)
        self._form = form
        self._writer: Any = None  # made when the first piece has shown the columns' types
        self._waiting: list[pa.Table] = []

    def write(self, columns: Mapping[str, Any]) -> None:
        self._waiting.append(to_table(columns))
        if sum(table.nbytes for table in self._waiting) >= self.GROUP_BYTES:
            self._write_group()

    def flush(self) -> None:
        self._write_group()
        super().flush()

    def close(self) -> None:
        self._write_group()
        if self._writer is not None:
            self._writer.close()

    def _write_group(self) -> None:
        import pyarrow.parquet as pq

        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting = []
        if self._writer is None:
            make = pq.ParquetWriter if self._form == "parquet" else pa.ipc.new_file
            self._writer = make(self._stream, table.schema)
        self._writer.write_table(table)


class Npy(Sink):
    """One array (N, columns) of the columns of real numbers; labels and kept columns find no place in it.

    It is float32, float64 where a column is.
    """

    has_nulls = False
    HEADER_BYTES = 128

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._shape, self._type = (0, 0), "<f4"
        stream.write(b"\0" * self.HEADER_BYTES)  # written last, when the number of rows is known

    def write(self, columns: Mapping[str, Any]) -> None:
        numbers = [c for c in columns.values() if isinstance(c, np.ndarray) and c.dtype.kind == "f"]
        array = np.stack(numbers, axis=1)
        self._type = array.dtype.str
        self._shape = (self._shape[0] + len(array), array.shape[1])
        self._stream.write(array.tobytes())

    def close(self) -> None:
        header = f"{{'descr': '{self._type}', 'fortran_order': False, 'shape': {self._shape}, }}"
        self._stream.seek(0)
        length = self.HEADER_BYTES - 10
        self._stream.write(
            b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + header.ljust(length - 1).encode() + b"\n"
        )


@contextlib.contextmanager
def to_images(folder: Path) -> Iterator["ImageFolder"]:
    """Open a sink that writes numbered PNG files into a folder, which appears under its name only when it is whole.

    Raises DataError where the folder already holds something.
    """
    import shutil
    import tempfile

    target = folder.resolve()
    if not target.parent.is_dir():
        raise DataError(f"{folder}: there is no folder {folder.parent}", hint=f"mkdir -p {folder.parent}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: already holds files, and images go to a new folder or an empty one")
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield ImageFolder(scratch)
        scratch.chmod(0o777 & ~files.umask())
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class ImageFolder:
    """Numbered PNG files."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def write(self, images: Array, full_scale: float) -> None:
        """Write images (N, H, W) or (N, H, W, C), whose white is `full_scale`, as 8-bit PNG files."""
        from PIL import Image

        pixels = np.rint(np.clip(images / full_scale, 0, 1) * 255).astype(np.uint8)
        for image in pixels:
            Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image).save(
                self._folder / f"{self._count:06}.png"
            )
            self._count += 1
