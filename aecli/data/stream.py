"""The bytes of a file or of standard input: decompressed, and counted as they are read."""

import io
import os
import shlex
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from aecli.data.fetched import Fetched
from aecli.data.formats import COMPRESSIONS, PEEK_BYTES, form_of, is_undecided
from aecli.data.places import Place, Where
from aecli.errors import DataError

MAX_READ_BYTES = 16 << 20
COPY_BYTES = 1 << 20
PACKED_BYTES = 1 << 16
MAX_LAYERS = 4  # a file may be compressed more than once, but at most this often
BOMB_BYTES, BOMB_RATIO = 10**9, 1000  # if decompressed data exceeds both, it may be a bomb
MAX_XZ_BYTES = 1 << 30  # the most memory that an xz file may request
UNPACKS: dict[str | None, str] = {  # the command that decompresses a file
    "gzip": "gzip -dc",
    "zstd": "zstd -dc",
    "xz": "xz -dc",
    "bz2": "bzip2 -dc",
    "zip": "unzip -p",
}


class Stream:
    """Bytes to read once, from the start, and decompressed if they are compressed, whatever the file's name is.

    `size` is the number of bytes before decompression, if it is known; `packed` is the same for a `raw` that
    decompresses itself. With `force`, any number of decompressed bytes is allowed; None means no, and that no option
    can allow it.
    """

    def __init__(self, name: str, raw: BinaryIO, *, packed: int | None = None, force: bool | None = False) -> None:
        here = _size(raw)
        self.name, self._is_here = name, here is not None
        self.size = here if self._is_here else getattr(raw, "size", None)
        self._raw, self._packed, self._force = raw, packed, force
        self._counted = _Counted(raw)
        self._layers: list[_Ahead] = []
        self._given = 0

    @classmethod
    def open(cls, path: Where, *, force: bool | None = False) -> "Stream":
        """Open a file. Raises DataError if that fails, PlaceError for a remote file."""
        try:
            raw: Any = path.open() if isinstance(path, Place) else OwnFile(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error.strerror or error})") from error
        return cls(str(path), raw, force=force)

    def peek(self) -> bytes:
        """Return the first bytes without consuming them: enough to find the format, none at the end.

        Raises DataError as `block` does.
        """
        try:
            return self._bytes().peek()
        except OSError as error:
            raise self._damaged(error) from error

    def block(self, size: int, *, live: bool = False) -> bytes:
        """Return the next bytes: `size` of them or, if `live`, those that are ready. No bytes mean the end.

        Raises DataError if they cannot be read or decompressed, or if they may be a decompression bomb.
        """
        try:
            data = self._bytes().some(size) if live else self._bytes().read(size)
        except OSError as error:
            raise self._damaged(error) from error
        self._given += len(data)
        if self._packed is not None or len(self._layers) > 1:
            self.check_ratio(self._counted.count if self._packed is None else self._packed, self._given)
        return data

    def is_plain(self) -> bool:
        """Return whether this is a regular local file, and not compressed. Raises DataError as `block` does."""
        self.peek()
        return self._is_here and len(self._layers) == 1

    def anywhere(self) -> BinaryIO:
        """Return a file of all the bytes with random access, as `file` does; a remote file stays remote.

        From a remote file, only the bytes that are read are fetched.
        """
        self.peek()
        if len(self._layers) > 1 or not isinstance(self._raw, Fetched) or not self._raw.seekable():
            return self.file()
        self._raw.seek(0)
        return self._raw

    def file(self) -> BinaryIO:
        """Return a file of all the bytes: this one if it is regular and not compressed, or else a copy.

        The copy has no name, and the system deletes it when it is closed.
        """
        if self.is_plain():
            self._raw.seek(0)
            return self._raw
        import tempfile

        try:
            with tempfile.TemporaryFile() as copy:
                while block := self.block(COPY_BYTES):
                    copy.write(block)
                copy.flush()
                file = OwnFile(os.dup(copy.fileno()), "r+b")
        except OSError as error:
            raise DataError(
                f"{self.name}: no room for a copy of it in {tempfile.gettempdir()} ({error.strerror or error})",
                hint="name a folder with more room: TMPDIR=FOLDER aecli ...",
            ) from error
        file.seek(0)
        return file

    def share_read(self) -> float | None:
        """Return the fraction of the bytes read so far, 0 to 1; None if their number is unknown."""
        return min(1.0, self._counted.count / self.size) if self.size else None

    def _bytes(self) -> "_Ahead":
        """Return the reader of the decompressed bytes; on the first call, find out how they are compressed."""
        if not self._layers:
            self._layers.append(_Ahead(self._counted))
            while (form := form_of(self._layers[-1].peek())) in COMPRESSIONS:
                if len(self._layers) > MAX_LAYERS:
                    raise DataError(f"{self.name}: compressed more than {MAX_LAYERS} times")
                self._layers.append(_Ahead(_DECOMPRESSED[form](self._layers[-1])))
        return self._layers[-1]

    def check_ratio(self, packed: int, unpacked: int) -> None:
        """Raise DataError if `packed` bytes become so many that they may be a bomb, unless `force` allows it."""
        if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * packed and not self._force:
            raise DataError(
                f"{self.name}: may be a decompression bomb: {packed:,} bytes become {unpacked:,} or more",
                hint="unpack it first, if you trust it" + "; --force reads it anyway" * (self._force is False),
            )

    def _damaged(self, error: OSError) -> DataError:
        return DataError(f"{self.name}: the file is damaged or cut short ({error})")


