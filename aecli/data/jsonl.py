"""JSON Lines: one object per line, parsed by pyarrow in blocks of whole lines, with fixed types.

A JSON array of objects is cut into such lines as it is read. Rows are counted from 1.
"""

import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from aecli.data import compute as pc
from aecli.data.arrow import flattened
from aecli.data.cells import is_number
from aecli.data.formats import BLANKS, BOM
from aecli.data.kinds import TEXT, shortened, timestamps
from aecli.data.stream import Stream
from aecli.data.table import ARROW_TYPES, WORDS, Piece, Table, as_kind, mend
from aecli.errors import DataError, EmptyRowError
from aecli.options import PLAINLY, Applying

BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 20
QUOTE, COMMA = 2, 3
MARKS = np.zeros(256, np.int8)
MARKS[[ord(each) for each in '"{[}],']] = [QUOTE, 1, 1, -1, -1, COMMA]
BLANKED = bytes.maketrans(b"\r\n", b"  ")
PYTHON_TYPES: dict[str, tuple[type, ...]] = {"number": (int, float), "category": (str, int, float)}


class JsonLinesTable(Table):
    """Objects, one per line or in an array.

    The keys of the first block are the columns; if a later object lacks a key, that is a hole.
    """

    is_text = True

    def __init__(
        self, stream: Stream, *, live: bool = False, training: bool = True, applying: Applying = PLAINLY
    ) -> None:
        self._stream, self._mend = stream, mend(applying, training=training)
        start = stream.peek().removeprefix(BOM).lstrip(BLANKS)
        is_array = start.startswith(b"[")
        if re.match(rb"{\s*\n", start):
            raise DataError(
                f"{stream.name}: an object on several lines, and one object per line or an array was expected",
                hint="jq -c . FILE | aecli COMMAND ... -",
            )
        self._blocks = _array_lines(stream, live=live) if is_array else _lines(stream, live=live)
        self._first_block = next(self._blocks, b"")
        self._unread: DataError | None = None  # why the first block cannot be read as a whole
        peeked = self._peek(self._first_block) if self._first_block else pa.table({})
        self._fields = {field.name: field.type for field in peeked.schema}  # unflattened, with objects inside objects
        self._peeked = flattened(peeked)
        super().__init__(stream.name, self._peeked.column_names, rows=None if self._first_block else 0)

    def share_read(self) -> float | None:
        return self._stream.share_read()

    def types(self) -> Mapping[str, pa.DataType]:
        return {field.name: field.type for field in self._peeked.schema}

    def peek(self) -> pa.Table:
        if self._unread is not None:
            raise self._unread
        return self._peeked

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        rows, block = 0, self._first_block
        self._first_block = b""
        while block:
            columns, bad = self._columns(block, rows, wanted)
            yield Piece(self.name, rows, columns, bad)
            rows += len(columns[0])
            block = next(self._blocks, b"")

    def _peek(self, block: bytes) -> pa.Table:
        """Return the first block with the types of its values, without the rows that cannot be read."""
        try:
            return self._read(block, None)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
            rows = [self._row(line, number) for number, line in enumerate(_told(block), 1)]
            objects = [row for row in rows if isinstance(row, dict)]
            first = next((row for row in rows if isinstance(row, DataError)), None)
            if not objects:
                raise (first or DataError(f"{self._stream.name}: {error}")) from error
            keys = dict.fromkeys(key for row in objects for key in row)
            self._unread = first or self._of_two_types(objects)
            return pa.table({key: _array([row.get(key) for row in objects]) for key in keys})

    def _of_two_types(self, rows: list[dict[str, Any]]) -> DataError | None:
        """Return the error for the first value of another type than the ones before it in its column."""
        seen: dict[str, str] = {}
        for number, row in enumerate(rows, 1):
            for key, value in row.items():
                kind = "numbers" if isinstance(value, bool) and _is_mixed(key, rows) else _json_type(value)
                if kind is not None and seen.setdefault(key, kind) != kind:
                    return DataError(
                        f"{self._stream.name}: row {number}, column {key!r} holds {shortened(value)}, and the values "
                        f"before it are {seen[key]}"
                    )
        return None

    def _columns(
        self, block: bytes, first_row: int, wanted: Sequence[tuple[str, str]]
    ) -> tuple[list[Any], dict[int, DataError]]:
        """Return the wanted columns, with nulls in rows that cannot be read, and these rows' errors."""
        types = {column: self._read_as(column, kind) for column, kind in wanted if kind != TEXT}
        types |= {column: _kept(self._peeked.schema.field(column).type) for column, kind in wanted if kind == TEXT}
        try:
            table = flattened(self._read(block, pa.schema(_nested(types, self._fields))))
            columns = [as_kind(table[column], kind, self.name, column, first_row) for column, kind in wanted]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, DataError):
            return self._reread(block, first_row, wanted)
        blank: Any = True
        for column in columns:
            if not column.null_count:
                return columns, {}
            blank = pc.and_(column.is_null(), blank)
        return self._reread(block, first_row, wanted) if pc.any(blank).as_py() else (columns, {})

    def _read_as(self, column: str, kind: str) -> pa.DataType:
        """Return the type to read a column as: its own, if a cast converts that to the kind; else the kind's."""
        found, laid_down = self._peeked.schema.field(column).type, ARROW_TYPES.get(kind, pa.string())
        is_text = pa.types.is_string(found)
        cast = (kind == "number" and is_text) or (kind == "category" and not is_text and not pa.types.is_null(found))
        return found if cast else laid_down

    def _read(self, block: bytes, schema: pa.Schema | None) -> pa.Table:
        options = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore" if schema else "infer")
        block.decode()  # pyarrow accepts what is not UTF-8
        return pajson.read_json(io.BytesIO(block), pajson.ReadOptions(block_size=len(block) + 1), options)

    def _reread(
        self, block: bytes, first_row: int, wanted: Sequence[tuple[str, str]]
    ) -> tuple[list[Any], dict[int, DataError]]:
        """Return the wanted columns of a block and the errors of its bad rows, read row by row."""
        rows: list[dict[str, Any]] = []
        bad: dict[int, DataError] = {}
        for place, line in enumerate(_told(block)):
            row = self._row(line, first_row + place + 1)
            if isinstance(row, DataError):
                bad[place] = row
            rows.append(row if isinstance(row, dict) else {})
        columns = [[_value(row, column) for row in rows] for column, _ in wanted]
        for (column, kind), values in zip(wanted, columns, strict=True):
            for place, value in enumerate(values):
                if value is not None and not self._fits(column, kind, value):
                    bad.setdefault(
                        place,
                        DataError(
                            f"{self._stream.name}: row {first_row + place + 1}, column {column!r} holds "
                            f"{shortened(value)}, and the values of this feature must be {WORDS.get(kind, f'{kind}s')}",
                            hint=self._mend,
                        ),
                    )
        arrays = []
        for (column, kind), values in zip(wanted, columns, strict=True):
            good = [None if place in bad else value for place, value in enumerate(values)]
            if kind == TEXT:  # readable text is kept: it may name the row
                good = [value if value is None or self._fits(column, kind, value) else None for value in values]
                arrays.append(pa.array(good, _kept(self._peeked.schema.field(column).type)))
            elif kind in MADE:
                make = MADE[kind]
                arrays.append(pa.array([None if value is None else make(value) for value in good], ARROW_TYPES[kind]))
            else:
                texts = pa.array(good, ARROW_TYPES.get(kind, pa.string()))
                arrays.append(as_kind(texts, kind, self.name, column, first_row))
        return arrays, dict(sorted(bad.items()))

    def _fits(self, column: str, kind: str, value: Any) -> bool:
        """Return whether a value is of its kind."""
        found = self._peeked.schema.field(column).type
        if kind == TEXT:
            return _casts(value, lambda: pa.array([value], found))
        if kind == "vector":
            return isinstance(value, list) and _json_type(value) in (None, "lists of numbers")
        if kind == "number" and isinstance(value, str) and pa.types.is_string(found):
            return is_number(value)
        if kind in ("date", "timestamp"):
            return isinstance(value, str) and _casts(value, lambda: timestamps(pa.array([value], pa.string())))
        if kind == "boolean":
            return isinstance(value, bool) or value in (0, 1)
        types = PYTHON_TYPES.get(kind, (str,))
        return isinstance(value, types) and (kind == "category" or not isinstance(value, bool))

    def _row(self, line: bytes, number: int) -> dict[str, Any] | DataError:
        """Return the object in a line, or an error that says why there is none."""
        place = f"{self._stream.name}: row {number}"
        try:
            row = json.loads(line.decode())
        except UnicodeDecodeError:
            return DataError(
                f"{place} is not UTF-8: {shortened(line)}", hint="convert the file first: iconv -f latin1 -t utf-8"
            )
        except (ValueError, RecursionError):
            return DataError(f"{place} is not JSON: {shortened(line.decode())}")
        if not isinstance(row, dict):
            return DataError(f"{place} is {shortened(row)}, and an object was expected")
        if all(value is None for value in row.values()):
            return EmptyRowError(f"{place} has no value at all: {shortened(line.decode().strip())}")
        return row


