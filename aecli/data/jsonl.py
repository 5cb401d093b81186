"""JSON Lines: one object a line, parsed by pyarrow in blocks of whole lines, with the types laid down.

Rows are counted from 1.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.json as pajson

from aecli.data.stream import Stream
from aecli.data.table import ARROW_TYPES, TEXT, Piece, Table, as_kind, shortened
from aecli.errors import DataError

BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 20
PYTHON_TYPES: dict[str, tuple[type, ...]] = {"number": (int, float), "boolean": (bool,), "category": (str,)}


class JsonLinesTable(Table):
    """A stream of objects. The keys of the first block are the columns; one that a later object lacks is a hole."""

    def __init__(self, stream: Stream, *, live: bool = False) -> None:
        self._stream = stream
        self._blocks = _lines(stream, live=live)
        self._first_block = next(self._blocks, b"")
        if not self._first_block.strip():
            raise DataError(f"{stream.name}: no rows to read, it is empty")
        self._peeked = self._read(self._first_block, 0, None)
        super().__init__(stream.name, self._peeked.column_names)

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
    rest = b""
    while block := stream.block(BLOCK_BYTES, live=live):
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