class OwnFile(io.FileIO):
    """A file that is closed when the last reference to it is gone."""

    def __del__(self) -> None:
        self.close()


class _Bytes(ABC):
    """A sequence of bytes, with the methods that pyarrow needs of a file."""

    closed = False

    def close(self) -> None:  # noqa: B027, pyarrow calls it; the file closes with its last reference
        """Do nothing."""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        parts = []
        while size and (part := self.some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    @abstractmethod
    def some(self, size: int) -> bytes:
        """Return the bytes that are ready, at most `size`; none at the end. Raises OSError if they are damaged."""


class _Counted(_Bytes):
    """The bytes of a file, counted as they are read."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self.count = raw, 0

    def some(self, size: int) -> bytes:
        read: Any = getattr(self._raw, "read1", self._raw.read)
        data: bytes = read(min(size, MAX_READ_BYTES)) or b""  # it allocates memory for the whole request
        self.count += len(data)
        return data


class _Ahead(_Bytes):
    """Bytes with a preview of the first ones."""

    def __init__(self, source: _Bytes) -> None:
        self._source, self._start = source, b""

    def peek(self) -> bytes:
        while is_undecided(self._start) and (more := self._source.some(PEEK_BYTES - len(self._start))):
            self._start += more
        return self._start

    def some(self, size: int) -> bytes:
        if not self._start:
            return self._source.some(size)
        data, self._start = self._start[:size], self._start[size:]
        return data

    def read(self, size: int) -> bytes:
        return super().read(size) if self._start else self._source.read(size)


class _ByArrow(_Bytes):
    """Bytes decompressed by pyarrow: gzip and zstd."""

    def __init__(self, source: _Bytes, compression: str) -> None:
        import pyarrow as pa

        self._file = pa.CompressedInputStream(pa.PythonFile(source, "r"), compression)

    def some(self, size: int) -> bytes:
        data: bytes = self._file.read_buffer(size).to_pybytes()  # `read` leaks memory if it fails
        return data


class _ByPython(_Bytes):
    """Bytes decompressed by Python: xz and bzip2. One stream may follow another."""

    def __init__(self, source: _Bytes, decompressor: Callable[[], Any]) -> None:
        self._source, self._new = source, decompressor
        self._now = decompressor()

    def some(self, size: int) -> bytes:
        import lzma

        try:
            while True:
                packed = b""
                if self._now.eof:
                    packed = (self._now.unused_data or self._source.some(PACKED_BYTES)).lstrip(b"\0")  # xz may pad
                    if not packed:
                        return b""
                    self._now = self._new()
                elif self._now.needs_input and not (packed := self._source.some(PACKED_BYTES)):
                    raise OSError("it ends too early")
                if data := self._now.decompress(packed, size):
                    return bytes(data)
        except (lzma.LZMAError, ValueError, EOFError, MemoryError) as error:
            raise OSError(str(error)) from error


def _xz(source: _Bytes) -> _Bytes:
    import lzma

    return _ByPython(source, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_BYTES))


def _bz2(source: _Bytes) -> _Bytes:
    import bz2

    return _ByPython(source, bz2.BZ2Decompressor)


_DECOMPRESSED: dict[str | None, Callable[[_Bytes], _Bytes]] = {
    "gzip": lambda source: _ByArrow(source, "gzip"),
    "zstd": lambda source: _ByArrow(source, "zstd"),
    "xz": _xz,
    "bz2": _bz2,
}


def changed(program: str, name: str) -> str:
    """Return the command that writes a file's text changed by a program such as sed; the program if there is no file.

    A compressed file is unpacked first.
    """
    path = Path(name)
    if not path.is_file():
        return program
    with path.open("rb") as file:
        unpacks = UNPACKS.get(form_of(file.read(PEEK_BYTES)))
    return f"{program} {shlex.quote(name)}" if unpacks is None else f"{unpacks} {shlex.quote(name)} | {program}"


def _size(raw: BinaryIO) -> int | None:
    """Return the size of a regular file, None for anything else."""
    try:
        found = os.fstat(raw.fileno())
    except (OSError, AttributeError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) and found.st_size else None