def _is_mixed(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a column holds only true, false, 0, 1 and null, which makes it a column of booleans."""
    return all(row.get(key) in (None, 0, 1) for row in rows)


def _nested(types: Mapping[str, pa.DataType], fields: Mapping[str, pa.DataType]) -> list[tuple[str, pa.DataType]]:
    """Return the nested fields for flat names: `item.name` becomes a field of `item`, if `fields` has such a struct."""
    inside: dict[str, dict[str, pa.DataType]] = {}
    made: list[tuple[str, pa.DataType]] = []
    for name, kind in types.items():
        outer = next((o for o, f in fields.items() if pa.types.is_struct(f) and name.startswith(f"{o}.")), None)
        if outer is None or name in fields:
            made.append((name, kind))
        else:
            inside.setdefault(outer, {})[name[len(outer) + 1 :]] = kind
    for outer, within in inside.items():
        made.append((outer, pa.struct(_nested(within, {field.name: field.type for field in fields[outer]}))))
    return made


def _value(row: Mapping[str, Any], column: str) -> Any:
    """Return the value of a column, which may be in an object inside the row."""
    outer, point, inner = column.partition(".")
    if column in row or not point:
        return row.get(column)
    within = row.get(outer)
    return _value(within, inner) if isinstance(within, dict) else None


def _told(block: bytes) -> list[bytes]:
    return [line for line in block.split(b"\n") if line.strip()]


def _json_type(value: Any) -> str | None:
    """Return the word for values of this type; None for null, and for a list without values."""
    names = {bool: "booleans", int: "numbers", float: "numbers", str: "texts", dict: "objects"}
    if not isinstance(value, list):
        return names.get(type(value))
    inside = sorted({name for each in value if (name := _json_type(each))})
    return f"lists of {' and '.join(inside)}" if inside else None


def _array(values: list[Any]) -> Any:
    """Return values as a column of their most frequent type; values of other types become null."""
    if any(isinstance(value, bool) for value in values) and all(value in (None, 0, 1) for value in values):
        return pa.array([None if value is None else bool(value) for value in values])
    types = [_json_type(value) for value in values]
    most = Counter(kind for kind in types if kind).most_common(1)
    alike = [value if not kind or kind == most[0][0] else None for kind, value in zip(types, values, strict=True)]
    try:
        return pa.array(alike)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else _word(value) for value in alike], pa.string())


def _casts(value: Any, cast: Callable[[], Any]) -> bool:
    try:
        cast()
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return value is not None


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


MADE: dict[str, Callable[[Any], Any]] = {"number": _float, "boolean": bool, "category": _word}


def _kept(kind: pa.DataType) -> pa.DataType:
    """Return the type to read a kept column as: JSON has no dates, and a column of nulls may hold text later."""
    return pa.string() if pa.types.is_timestamp(kind) or pa.types.is_null(kind) else kind


def _lines(stream: Stream, *, live: bool) -> Iterator[bytes]:
    """Yield a stream in blocks of whole lines."""
    rest, first = b"", True
    while block := stream.block(BLOCK_BYTES, live=live):
        if first:
            block, first = block.removeprefix(BOM), False
        if len(rest) > MAX_LINE_BYTES:
            raise DataError(f"{stream.name}: a line of more than {MAX_LINE_BYTES >> 20} MB is not a row")
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
    """Yield the array in a stream in blocks of whole elements, one per line."""
    name, rest, begun = stream.name, b"", False
    while block := stream.block(BLOCK_BYTES, live=live):
        if len(rest) > MAX_LINE_BYTES:
            raise DataError(f"{name}: an object of more than {MAX_LINE_BYTES >> 20} MB is not a row")
        rest += block
        if not begun:  # everything before the bracket was checked already
            rest, begun = rest.removeprefix(BOM).lstrip(BLANKS)[1:], True
        lines, rest, ended = _elements(rest)
        if lines.strip():
            yield lines
        if ended:
            _check_nothing_left(stream, rest)
            return
    raise DataError(f"{name}: the JSON array is never closed: the file is damaged or cut short")


def _elements(text: bytes) -> tuple[bytes, bytes, bool]:
    """Return the whole elements of an array's text as lines, the rest of the text, and whether the array ended.

    `text` begins with an element. Commas between elements become line ends; line ends inside elements become spaces.
    """
    plain = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")  # now no quote is escaped
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
    raise DataError(f"{stream.name}: there is text after the end of the JSON array: {more}")
