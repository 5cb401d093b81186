"""JSON Lines: one object a line, parsed by pyarrow in blocks of whole lines, with the types laid down.

A JSON array of objects is cut into such lines as it is read. Rows are counted from 1.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from aecli.data.formats import BLANKS, BOM
from aecli.data.stream import Stream
from aecli.data.table import ARROW_TYPES, TEXT, Piece, Table, as_kind, shortened
from aecli.errors import DataError

BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 20
QUOTE, COMMA = 2, 3
MARKS = np.zeros(256, np.int8)
MARKS[[ord(each) for each in '"{[}],']] = [QUOTE, 1, 1, -1, -1, COMMA]
BLANKED = bytes.maketrans(b"\r\n", b"  ")
PYTHON_TYPES: dict[str, tuple[type, ...]] = {"number": (int, float), "boolean": (bool,), "category": (str,)}


class JsonLinesTable(Table):
    """Objects, one a line or in an array.

    The keys of the first block are the columns; one that a later object lacks is a hole.
    """

    def __init__(self, stream: Stream, *, live: bool = False) -> None:
        self._stream = stream
        start = stream.peek().removeprefix(BOM).lstrip(BLANKS)
        is_array = start.startswith(b"[")
        if re.match(rb"{\s*\n", start):
            raise DataError(
                f"{stream.name}: an object on several lines, and one on each line was expected, or an array of them",
                hint="jq -c . FILE | aecli COMMAND ... -",
            )
        self._blocks = _array_lines(stream, live=live) if is_array else _lines(stream, live=live)
        self._first_block = next(self._blocks, b"")
        self._peeked = self._read(self._first_block, 0, None) if self._first_block else pa.table({})
        super().__init__(stream.name, self._peeked.column_names, rows=None if self._first_block else 0)

    def share_read(self) -> float | None:
        return self._stream.share_read()

    def types(self) -> Mapping[str, pa.DataType]:
        return {field.name: field.type for field in self._peeked.schema}

    def peek(self) -> pa.Table:
        return self._peeked

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        rows, block = 0, self._first_block
        self._first_block = b""
        while block:
            columns = self._columns(block, rows, wanted)
            yield Piece(self.name, rows, columns)
            rows += len(columns[0])
            block = next(self._blocks, b"")

    def _columns(self, block: bytes, first_row: int, wanted: Sequence[tuple[str, str]]) -> list[Any]:
        types = {column: ARROW_TYPES.get(kind, pa.string()) for column, kind in wanted if kind != TEXT}
        types |= {column: _kept(self._peeked.schema.field(column).type) for column, kind in wanted if kind == TEXT}
        table = self._read(block, first_row, pa.schema(list(types.items())), dict(reversed(wanted)))
        return [as_kind(table[column], kind, self.name, column, first_row) for column, kind in wanted]

    def _read(
        self, block: bytes, first_row: int, schema: pa.Schema | None, kinds: dict[str, str] | None = None
    ) -> pa.Table:
        options = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore" if schema else "infer")
        try:
            block.decode()  # pyarrow accepts what is not UTF-8
            return pajson.read_json(io.BytesIO(block), pajson.ReadOptions(block_size=len(block) + 1), options)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
            self._explain(block, first_row, kinds or {})
            raise DataError(f"{self._stream.name}: {error}") from error

    def _explain(self, block: bytes, first_row: int, kinds: dict[str, str]) -> None:
        """Raise a DataError that names the row, and where there is one the key, where `block` cannot be parsed."""
        lines = (line for line in block.splitlines() if line.strip())
        for i, line in enumerate(lines, first_row + 1):
            place = f"{self._stream.name}: row {i}"
            try:
                row = json.loads(line.decode())
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{place} is not UTF-8: {shortened(line)}",
                    hint="convert the file first: iconv -f latin1 -t utf-8",
                ) from error
            except (ValueError, RecursionError) as error:
                raise DataError(f"{place} is not JSON: {shortened(line.decode())}") from error
            if not isinstance(row, dict):
                raise DataError(f"{place} is {shortened(row)}, and an object was expected")
            for column, kind in kinds.items():
                value, types = row.get(column), PYTHON_TYPES.get(kind, (str,))
                wrong = not isinstance(value, types) or (isinstance(value, bool) and kind != "boolean")
                if value is not None and wrong and kind != TEXT:
                    raise DataError(
                        f"{place}, column {column!r} holds {shortened(value)}, "
                        f"and the values of this feature must be {kind}s",
                        hint="correct it, or give null and train with --missing mean or --missing drop",
                    )


def _kept(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column that is carried along: JSON has no dates, and what was null so far may be text."""
    return pa.string() if pa.types.is_timestamp(kind) or pa.types.is_null(kind) else kind


