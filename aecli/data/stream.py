"""The bytes of a file or of standard input: decompressed, and counted as they are read."""

import io
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from aecli.errors import DataError

MAX_READ_BYTES = 16 << 20
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class Stream:
    """Bytes to read once, from the start. `size` is how many there are before decompression, where that is known."""

    def __init__(self, name: str, raw: BinaryIO, *, compression: str | None = None) -> None:
        self.name, self.size = name, _size(raw)
        self._file = _Counted(raw)
        self._decompressed: Any = None
        if compression is not None:
            import pyarrow as pa

            self._decompressed = pa.CompressedInputStream(pa.PythonFile(self._file, "r"), compression)

    @classmethod
    def open(cls, path: Path) -> "Stream":
        """Open a file, which is decompressed if its name says so. Raises DataError where that cannot be done."""
        try:
            raw: Any = OwnFile(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error.strerror or error})") from error
        return cls(str(path), raw, compression=COMPRESSIONS.get(path.suffix.lower()))

    def block(self, size: int, *, live: bool = False) -> bytes:
        """Read the next bytes: so many or, where it is `live`, those that are there. None are the end.

        Raises DataError where they cannot be read or decompressed.
        """
        try:
            if self._decompressed is not None:
                data: bytes = self._decompressed.read_buffer(size).to_pybytes()  # `read` loses memory where it fails
                return data
            return self._file.some(size) if live else self._file.read(size)
        except OSError as error:
            raise DataError(f"{self.name}: the file is damaged or cut short ({error})") from error

    def seekable(self) -> BinaryIO | None:
        """Return the file itself where it is a regular one that is not compressed, None elsewhere."""
        return self._file.raw if self.size is not None and self._decompressed is None else None

    def share_read(self) -> float | None:
        """Return the share of the bytes that was read so far, 0 to 1; None where their number is not known."""
        return min(1.0, self._file.count / self.size) if self.size else None


class OwnFile(io.FileIO):
    """A file that is closed when nobody holds it any more."""

    def __del__(self) -> None:
        self.close()


class _Counted:
    """A file whose bytes are counted as they are read: what pyarrow's decompression asks of one."""

    closed = False

    def __init__(self, raw: BinaryIO) -> None:
        self.raw, self.count = raw, 0

    def close(self) -> None:
        """Close nothing: the file goes with its last reader."""

    def read(self, size: int) -> bytes:
        """Read this many bytes, fewer at the end."""
        parts = []
        while size and (part := self.some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def some(self, size: int) -> bytes:
        """Read those bytes that are there, up to so many; none are the end."""
        read: Any = getattr(self.raw, "read1", self.raw.read)
        data: bytes = read(min(size, MAX_READ_BYTES)) or b""  # takes memory for all that it is asked for
        self.count += len(data)
        return data


def _size(raw: BinaryIO) -> int | None:
    """Return the size of a regular file, None for all else."""
    try:
        found = os.fstat(raw.fileno())
    except (OSError, AttributeError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) and found.st_size else None
