"""CSV from a file or a stream, read in blocks of whole records; pyarrow parses each block with fixed types.

Rows are counted from 1, below the header; lines are counted as in the file. If pyarrow refuses a block, the block is
read again as text to find the bad rows.
"""

import codecs
import contextlib
import csv
import dataclasses
import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from aecli.config import Dialect, Schema
from aecli.data import cells
from aecli.data import compute as pc
from aecli.data.dialect import SAMPLE_BYTES, Found, about_comments, check_reading, find, na_values, not_encoded, nothing
from aecli.data.kinds import TEXT, shortened, timestamps
from aecli.data.records import Text, newlines, record_lines, records
from aecli.data.source import Array
from aecli.data.stream import Stream, changed
from aecli.data.table import ARROW_TYPES, Piece, Table, mend, mend_marks
from aecli.errors import DataError, EmptyRowError, Piped
from aecli.options import AS_IT_IS, PLAINLY, Applying, Reading
from aecli.pipeline import spread

WORKERS = min(4, os.cpu_count() or 1)  # one thread per block: pyarrow's own threads cost a third more CPU time
DROPPED = "\0dropped"  # the internal name of an empty last column
DATES = ("date", "timestamp")
NUMBER = ARROW_TYPES["number"]
KEEP, PRIVATE = "aecli-keep", 0xF700  # error handler: undecodable bytes become private-use characters
PEEKED_CELLS = 1000