def _lines(stream: Stream, *, live: bool) -> Iterator[bytes]:
    """Cut a stream into blocks of whole lines."""
    rest, first = b"", True
    while block := stream.block(BLOCK_BYTES, live=live):
        if first:
            block, first = block.removeprefix(BOM), False
        if len(rest) > MAX_LINE_BYTES:
            raise DataError(f"{stream.name}: a line of more than {MAX_LINE_BYTES >> 20} MB is no row")
        end = block.rfind(b"\n") + 1
        if not end:
            rest += block
            continue
        whole, rest = rest + block[:end], block[end:]
        if whole.strip():
            yield whole
    if rest.strip():
        yield rest


def _array_lines(stream: Stream, *, live: bool) -> Iterator[bytes]:
    """Cut the array that a stream holds into blocks of whole elements, each on a line of its own."""
    name, rest, begun = stream.name, b"", False
    while block := stream.block(BLOCK_BYTES, live=live):
        if len(rest) > MAX_LINE_BYTES:
            raise DataError(f"{name}: an object of more than {MAX_LINE_BYTES >> 20} MB is no row")
        rest += block
        if not begun:  # all before the bracket was looked at already
            rest, begun = rest.removeprefix(BOM).lstrip(BLANKS)[1:], True
        lines, rest, ended = _elements(rest)
        if lines.strip():
            yield lines
        if ended:
            _check_nothing_left(stream, rest)
            return
    raise DataError(f"{name}: the JSON array is never closed: the file is damaged or cut short")


def _elements(text: bytes) -> tuple[bytes, bytes, bool]:
    """Cut text that begins with an element of an array: its whole elements as lines, what is left, whether it ended.

    Commas between elements become the ends of lines, and what ends lines inside of elements, blanks.
    """
    plain = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")  # no quote that is left is escaped
    marks = MARKS[np.frombuffer(plain, np.uint8)]
    places = np.flatnonzero(marks)
    marks = marks[places]
    quotes = marks == QUOTE
    outside = (np.cumsum(quotes, dtype=np.int32) & 1 == 0) & ~quotes
    places, marks = places[outside], marks[outside]
    depth = np.cumsum(np.where(marks == COMMA, 0, marks), dtype=np.int32)
    ends = places[depth < 0]
    ended = len(ends) > 0
    commas = places[(marks == COMMA) & (depth == 0)]
    if ended:
        commas = commas[commas < ends[0]]
    end = int(ends[0]) if ended else int(commas[-1]) + 1 if len(commas) else 0
    lines = bytearray(text[:end].translate(BLANKED))
    np.frombuffer(lines, np.uint8)[commas] = ord("\n")
    return bytes(lines), text[end + ended :], ended


def _check_nothing_left(stream: Stream, rest: bytes) -> None:
    while not rest.strip(BLANKS):
        if not (rest := stream.block(BLOCK_BYTES)):
            return
    more = shortened(rest.strip()[:60].decode(errors="replace"))
    raise DataError(f"{stream.name}: more after the end of the JSON array: {more}")
