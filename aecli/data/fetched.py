"""The bytes of a remote file, read ahead in order, or from any position."""

import contextlib
import io
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from aecli.errors import PlaceError
from aecli.pipeline import ahead, spread

if TYPE_CHECKING:
    from aecli.data.places import Place

START_BYTES = 1 << 16  # enough to find the format, and to read a small file whole
BLOCK_BYTES = 4 << 20
READERS = 4  # blocks that are fetched at once
WAITING = 2  # blocks that wait to be used


@dataclass(frozen=True)
class Head:
    """What is at a place: a folder, or a file with a size in bytes and a `version`.

    `start` are its first bytes. `size` is None if the server does not say, and so is `modified`, in seconds since 1970.
    `ranges` is True if the server can send any part of the file.
    """

    is_folder: bool = False
    size: int | None = None
    version: str = ""
    start: bytes = b""
    ranges: bool = True
    modified: float | None = None


def instant(text: str | None) -> float | None:
    """Return a date in HTTP format or ISO 8601 as seconds since 1970; None if it is not a date."""
    import datetime as dt
    from email.utils import parsedate_to_datetime

    for read in (dt.datetime.fromisoformat, parsedate_to_datetime):
        with contextlib.suppress(ValueError):
            return read(text or "").timestamp()
    return None


class Store(Protocol):
    """The access to a server. Each method raises PlaceError if the server does not answer."""

    def head(self, place: "Place", *, start: bool) -> Head | None:
        """Return what is there, None if nothing is; with the first bytes of a file, if `start`."""

    def part(self, place: "Place", head: Head, start: int, size: int) -> bytes:
        """Return `size` bytes from `start`, from the head's version."""

    def all(self, place: "Place", head: Head) -> Iterator[bytes]:
        """Yield all bytes of the head's version, if the server does not send parts."""

    def files(self, place: "Place", *, deep: bool) -> list[str]:
        """Return the URLs of the files in a folder and, if `deep`, in its subfolders."""

    def check_bucket(self, place: "Place") -> None:
        """Raise PlaceError if there is no such bucket."""

    def uploading(self, place: "Place") -> AbstractContextManager[Callable[[BinaryIO], None]]:
        """Return a function that uploads a file, which appears only when it is complete.

        Raises PlaceError at once if the program may not write there.
        """


def changed(place: "Place") -> PlaceError:
    """Return the error for a file that changed."""
    return PlaceError(
        f"{place}: changed while it was read", hint="run the command again when the file no longer changes"
    )


class Fetched(io.RawIOBase):
    """A remote file. `size` is None if it is unknown.

    While it is read in order, several threads fetch blocks ahead. After a `seek`, each read fetches only what it needs.
    """

    def __init__(self, store: Store, place: "Place", head: Head) -> None:
        self._store, self._place, self._head, self.size = store, place, head, head.size
        self._place_in_file = 0
        self._block = memoryview(head.start if head.ranges else b"")
        self._blocks: Generator[bytes, None, None] | None = None
        self._in_order = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._head.ranges and self.size is not None

    def tell(self) -> int:
        return self._place_in_file

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if not self.seekable():
            raise io.UnsupportedOperation("the server does not send parts of the file")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place_in_file, io.SEEK_END: self.size or 0}[whence]
        if start + offset != self._place_in_file or not self._in_order:
            self._stop()
            self._in_order = False
        self._place_in_file = start + offset
        return self._place_in_file

    def read(self, size: int = -1, /) -> bytes:
        if not self._in_order:
            return self._from_here(size)
        parts = []
        while size and (part := self.read1(size)):
            parts.append(part)
            size -= len(part) if size > 0 else 0
        return b"".join(parts)

    def readinto(self, buffer: Any, /) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def read1(self, size: int = -1, /) -> bytes:
        """Return the bytes that are ready, at most `size`; no bytes mean the end."""
        if not self._in_order:
            return self._from_here(size)
        if not self._block:
            if self._blocks is None:
                self._blocks = ahead(self._fetched(self._place_in_file), WAITING)
            self._block = memoryview(next(self._blocks, b""))
        taken = bytes(self._block if size < 0 else self._block[:size])
        self._block = self._block[len(taken) :]
        self._place_in_file += len(taken)
        return taken

    def _from_here(self, size: int) -> bytes:
        left = max(0, (self.size or 0) - self._place_in_file)
        size = left if size < 0 else min(size, left)
        start, end = self._place_in_file, self._place_in_file + size
        known = self._head.start
        data = known[start:end] if end <= len(known) else self._store.part(self._place, self._head, start, size)
        self._place_in_file = end
        return data

    def _fetched(self, start: int) -> Iterator[bytes]:
        if not self._head.ranges:
            return self._store.all(self._place, self._head)

        def places() -> Generator[int, None, None]:
            yield from range(start, self.size or 0, BLOCK_BYTES)

        def fetch(place: int) -> bytes:
            size = min(BLOCK_BYTES, (self.size or 0) - place)
            return self._store.part(self._place, self._head, place, size)

        return spread(fetch, places(), READERS)

    def _stop(self) -> None:
        blocks, self._blocks, self._block = self._blocks, None, memoryview(b"")
        if blocks is not None:
            blocks.close()

    def close(self) -> None:
        self._stop()
        super().close()