def _kept(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(PRIVATE + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(KEEP, _kept)


@dataclass(frozen=True)
class _Bad:
    """Why a row cannot be read: the error's text, and whether it names the line."""

    what: str
    hint: str | None = None
    in_line: bool = False
    leave_out: bool = False  # whether the hint is a command that trains without the line
    empty: bool = False
    column: int | None = None  # the position of the wanted column whose cell is bad


@dataclass(frozen=True)
class _Parsed:
    """The wanted columns of a block, its number of lines, and its bad rows by position."""

    columns: list[Any]
    lines: int
    text: bytes
    removed: list[int]
    comment: bytes | None
    bad: dict[int, _Bad] = field(default_factory=dict)


class CsvTable(Table):
    """A CSV. Its dialect comes from `reading`, from a model's `schema`, or else from its first lines."""

    is_text = True
    dialect: Dialect

    def __init__(
        self,
        stream: Stream,
        reading: Reading = AS_IT_IS,
        schema: Schema | None = None,
        *,
        live: bool = False,
        applying: Applying = PLAINLY,
        announce: Callable[[str], None] = lambda _: None,
        default_delimiter: str | None = None,
    ) -> None:
        """Read the header. A `live` stream is read as its bytes arrive, and not in large blocks.

        `default_delimiter` is the one that the file's name suggests.
        Raises DataError if there is no table, UsageError for options that make no sense.
        """
        check_reading(reading)
        self._stream, self._live, self._announce, self._training = stream, live, announce, schema is None
        self._applying = applying
        self.na = na_values(reading, schema)
        self._small = not any(
            0 <= float(value) <= 255 for value in self.na if cells.is_number(value)
        )  # whether all blocks so far may be read as uint8
        text = Text(stream, reading, schema, live=live)
        self._records = records(stream.name, text.blocks())
        self._sampled: deque[bytes] = deque()
        found = self._find(reading, schema, text, default_delimiter)
        if found is None:
            if schema is None:
                raise DataError(f"{stream.name}: no rows to read, it is empty")
            found = nothing(schema, schema.dialect or Dialect())
        self._found = found
        self._commented = found.commented  # whether a note about comments was announced
        for note in found.notes:
            announce(note)
        self.nameless = self._found.nameless  # columns whose names the program made
        no_rows = not live and not any(block.strip() for block in self._sampled)
        rows = 0 if no_rows else None
        super().__init__(stream.name, self._found.names, named=self._found.dialect.header, rows=rows)
        self.dialect = self._found.dialect
        self._texts: pa.Table | None = None  # the first rows as they are written, read on first use
        self._physical = [*self.columns, *[DROPPED] * self._found.dropped]
        self._delimiter = "\t" if self.dialect.delimiter == " " else self.dialect.delimiter
        self._nulls = [*pacsv.ConvertOptions().null_values, *self.na]  # few, because each costs time in each column

    def _find(self, reading: Reading, schema: Schema | None, text: Text, default: str | None) -> Found | None:
        """Read the first blocks and find their dialect. Return None if there are none."""
        sample, complete = b"", False
        while True:
            try:
                block = next(self._records, b"")
            except DataError as error:
                if not sample:
                    raise
                block, self._records = b"", _broken_off(error)  # raised after the rows before it
            complete = not block
            sample += block
            if block:
                self._sampled.append(block)
            if len(sample) < SAMPLE_BYTES and not self._live and not complete:
                continue
            complete = complete or len(sample) >= SAMPLE_BYTES
            if not sample.strip():
                if complete:
                    return None
                continue
            found = find(
                self._stream.name,
                sample,
                reading,
                schema,
                encoding=text.encoding,
                default_delimiter=default,
                complete=complete,
            )
            if found is not None:
                self._skip(found.start)
                return found

    def _skip(self, count: int) -> None:
        """Drop the first bytes of the sample."""
        while count and self._sampled:
            block = self._sampled.popleft()
            if len(block) > count:
                self._sampled.appendleft(block[count:])
            count = max(0, count - len(block))

    def share_read(self) -> float | None:
        return self._stream.share_read()

    def peek(self) -> pa.Table:
        block = b"".join(self._sampled)
        if not block.strip():
            block = next(self._records, b"")
            self._sampled.append(block)
        text, _, _ = self._prepared(block)
        if not text.strip() and self._training:
            raise DataError(f"{self.name}: no rows to read, only a header")
        convert = pacsv.ConvertOptions(
            null_values=self._nulls, decimal_point=self.dialect.decimal, include_columns=self.columns
        )
        try:
            table = self._read_text(text, convert)
        except pa.ArrowInvalid as error:
            parsed = self._reread(block, [(column, TEXT) for column in self.columns])
            if parsed.bad and self._training:
                raise self._errors(parsed, 0, self._found.line)[min(parsed.bad)] from error
            rows = pa.array(~cells.mask_of(parsed.bad, len(parsed.columns[0])))
            names = [str(i) for i in range(len(self.columns))]
            clean = pa.table([column.filter(rows) for column in parsed.columns], names)
            table = _inferred(clean, convert.null_values, self.dialect.decimal).rename_columns(self.columns)
        columns = table.columns
        better = [self._typed(column) for column in columns]
        if any(column is not None for column in better):
            columns = [a if b is None else b for a, b in zip(columns, better, strict=True)]
            table = pa.table(columns, self.columns)
        if self._training:
            self._look(table, text)
        return table

    def _read_text(self, text: bytes, convert: pacsv.ConvertOptions) -> pa.Table:
        """Return rows with inferred types. Raises pa.ArrowInvalid also if a cell is not UTF-8."""
        table = self._read(text, convert)
        if any(map(pa.types.is_binary, table.schema.types)):  # pyarrow's type for such a column
            raise pa.ArrowInvalid("not UTF-8")
        return table

    def _typed(self, column: Any) -> Any | None:
        """Return a peeked column with a better type than pyarrow's; None if there is none."""
        if pa.types.is_integer(column.type) and self.dialect.date_format is not None:  # such as 20240131
            texts = cells.as_array(column).cast(pa.string())
            values, bad = self._dates(texts)
            if not bad.any():
                return self._days(values, texts)
        if not pa.types.is_string(column.type):
            return cells.without(cells.as_array(column), self.na) if self.na else None
        texts = cells.as_array(column)
        first = texts[:PEEKED_CELLS]
        for convert in (self._dates, lambda values: cells.numbers(values, self.dialect, self.na)):
            _, bad = convert(first)
            if not bad.any():
                values, bad = convert(texts)
                if not bad.any():
                    return self._days(values, first)
        if self.dialect.date_format is None and len(formats := cells.date_formats(first.to_pylist())) == 1:
            values, bad = cells.dates(texts, formats[0], timestamps, self.na)
            if not bad.any():
                self.dialect = dataclasses.replace(self.dialect, date_format=formats[0])
                return self._days(values, first)
        return None

    @staticmethod
    def _days(values: Any, texts: Any) -> Any:
        """Return timestamps as dates if their texts have no time of day."""
        is_day = pa.types.is_timestamp(values.type) and not pc.any(pc.match_substring(texts, ":")).as_py()
        return values.cast(pa.date32()) if is_day else values

    def _dates(self, texts: Any) -> tuple[Any, Array]:
        return cells.dates(texts, self.dialect.date_format, timestamps, self.na)

    def _look(self, table: pa.Table, text: bytes) -> None:
        """Raise DataError for a row of units below the header; ask the user whether points group thousands."""
        end = min(len(text), SAMPLE_BYTES)
        sample = text[: text.rfind(b"\n", 0, end) + 1] or text
        with contextlib.suppress(pa.ArrowInvalid):
            first = self._read(sample, _as_texts(self._physical))
            columns = [column.to_pylist() for column in first.columns[: len(self.columns)]]
            if self.named and self._has_units(columns):
                raise DataError(
                    f"{self.name}: line {self._found.line} holds no number, and the lines below do: "
                    f"{shortened(_first_line(text))}",
                    piped=self._without_line(self._found.line),
                )
            if self.dialect.thousands is None and self.dialect.decimal == ".":
                for column, kind, values in zip(self.columns, table.schema.types, columns, strict=True):
                    if pa.types.is_floating(kind) and (pair := cells.grouped_by_points(values)):
                        self._announce(
                            f"column {column!r} holds {pair[0]} beside {pair[1]}: if the point groups thousands, "
                            "add --thousands ."
                        )

    @staticmethod
    def _has_units(columns: list[list[str]]) -> bool:
        """Return whether the first row has text above numbers, and no number."""
        if any(cells.is_number(column[0]) for column in columns if column):
            return False
        told = [[cell for cell in column[1:] if cell.strip() not in cells.HOLES] for column in columns if column]
        of_numbers = [len(rest) >= 2 and all(map(cells.is_number, rest)) for rest in told]
        odd = [column[0].strip() not in cells.HOLES for column in columns if column]
        return 2 * sum(of_numbers) > len(columns) and any(a and b for a, b in zip(of_numbers, odd, strict=True))

    def written(self, column: str, row: int) -> str | None:
        texts = self._first_texts()
        with contextlib.suppress(UnicodeDecodeError):
            return str(texts[column][row].as_py()) if texts is not None and row < len(texts) else None
        return None

    def code(self, column: str) -> str | None:
        texts = self._first_texts()
        if texts is None:
            return None
        told = texts[column].filter(pc.match_substring_regex(texts[column], r"^\s*(0[0-9]+|[0-9]{16,})\s*$"))
        return str(told[0].as_py()).strip() if len(told) else None  # digits alone, whatever the encoding

    def _first_texts(self) -> pa.Table | None:
        """Return the first rows as they are written, up to SAMPLE_BYTES; None if they cannot be read as text."""
        if self._texts is None and self._sampled:
            block = self._sampled[0]
            block = block[: block.rfind(b"\n", 0, SAMPLE_BYTES) + 1] or block
            with contextlib.suppress(pa.ArrowInvalid):
                self._texts = self._read(self._prepared(block)[0], _as_texts(self._physical))
        return self._texts

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        def parse(block: bytes) -> _Parsed:
            return self._parse(block, wanted)

        rows, line = 0, self._found.line
        for parsed in map(parse, self._blocks()) if self._live else spread(parse, self._blocks(), WORKERS):
            if parsed.comment is not None and not self._commented:
                self._commented = True
                self._announce(about_comments(parsed.comment.decode(errors="replace"), len(self._physical)))
            yield Piece(self.name, rows, parsed.columns, self._errors(parsed, rows, line) if parsed.bad else {})
            rows += len(parsed.columns[0])
            line += parsed.lines

    def _errors(self, parsed: _Parsed, first_row: int, first_line: int) -> dict[int, DataError]:
        """Return the errors of a block's bad rows by position."""
        lines = record_lines(parsed.text, parsed.removed) if any(bad.in_line for bad in parsed.bad.values()) else None
        first, most = min(parsed.bad), 2 * len(parsed.bad) > len(parsed.columns[0])
        errors = {}
        for place, bad in parsed.bad.items():
            line = first_line + int(lines[place]) if lines is not None and place < len(lines) else None
            where = f"row {first_row + place + 1}" + (f" (line {line})" if bad.in_line and line is not None else "")
            hint, piped = bad.hint, self._without_line(line) if bad.leave_out and line and place == first else None
            if bad.in_line and first_row + place == 0 and line and line > 1 and most:
                hint, piped = f"if the table begins further down, add --skip-rows {line - 1}", None
            error = EmptyRowError if bad.empty else DataError
            errors[place] = error(f"{self.name}: {where}{bad.what}", hint=hint, piped=piped)
        return errors

    def _blocks(self) -> Generator[bytes]:
        empty = True
        while self._sampled:
            if (block := self._sampled.popleft()).strip():
                empty = False
                yield block
        for block in self._records:
            empty = False
            yield block
        if empty:
            yield b""  # a piece without rows still has the columns

    def _parse(self, block: bytes, wanted: Sequence[tuple[str, str]]) -> _Parsed:
        """Return the wanted columns of a block."""
        try:
            text, removed, comment = self._prepared(block)
            columns, bad = self._converted(self._typed_columns(text, wanted), wanted)
            if not bad and not _may_be_blank(columns):
                return _Parsed(columns, newlines(block), text, removed, comment)
        except pa.ArrowInvalid:
            pass
        return self._reread(block, wanted)

    def _typed_columns(self, text: bytes, wanted: Sequence[tuple[str, str]]) -> list[Any]:
        """Return the wanted columns. Raises pa.ArrowInvalid if a row or a cell does not fit."""
        once = {column: self._read_as(kind) for column, kind in reversed(wanted)}
        texts = {column: pa.string() for column, kind in wanted if kind == TEXT and once[column] != pa.string()}
        rows = self._small_rows(text, once)
        rows = self._rows_with_holes(text, once) if rows is None else rows
        both = self._rows(text, texts) if texts else rows
        return [(both if kind == TEXT and column in texts else rows)[column] for column, kind in wanted]

    def _read_as(self, kind: str) -> pa.DataType:
        """Return the pyarrow type to read for a kind of column."""
        if kind == "number" and self.dialect.thousands is not None:
            return pa.string()
        return ARROW_TYPES.get(kind, pa.string())

    def _small_rows(self, block: bytes, types: dict[str, pa.DataType]) -> pa.RecordBatch | None:
        """Return a block's numbers as uint8, a quarter faster to parse; None unless all are integers from 0 to 255.

        After the first block that does not fit, no other is tried. Blocks that other threads have already begun may
        still be uint8.
        """
        if self._small and not any(x in block and b"0" + x in block for x in (b"x", b"X")):  # only uint8 takes 0x1
            numbers = [column for column, kind in types.items() if kind == NUMBER]
            with contextlib.suppress(pa.ArrowInvalid):
                rows = self._rows(block, types | dict.fromkeys(numbers, pa.uint8()))
                if not any(rows[column].null_count for column in numbers):
                    return rows
        self._small = False
        return None

    def _rows_with_holes(self, block: bytes, types: dict[str, pa.DataType]) -> pa.RecordBatch:
        """Return a block's rows. After the first block with a rare spelling of a hole, all spellings are read."""
        try:
            return self._rows(block, types)
        except pa.ArrowInvalid:
            spellings = [each for each in cells.holes(self.na) if each]
            every = ["", *spellings, *(" " * n for n in range(1, 9)), *(f" {each}" for each in spellings)]
            if len(self._nulls) == len(every):
                raise
            rows = self._rows(block, types, every)
            self._nulls = every
            return rows

    def _rows(self, block: bytes, types: dict[str, pa.DataType], nulls: list[str] | None = None) -> pa.RecordBatch:
        if self._found.dropped:
            types = types | {DROPPED: pa.null()}
        options = pacsv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=nulls or self._nulls,
            decimal_point=self.dialect.decimal,
        )
        if pa.bool_() in types.values():  # each value costs time in each column
            options.true_values, options.false_values = sorted(cells.TRUE), sorted(cells.FALSE)
        table = self._read(block, options)
        batches = table.to_batches()  # at most one, because the block is read in one go
        return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)

    def _read(self, block: bytes, convert: pacsv.ConvertOptions, invalid_row_handler: Any = None) -> pa.Table:
        if not block:
            names = convert.include_columns or self._physical
            return pa.schema([(name, convert.column_types.get(name, pa.null())) for name in names]).empty_table()
        return pacsv.read_csv(
            pa.BufferReader(block),
            pacsv.ReadOptions(column_names=self._physical, use_threads=False, block_size=len(block) + 1),
            pacsv.ParseOptions(
                delimiter=self._delimiter,
                newlines_in_values=b'"' in block,
                ignore_empty_lines=False,
                invalid_row_handler=invalid_row_handler,
            ),
            convert,
        )

    def _converted(self, columns: list[Any], wanted: Sequence[tuple[str, str]]) -> tuple[list[Any], dict[int, _Bad]]:
        """Return the columns converted to their kinds, with nulls for cells that do not fit; and the bad rows."""
        out: list[Any] = []
        bad: dict[int, _Bad] = {}
        numbers: list[int] = []  # the columns of numbers that have bad cells, or may have
        for i, (values, (column, kind)) in enumerate(zip(columns, wanted, strict=True)):
            converted, wrong = self._as_kind(values, kind)
            out.append(converted)
            if wrong is None:
                continue
            numbers += [i] * (kind == "number")
            for place in np.flatnonzero(wrong).tolist():
                if place not in bad:
                    found = f", column {column!r} holds {shortened(values[place].as_py())}"
                    what = f"{found}, and the cells of this feature must be {kind}s"
                    bad[place] = _Bad(what, mend(self._applying, training=self._training), column=i)
        if bad and numbers and (marked := cells.other_marks([columns[i] for i in numbers], self.dialect, self.na)):
            marks, unread = marked
            left = dict(zip(numbers, unread, strict=True))
            hint = mend_marks(self.name, marks, self._applying, training=self._training)
            for place, each in bad.items():
                if each.column in left and not left[each.column][place]:
                    bad[place] = dataclasses.replace(each, hint=hint)
        return out, bad

    def _as_kind(self, values: Any, kind: str) -> tuple[Any, Array | None]:
        """Return a column converted to its kind, and a mask of the cells that do not fit; None if all fit."""
        if not pa.types.is_string(values.type):
            return (cells.without(values, self.na) if kind == "number" and self.na else values), None
        if kind == "number":
            return cells.numbers(values, self.dialect, self.na)
        if kind == "boolean":
            return cells.booleans(values, self.na)
        if kind in DATES:
            return self._dates(values)
        if kind == "category" and self.na:
            named = pc.is_in(pc.utf8_trim_whitespace(values), pa.array(self.na, pa.string()))
            return pc.if_else(named, None, values), None
        return values, None

    def _reread(self, block: bytes, wanted: Sequence[tuple[str, str]]) -> _Parsed:
        """Return the wanted columns of a block with bad rows, by reading its cells as text."""
        text, removed, comment = self._prepared(block)
        ragged: list[tuple[int, _Bad]] = []

        def note(row: Any) -> str:
            ragged.append((row.number - 1, self._ragged(row.actual_columns, row.text)))
            return "skip"

        readable, is_text = text, True
        try:
            text.decode()
        except UnicodeDecodeError:
            readable, is_text = text.decode("utf-8", KEEP).encode(), False
        table = self._read(readable, _as_texts(self._physical), note)
        every = [cells.as_array(column) for column in table.columns]
        places = {column: i for i, column in enumerate(self._physical)}
        columns, bad = self._converted([every[places[column]] for column, _ in wanted], wanted)
        undecoded = {} if is_text else self._undecoded([column for column, _ in wanted], every, places, text)
        bad |= undecoded
        if self._found.dropped:
            filled = cells.stripped(every[-1], self.na).is_valid().to_numpy(zero_copy_only=False)
            for place in np.flatnonzero(filled).tolist():
                line = self._delimiter.join(str(column[place]) for column in every)
                bad[place] = self._ragged(len(self._physical), line, expected=len(self.columns))
        for place in np.flatnonzero(self._blank(every)).tolist():
            bad[place] = self._bad_line(" has no value at all", "remove blank lines", empty=True)
        for i, (_, kind) in enumerate(wanted):  # readable text is kept: it may name the row
            if places_without := undecoded if kind == TEXT else bad:
                columns[i] = pc.if_else(pa.array(cells.mask_of(places_without, len(columns[i]))), None, columns[i])
        columns, bad = _interleaved(columns, bad, dict(ragged))
        return _Parsed(columns, newlines(block), text, removed, comment, dict(sorted(bad.items())))

    def _undecoded(self, names: list[str], every: list[Any], places: dict[str, int], text: bytes) -> dict[int, _Bad]:
        """Return the rows of a block with a wanted cell that is not text in the encoding."""
        bad: dict[int, _Bad] = {}
        for column in dict.fromkeys(names):
            texts = every[places[column]]
            found = pc.match_substring_regex(texts, "[\uf700-\uf7ff]").to_numpy(zero_copy_only=False)
            for place in np.flatnonzero(found).tolist():
                shown = b"".join(_byte(char) for char in texts[place].as_py())
                error = not_encoded(f", column {column!r}", shown, self.dialect.encoding, text)
                bad.setdefault(place, _Bad(error.message, error.hint))
        return bad

    def _blank(self, every: list[Any]) -> Array:
        """Return a mask of the rows whose cells are all empty."""
        blank: Array = np.ones(len(every[0]), bool)
        for column in every:
            if not blank.any():
                break
            blank &= cells.stripped(column, self.na).is_null().to_numpy(zero_copy_only=False)
        return blank

    def _ragged(self, found: int, text: str | None, expected: int | None = None) -> _Bad:
        expected = expected or len(self._physical) - self._found.dropped
        cells_found = "1 cell" if found == 1 else f"{found} cells"
        shown = f": {shortened(text.strip())}" if text is not None else ""
        return self._bad_line(f" has {cells_found}, and {expected} were expected{shown}", "remove the line")

    def _bad_line(self, what: str, way: str, *, empty: bool = False) -> _Bad:
        hint = None if self._training else f"{way}, or use {self._applying.ways}"
        return _Bad(what, hint, in_line=True, leave_out=self._training, empty=empty)

    def _without_line(self, line: int) -> Piped:
        """Return the command that trains without a line."""
        says = "remove the line: " if Path(self.name).is_file() else "remove the line first: "
        return Piped(changed(f"sed {line}d", self.name), self.name, says)

    def _prepared(self, block: bytes) -> tuple[bytes, list[int], bytes | None]:
        """Return a block for pyarrow, the removed lines' numbers, and the first comment found without --comment."""
        block, removed, comment = self._without_comments(block)
        if self.dialect.delimiter == " ":
            block = _with_tabs(block)
        elif self._found.blanks:
            mark = re.escape(self._delimiter.encode())
            pattern, new = (rb'("[^"]*")|(%b) +' % mark, rb"\1\2") if b'"' in block else (rb"(%b) +" % mark, rb"\1")
            block = re.sub(pattern, new, block)
        return block, removed, comment

    def _without_comments(self, block: bytes) -> tuple[bytes, list[int], bytes | None]:
        mark = (self.dialect.comment or "#").encode()
        if mark not in block or not (block.startswith(mark) or b"\n" + mark in block):
            return block, [], None
        kept, removed, unasked, in_quotes = [], [], None, False
        for number, line in enumerate(block.split(b"\n")):
            if line.startswith(mark) and not in_quotes and self._is_comment(line):
                removed.append(number)
                unasked = unasked or (None if self.dialect.comment else line)
                continue
            in_quotes ^= line.count(b'"') % 2 == 1
            kept.append(line)
        return b"\n".join(kept), removed, unasked

    def _is_comment(self, line: bytes) -> bool:
        """Return whether a line that begins like a comment is one; without --comment, by its number of cells."""
        if self.dialect.comment:
            return True
        if self.dialect.delimiter == " ":
            return len(line.split()) != len(self._physical)
        if line.count(self._delimiter.encode()) + 1 == len(self._physical):
            return False
        text = line.decode("utf-8", "replace").rstrip("\r")
        return len(next(csv.reader([text], delimiter=self._delimiter), [])) != len(self._physical)


