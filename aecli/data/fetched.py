"""The bytes of a file elsewhere: read ahead in order, or from any place."""

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

START_BYTES = 1 << 16  # that tell what a file is, and are all of a small one
BLOCK_BYTES = 4 << 20
READERS = 4  # blocks that are on their way at once
WAITING = 2  # blocks that wait to be taken


@dataclass(frozen=True)
class Head:
    """What is at a place: a folder, or a file of so many bytes, in some `version`.

    `start` are its first bytes. `size` is None where the other side does not tell, as is `modified`, in seconds since
    1970; `ranges` tells that it gives any part of the file.
    """

    is_folder: bool = False
    size: int | None = None
    version: str = ""
    start: bytes = b""
    ranges: bool = True
    modified: float | None = None


def instant(text: str | None) -> float | None:
    """Return the seconds since 1970 that a date tells, of HTTP or ISO 8601; None where it tells none."""
    import datetime as dt
    from email.utils import parsedate_to_datetime

    for read in (dt.datetime.fromisoformat, parsedate_to_datetime):
        with contextlib.suppress(ValueError):
            return read(text or "").timestamp()
    return None


class Store(Protocol):
    """What reaches the other side. Each method raises PlaceError where that gives no answer."""

    def head(self, place: "Place", *, start: bool) -> Head | None:
        """Return what is there, None for nothing; with the `start` of a file, where that is asked for."""

    def part(self, place: "Place", head: Head, start: int, size: int) -> bytes:
        """Read so many bytes of the version that the head tells."""

    def all(self, place: "Place", head: Head) -> Iterator[bytes]:
        """Yield the bytes of that version from the first one on, where no parts are given."""

    def files(self, place: "Place", *, deep: bool) -> list[str]:
        """Return the URLs of the files in a folder and, where it is `deep`, in its folders."""

    def check_bucket(self, place: "Place") -> None:
        """Raise PlaceError where there is no such bucket."""

    def uploading(self, place: "Place") -> AbstractContextManager[Callable[[BinaryIO], None]]:
        """Return what sends a file, which is there only when it is whole.

        Raises PlaceError at once where the place may not be written.
        """


def changed(place: "Place") -> PlaceError:
    """Return the error for a file that became another one."""
    return PlaceError(f"{place}: changed while it was read", hint="run the command again, when it changes no more")


class Fetched(io.RawIOBase):
    """A file elsewhere. `size` is None where it is not known.

    As long as it is read in order, blocks are fetched ahead by several threads. After a `seek` each read fetches what
    it asks for.
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
            raise io.UnsupportedOperation("the other side gives no parts of the file")
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
        """Read those bytes that are there, up to so many; none are the end."""
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
