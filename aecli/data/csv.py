"""CSV from a file or a stream: read in blocks of whole records, each parsed by pyarrow with its types laid down.

Rows are counted from 1, below the header.
"""

import contextlib
import csv
import io
import os
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from aecli.data.stream import Stream
from aecli.data.table import ARROW_TYPES, TEXT, Piece, Table, is_number, timestamps
from aecli.errors import DataError
from aecli.pipeline import spread

BLOCK_BYTES = 4 << 20
MAX_RECORD_BYTES = 64 << 20
WORKERS = min(4, os.cpu_count() or 1)  # one thread a block: pyarrow's own take a third more processor time
HOLES = frozenset(pacsv.ConvertOptions().null_values)
BOOLEANS = frozenset(pacsv.ConvertOptions().true_values + pacsv.ConvertOptions().false_values)
OPENING_QUOTE = re.compile(rb'(^|[,;\t\n])"')  # elsewhere a quote is a character like others


class CsvTable(Table):
    """A CSV. Where its header is not said to be there or not, the first two rows tell."""

    def __init__(self, stream: Stream, *, delimiter: str = ",", header: bool | None = None, live: bool = False) -> None:
        """Read the header. A `live` stream is read as its bytes come, and not in large blocks."""
        self._stream, self._delimiter, self._live = stream, delimiter, live
        self._small = True  # so far all blocks could be read by `_small_rows`
        self._records = _records(stream, live=live)
        name, first = stream.name, next(self._records, b"")
        if not first.strip():
            raise DataError(f"{name}: no rows to read, it is empty")
        end = _first_record_end(first)
        cells = _cells(first[:end], name, delimiter)
        while header is None and _may_be_row(cells) and end == len(first) and (more := next(self._records, b"")):
            first += more  # a short block held one row alone
        if header is None:
            header = _is_header(cells, _cells(first[end:][: _first_record_end(first[end:])], name, delimiter))
        self._first_block = first[end:] if header else first
        if header and not self._first_block.strip() and not live:
            self._first_block = next(self._records, b"")
        no_rows = not live and not self._first_block.strip()
        names = cells if header else [f"x{i}" for i in range(len(cells))]
        super().__init__(name, names, named=header, rows=0 if no_rows else None)

    def share_read(self) -> float | None:
        return self._stream.share_read()

    def peek(self) -> pa.Table:
        try:
            return self._read(self._first_block, pacsv.ConvertOptions())
        except pa.ArrowInvalid as error:
            self._explain(self._first_block, 0, {})
            raise DataError(f"{self.name}: {error}") from error

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        def parse(block: bytes) -> tuple[bytes, list[Any] | pa.ArrowInvalid]:
            try:
                return block, self._parse(block, wanted)
            except pa.ArrowInvalid as error:
                return block, error

        rows = 0
        for block, columns in map(parse, self._blocks()) if self._live else spread(parse, self._blocks(), WORKERS):
            if isinstance(columns, pa.ArrowInvalid):
                self._explain(block, rows, dict(reversed(wanted)))
                raise DataError(f"{self.name}: {columns}") from columns
            yield Piece(self.name, rows, columns)
            rows += len(columns[0])

    def _blocks(self) -> Generator[bytes]:
        yield self._first_block
        self._first_block = b""
        yield from self._records

    def _parse(self, block: bytes, wanted: Sequence[tuple[str, str]]) -> list[Any]:
        """Return the wanted columns of a block. Raises pa.ArrowInvalid where a row or a cell is not as it should be."""
        once = {column: ARROW_TYPES.get(kind, pa.string()) for column, kind in reversed(wanted)}
        texts = {column: pa.string() for column, kind in wanted if kind == TEXT and once[column] != pa.string()}
        rows = self._small_rows(block, once)
        rows = self._rows(block, once) if rows is None else rows
        both = self._rows(block, texts) if texts else rows
        columns = [(both if kind == TEXT and column in texts else rows)[column] for column, kind in wanted]
        return [
            timestamps(values) if kind in ("date", "timestamp") else values
            for values, (_, kind) in zip(columns, wanted, strict=True)
        ]

    def _small_rows(self, block: bytes, types: dict[str, pa.DataType]) -> pa.RecordBatch | None:
        """Return a block's numbers as uint8, in three quarters of the time; None where they are not all of 0 to 255.

        After the first such block no other is tried: blocks that other threads had begun by then may still be uint8.
        """
        if self._small and b"0x" not in block and b"0X" not in block:  # a number to uint8 alone
            numbers = [column for column, kind in types.items() if kind == ARROW_TYPES["number"]]
            with contextlib.suppress(pa.ArrowInvalid):
                rows = self._rows(block, types | dict.fromkeys(numbers, pa.uint8()))
                if not any(rows[column].null_count for column in numbers):
                    return rows
        self._small = False
        return None

    def _rows(self, block: bytes, types: dict[str, pa.DataType]) -> pa.RecordBatch:
        table = self._read(block, pacsv.ConvertOptions(column_types=types, include_columns=list(types)))
        batches = table.to_batches()  # one at most, as the block is read in one go
        return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)

    def _read(self, block: bytes, convert: pacsv.ConvertOptions, invalid_row_handler: Any = None) -> pa.Table:
        if not block.strip():
            wanted = convert.include_columns or self.columns
            return pa.schema([(name, convert.column_types.get(name, pa.null())) for name in wanted]).empty_table()
        return pacsv.read_csv(
            pa.BufferReader(block),
            pacsv.ReadOptions(column_names=self.columns, use_threads=False, block_size=len(block) + 1),
            pacsv.ParseOptions(
                delimiter=self._delimiter, newlines_in_values=b'"' in block, invalid_row_handler=invalid_row_handler
            ),
            convert,
        )

    def _explain(self, block: bytes, first_row: int, kinds: dict[str, str]) -> None:
        """Raise a DataError that names the row, and where there is one the column, where `block` cannot be parsed."""
        ragged: list[Any] = []

        def note(row: Any) -> str:
            ragged.append(row)
            return "skip"

        readable = block.decode("latin-1").encode()  # `note` is not called for a row that is not UTF-8
        table = self._read(readable, pacsv.ConvertOptions(column_types=dict.fromkeys(self.columns, pa.string())), note)
        if ragged:
            row = ragged[0]
            raise DataError(
                f"{self.name}: row {first_row + row.number} has {row.actual_columns} cells, "
                f"and {row.expected_columns} were expected"
            )
        for column in self.columns:
            kind = kinds.get(column, TEXT)
            for i, shown in enumerate(table[column].to_pylist()):
                cell = shown.encode("latin-1")
                place = f"{self.name}: row {first_row + i + 1}, column {column!r}"
                try:
                    text = cell.decode()
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{place} is not UTF-8: {cell!r}", hint="convert the file first: iconv -f latin1 -t utf-8"
                    ) from error
                if kind != TEXT and text not in HOLES and not _is(kind, text):
                    raise DataError(
                        f"{place} holds {text!r}, and the cells of this feature must be {kind}s",
                        hint="correct the cell, or leave it empty and train with --missing mean or --missing drop",
                    )