def _broken_off(error: DataError) -> Iterator[bytes]:
    raise error
    yield b""


def _as_texts(columns: Sequence[str]) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))


def _inferred(table: pa.Table, nulls: Sequence[str], decimal: str) -> pa.Table:
    """Return a table of texts converted to the types that pyarrow infers."""
    sink = pa.BufferOutputStream()
    pacsv.write_csv(table, sink)
    return pacsv.read_csv(
        pa.BufferReader(sink.getvalue()),
        pacsv.ReadOptions(use_threads=False, block_size=len(sink.getvalue()) + 1),
        pacsv.ParseOptions(newlines_in_values=True),
        pacsv.ConvertOptions(null_values=nulls, decimal_point=decimal),
    )


def _first_line(text: bytes) -> str:
    return text[: text.find(b"\n")].decode(errors="replace").strip()


def _may_be_blank(columns: list[Any]) -> bool:
    """Return whether some row may be empty, by the columns that were read."""
    blank: Any = None
    for column in columns:
        if not pa.types.is_string(column.type) and not column.null_count:
            return False
        empty = column.is_null()
        if pa.types.is_string(column.type):
            empty = pc.or_kleene(empty, pc.equal(column, ""))
        blank = empty if blank is None else pc.and_kleene(blank, empty)
        if not pc.any(blank).as_py():
            return False
    return True


def _interleaved(
    columns: list[Any], bad: dict[int, _Bad], ragged: dict[int, _Bad]
) -> tuple[list[Any], dict[int, _Bad]]:
    """Return the columns with rows of nulls where ragged rows were left out."""
    if not ragged:
        return columns, bad
    is_ragged = cells.mask_of(ragged, len(columns[0]) + len(ragged))
    places = np.flatnonzero(~is_ragged)
    index = np.zeros(len(is_ragged), np.int64)
    index[places] = np.arange(len(places))
    taken = pa.array(index, mask=is_ragged)
    return [column.take(taken) for column in columns], {int(places[p]): b for p, b in bad.items()} | ragged


def _byte(char: str) -> bytes:
    return bytes([ord(char) - PRIVATE]) if PRIVATE <= ord(char) < PRIVATE + 256 else char.encode()


def _with_tabs(block: bytes) -> bytes:
    """Return a block with each run of blanks between cells replaced by one tab."""
    if b'"' not in block:
        return re.sub(rb"[ \t]+", b"\t", re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", block))
    block = re.sub(rb'("[^"]*")|[ \t]+', lambda found: found[1] or b"\t", block)
    return re.sub(rb"(?m)^\t|\t(?=\r?$)", b"", block)
