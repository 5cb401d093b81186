"""The records of a text table: a stream as UTF-8, in blocks of whole records, and each record's first line."""

import codecs
import re
from collections.abc import Iterator, Sequence

import numpy as np

from aecli.config import Schema
from aecli.data.dialect import SAMPLE_BYTES
from aecli.data.encoding import marked
from aecli.data.source import Array
from aecli.data.stream import Stream
from aecli.errors import DataError
from aecli.options import Reading

BLOCK_BYTES = 4 << 20
MAX_RECORD_BYTES = 64 << 20
OPENING_QUOTE = re.compile(rb'(^|[,;|\t\n])"')  # elsewhere a quote is an ordinary character


class Text:
    """The bytes of a stream, converted to UTF-8 with line feeds.

    The encoding is the one of a byte order mark, or else of an option, or of the model, or UTF-8.
    """

    def __init__(self, stream: Stream, reading: Reading, schema: Schema | None, *, live: bool) -> None:
        self._stream, self._live = stream, live
        self._start = self._some()
        while len(self._start) < 4 and (more := self._some()):
            self._start += more
        known = schema.dialect.encoding if schema and schema.dialect else "utf-8"
        by_mark = marked(self._start)
        if reading.encoding is None and by_mark is None and (known.startswith("utf-16") or self._is_utf_8()):
            known = "utf-8"
        by_zeros = by_mark in ("utf-16-le", "utf-16-be")
        given = reading.encoding if reading.encoding and not reading.encoding.lower().startswith("utf-16") else None
        self._codec = given if given and (by_zeros or by_mark is None) else by_mark or reading.encoding or known
        self.encoding = "utf-16" if self._codec.lower().startswith("utf-16") else codecs.lookup(self._codec).name
        self._old_ends = False

    def _some(self) -> bytes:
        return self._stream.block(BLOCK_BYTES, live=self._live)

    def _is_utf_8(self) -> bool:
        """Return whether the start is UTF-8 and not ASCII: text in another encoding is hardly ever both."""
        start = self._start[:SAMPLE_BYTES]
        try:
            codecs.getincrementaldecoder("utf-8")().decode(start)
        except UnicodeDecodeError:
            return False
        return not start.isascii()

    def blocks(self) -> Iterator[bytes]:
        """Yield the text in blocks. Raises DataError if it cannot be decoded."""
        name = self._stream.name
        decoder = None
        if self.encoding != "utf-8":
            errors = "surrogatepass" if self.encoding == "utf-16" else "surrogateescape"
            decoder = codecs.getincrementaldecoder(self._codec)(errors)
        block, first = self._start, True
        while block:
            if decoder is not None:
                try:
                    block = decoder.decode(block).encode("utf-8", "surrogatepass")
                except (UnicodeError, ValueError) as error:
                    raise DataError(f"{name} is not {self.encoding.upper()}: {error}") from error
            if first:
                block = block.removeprefix(codecs.BOM_UTF8)
                while b"\n" not in block and block.endswith(b"\r") and (more := self._some()):
                    block += decoder.decode(more).encode("utf-8", "surrogatepass") if decoder else more
                self._old_ends = b"\n" not in block and b"\r" in block[:-1]
                first = False
            if self._old_ends:
                block = block.replace(b"\r", b"\n")
            yield block
            block = self._some()
        if decoder is not None:
            try:
                decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                raise DataError(f"{name}: the file is damaged or cut short ({error.reason})") from error


def records(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield text in blocks of whole records, which may have newlines inside quotes, without blank lines at the end."""
    rest = b""
    for more in blocks:
        if len(rest) > MAX_RECORD_BYTES:
            raise DataError(f"{name}: a quote is opened and not closed within {MAX_RECORD_BYTES >> 20} MB")
        block = rest + more
        end = _last_record_end(block)
        if block.endswith((b"\n\n", b"\n\r\n"), 0, end):
            end = len(block[:end].rstrip(b"\r\n"))
            end = block.find(b"\n", end) + 1 if end else 0
        rest = block[end:]
        if end:
            yield block[:end]
    if rest.count(b'"') % 2 and OPENING_QUOTE.search(rest):
        raise DataError(f"{name}: a quote is opened and never closed, after {rest[:40].decode(errors='replace')!r}")
    if rest := rest.rstrip(b"\r\n") + b"\n" if rest.strip() else b"":
        yield rest


def _last_record_end(block: bytes) -> int:
    """Return where the last whole record ends: after the last newline with an even number of quotes before it.

    If no cell begins with a quote, quotes are ordinary characters.
    """
    end = block.rfind(b"\n") + 1
    quotes = block.count(b'"', 0, end)
    if quotes % 2 and OPENING_QUOTE.search(block) is None:
        return end
    while end and quotes % 2:
        before = block.rfind(b"\n", 0, end - 1) + 1
        quotes -= block.count(b'"', before, end)
        end = before
    return end


def newlines(block: bytes) -> int:
    """Return the number of line ends in a block."""
    return int(np.count_nonzero(np.frombuffer(block, np.uint8) == 10))


def record_lines(text: bytes, removed: Sequence[int]) -> Array:
    """Return the first line of each record of a text, counted from 0, including the lines `removed` from it."""
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(data == 10)
    quoted = b'"' in text and OPENING_QUOTE.search(text) is not None
    quotes = np.cumsum(data == 34)[ends] if quoted else np.zeros(len(ends), int)
    starts: Array = np.concatenate([[0], np.flatnonzero(quotes % 2 == 0) + 1])
    for line in removed:
        starts = starts + (starts >= line)
    return starts