def _records(stream: Stream, *, live: bool) -> Iterator[bytes]:
    """Cut a stream into blocks of whole records: a newline inside quotes ends none."""
    name, rest, first = stream.name, b"", True
    while block := stream.block(BLOCK_BYTES, live=live):
        if first:
            block, first = block.removeprefix(b"\xef\xbb\xbf"), False
        if len(rest) > MAX_RECORD_BYTES:
            raise DataError(f"{name}: a quote is opened and not closed within {MAX_RECORD_BYTES >> 20} MB")
        block = rest + block
        end = _last_record_end(block)
        rest = block[end:]
        if end:
            yield block[:end]
    if rest.count(b'"') % 2 and OPENING_QUOTE.search(rest):
        raise DataError(f"{name}: a quote is opened and never closed, after {rest[:40].decode(errors='replace')!r}")
    if rest:
        yield rest


def _last_record_end(block: bytes) -> int:
    """Find where the last whole record ends: after the last newline that an even number of quotes precedes."""
    end = block.rfind(b"\n") + 1
    quotes = block.count(b'"', 0, end)
    while end and quotes % 2:
        before = block.rfind(b"\n", 0, end - 1) + 1
        quotes -= block.count(b'"', before, end)
        end = before
    return end


def _first_record_end(block: bytes) -> int:
    end = 0
    while newline := block.find(b"\n", end) + 1:
        end = newline
        if block.count(b'"', 0, end) % 2 == 0:
            return end
    return len(block)


def _cells(record: bytes, name: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(record.decode(), newline=""), delimiter=delimiter), [])
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: not UTF-8 text, an early line holds {record[error.start : error.end]!r}",
            hint="convert the file first: iconv -f latin1 -t utf-8",
        ) from error
    except csv.Error as error:
        raise DataError(f"{name}: an early line cannot be read ({error})") from error


def _may_be_row(cells: list[str]) -> bool:
    return any(is_number(cell) for cell in cells)


def _is_header(first: list[str], second: list[str]) -> bool:
    """Tell a header from a row: no number, or 0, 1, 2 and so on, or text where the next row holds a number."""
    if not _may_be_row(first) or first == [str(i) for i in range(len(first))]:
        return True
    return any(
        is_number(below) and not is_number(above) and above not in HOLES
        for above, below in zip(first, second, strict=False)
    )


def _is(kind: str, text: str) -> bool:
    """Return whether a cell is written as its kind is."""
    if kind == "number":
        return is_number(text)
    if kind == "boolean":
        return text in BOOLEANS
    try:
        timestamps(pa.array([text]))
    except pa.ArrowInvalid:
        return kind == "category"
    return True
