"""How a text table is written, found in its first lines, unless an option or the model says it.

The rules, in order:

- The delimiter is the one of `, ; tab |` and runs of spaces that splits most lines into the same number of cells, at
  least two, and leaves no other delimiter inside them. A first line `sep=;` sets it.
- A line that begins with # is a comment if its number of cells differs from the table's.
- A first line that holds all of a model's names is the header.
- Lines above the table are left out if a blank line or a header of only text follows them. All other lines of another
  width are bad rows.
- A first line is a header if it holds no number; or text above a number; or 0, 1, 2, ...; or at least four numbers with
  a constant step. It is a row if one of the next rows is like it: with the same cells, also with a constant step, or
  with text of the same shape, such as $1.50 above $2.75.
- A last column without a name and without values is dropped.
- Names are in Unicode NFC, without surrounding spaces. Empty and repeated names get numbers.
"""

import codecs
import csv
import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aecli.config import Dialect, Schema
from aecli.data.cells import HOLES, check_marks, is_number
from aecli.data.encoding import encoding_that_fits
from aecli.data.header import is_header, is_local_number, named, text_above_numbers
from aecli.errors import DataError, UsageError
from aecli.options import Reading

DELIMITERS = (",", ";", "\t", "|", " ")  # a space stands for a run of spaces
SAMPLE_BYTES, SAMPLE_LINES = 64 << 10, 200
FEW = 20  # the number of rows that a first row is compared to
ESCAPED = "surrogateescape"  # the error handler that keeps undecodable bytes in a str


@dataclass(frozen=True)
class Found:
    """How a table is written, and where it begins.

    `names` are the names of its columns, `nameless` those that the program made. `dropped` is True if each line has one
    more cell, which is empty. The rows begin at byte `start`, in line `line`, counted from 1. `blanks` is True if
    spaces follow the delimiters. `commented` is True if the `notes`, which are sentences for the user, mention
    comments.
    """

    dialect: Dialect
    names: list[str]
    nameless: frozenset[str]
    dropped: bool
    start: int
    line: int
    blanks: bool
    commented: bool
    notes: list[str]


@dataclass(frozen=True)
class _Line:
    """A record of the sample: its cells, its first line and the one after its last, counted from 0."""

    cells: list[str]
    start: int
    end: int

    @property
    def is_blank(self) -> bool:
        return not any(self.cells)


def na_values(reading: Reading, schema: Schema | None) -> tuple[str, ...]:
    """Return the values that mean a hole besides the usual spellings: those given now, or else the model's."""
    return reading.na or (schema.na if schema else ())


def check_reading(reading: Reading) -> None:
    """Raise UsageError for options that fit no table."""
    if reading.delimiter is not None and (len(reading.delimiter) != 1 or not reading.delimiter.isascii()):
        raise UsageError(f"--delimiter is {reading.delimiter!r}, and one ASCII character was expected")
    if reading.encoding is not None:
        try:
            codecs.lookup(reading.encoding)
        except LookupError as error:
            raise UsageError(
                f"--encoding is {reading.encoding!r}, which is not a known encoding",
                hint="such as utf-8, cp1252, utf-16",
            ) from error
    marks(reading, None)


def marks(reading: Reading, known: Dialect | None) -> Dialect:
    """Return how a table's cells are written, by the options given now, or else by the model."""
    known = known or Dialect()
    thousands = reading.thousands or known.thousands
    implied = {".": ",", ",": "."}.get(reading.thousands or "", known.decimal)
    said = dataclasses.replace(
        known,
        decimal=reading.decimal or implied,
        thousands=thousands,
        comment=reading.comment or known.comment,
        date_format=reading.date_format or known.date_format,
    )
    check_marks(said)
    return said


def find(
    name: str,
    sample: bytes,
    reading: Reading,
    schema: Schema | None,
    *,
    encoding: str = "utf-8",
    default_delimiter: str | None = None,
    complete: bool = True,
) -> Found | None:
    """Return how a table is written, by its first whole records.

    `schema` is the schema of the model that is applied. `default_delimiter` is the one that the file's name suggests.
    If the sample is not `complete`, the caller can read more; returns None if more is needed.
    Raises DataError if the first line is not in the encoding.
    """
    known = schema.dialect if schema else None
    said = dataclasses.replace(marks(reading, known), encoding=encoding)
    lines, starts = _text_lines(sample)
    skipped = reading.skip_rows
    top = min(skipped or 0, len(lines))
    separator = re.fullmatch(r"sep=(.)\s*", lines[top], re.IGNORECASE) if len(lines) > top else None
    top += separator is not None
    given = reading.delimiter or (separator[1] if separator else None)
    names = _names_of(schema)
    search = _Search(lines, starts, top, said.comment, names)

    tried = (
        [given]
        if given
        else list(dict.fromkeys([known.delimiter if known else "", default_delimiter or ",", *DELIMITERS]))
    )
    place = None
    if reading.input_header is not False:
        place = next((found for d in tried if d and (found := search.header_by_names(d))), None)
    if place is not None:
        delimiter, first = place
        by_names = True
    else:
        by_names = False
        if known and skipped is None and not given and len(lines) > known.skip_rows > top:
            top = known.skip_rows
            search = _Search(lines, starts, top, said.comment, names)
        delimiter = given or search.delimiter([d for d in tried if d])
        first = 0
    return _Table(name, search, reading, schema, said, delimiter, complete=complete).found(first, by_names=by_names)


def _text_lines(sample: bytes) -> tuple[list[str], list[int]]:
    """Return the first lines of a sample with their line ends, and the byte at which each and the next begins."""
    lines: list[str] = []
    starts = [0]
    told = size = 0  # lines that begin with # do not count, there may be many
    while starts[-1] < len(sample) and told < SAMPLE_LINES and (size < SAMPLE_BYTES or told < 3):
        end = sample.find(b"\n", starts[-1]) + 1 or len(sample)
        lines.append(sample[starts[-1] : end].decode("utf-8", ESCAPED))
        if not lines[-1].startswith("#"):
            told, size = told + 1, size + end - starts[-1]
        starts.append(end)
    return lines, starts


def _names_of(schema: Schema | None) -> frozenset[str]:
    return frozenset(schema.features or ()) if schema else frozenset()


class _Search:
    """The lines of a sample, read with one delimiter after another."""

    def __init__(
        self, lines: list[str], starts: list[int], top: int, comment: str | None, names: frozenset[str]
    ) -> None:
        self.lines, self.starts, self.top, self.comment, self.names = lines, starts, top, comment, names
        self._read: dict[str, list[_Line]] = {}

    def records(self, delimiter: str) -> list[_Line]:
        """Return the records below the top without those that --comment marks; cells are stripped."""
        if delimiter not in self._read:
            self._read[delimiter] = list(self._records(delimiter))
        return self._read[delimiter]

    def _records(self, delimiter: str) -> Iterator[_Line]:
        numbers: list[int] = []

        def feed() -> Iterator[str]:
            for number in range(self.top, len(self.lines)):
                line = self.lines[number]
                if self.comment and line.startswith(self.comment):
                    continue
                numbers.append(number)
                yield line.strip().replace("\t", " ") + "\n" if delimiter == " " else line.rstrip("\r\n") + "\n"

        reader = csv.reader(feed(), delimiter=delimiter, skipinitialspace=True)
        before = 0
        while True:
            try:
                cells = next(reader, None)
            except csv.Error:  # a cell of more than 128 kB, or a zero byte
                cells = []
            if cells is None:
                return
            if numbers[before:]:
                yield _Line([cell.strip() for cell in cells], numbers[before], numbers[-1] + 1)
            before = len(numbers)

    def header_by_names(self, delimiter: str) -> tuple[str, int] | None:
        """Return the delimiter and the position of a record that holds all of the model's names."""
        if not self.names:
            return None
        for place, record in enumerate(self.records(delimiter)[:FEW]):
            for cells in (record.cells, _bare(record.cells)):
                if self.names <= set(named(cells)[0]):
                    return delimiter, place
        return None

    def width(self, delimiter: str) -> tuple[int, float]:
        """Return the most frequent number of cells, and the share of records that have it."""
        told = [record for record in self.records(delimiter) if not record.is_blank]
        bare = [record for record in told if not self.lines[record.start].startswith("#")]
        widths = Counter(len(record.cells) for record in (bare or told))
        if not widths:
            return 0, 0.0
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
        return width, count / sum(widths.values())

    def delimiter(self, candidates: Sequence[str]) -> str:
        """Return the delimiter that fits best, the first if several fit equally well."""
        best, most = candidates[0], 0.0
        for delimiter in candidates:
            width, share = self.width(delimiter)
            if width < 2 or (delimiter == " " and (most > 0.5 or self.width("\t")[0] > 1)):
                continue
            others = [other for other in DELIMITERS[:-1] if other != delimiter]
            cells = [cell for record in self.records(delimiter) if len(record.cells) == width for cell in record.cells]
            cells = cells[: max(2000, 3 * width)]
            if delimiter == " " and not any(map(is_number, cells)):
                continue  # a text
            fit = share * sum(_is_whole(cell, others) for cell in cells) / len(cells)
            if fit > most:
                best, most = delimiter, fit
            if delimiter == candidates[0] and fit == 1.0:
                break
        return best


def _is_whole(cell: str, others: Sequence[str]) -> bool:
    """Return whether a cell looks like one cell, not like several."""
    if re.fullmatch(r"[+-]?[0-9]+(?:[.,][0-9]+)*(?:[eE][+-]?[0-9]+)?", cell) or cell.startswith(("[", "{", "(")):
        return True
    parts = cell.split()
    parted = any(re.search(f"{re.escape(other)}(?! )", cell) for other in others if other in cell)  # a, b is prose
    return not parted and not (len(parts) > 1 and all(map(is_number, parts)))


def _bare(cells: list[str]) -> list[str]:
    """Return cells without the # before the first."""
    return [cells[0].removeprefix("#").strip(), *cells[1:]] if cells and cells[0].startswith("#") else cells


class _Table:
    """What is found after the delimiter: where the table begins, and its names."""

    def __init__(
        self,
        name: str,
        search: _Search,
        reading: Reading,
        schema: Schema | None,
        said: Dialect,
        delimiter: str,
        *,
        complete: bool,
    ) -> None:
        self._name, self._search, self._reading, self._schema = name, search, reading, schema
        self._said, self._delimiter, self._complete = said, delimiter, complete
        self._records = search.records(delimiter)
        self._width, _ = search.width(delimiter)
        self._below = False  # whether there are lines above the table
        self._notes: list[str] = []

    def found(self, first: int, *, by_names: bool) -> Found | None:
        records = self._records
        told = [i for i in range(first, len(records)) if not records[i].is_blank and not self._is_comment(records[i])]
        if not told:
            return None if not self._complete else self._nothing()
        if len(told) > 1 and self._is_comment_like_a_row(told):
            told = told[1:]
        first = told[0]
        skip = self._reading.skip_rows or 0
        if not by_names and self._reading.skip_rows is None:
            if len(records[first].cells) != self._width and (start := self._below_a_preamble(told)) is not None:
                first, self._below = start, True
                skip = records[first].start
                lines = "line 1 above it is" if skip == 1 else f"the {skip} lines above it are"
                self._notes.append(
                    f"the table begins in line {skip + 1}: {lines} left out (--skip-rows {skip} does the same, "
                    "--skip-rows 0 reads all)"
                )
            elif self._schema is not None and self._schema.dialect is not None:
                skip = self._search.top if self._search.top == self._schema.dialect.skip_rows else skip
        elif by_names:
            skip = max(skip, self._preamble_of(first))
            known = self._schema.dialect.skip_rows if self._schema and self._schema.dialect else 0
            if skip > max(known, self._reading.skip_rows or 0):
                lines = "line 1 above it is" if skip == 1 else f"the {skip} lines above it are"
                self._notes.append(f"the header with the model's names is in line {skip + 1}: {lines} left out")
        self._said = dataclasses.replace(self._said, skip_rows=skip)
        self._refuse_other_encodings(records[first])
        header: bool | None = True
        if not by_names and not self._below:
            header = self._header(first, [records[i] for i in told if i > first])
        if header is None:
            return None
        cells = records[first].cells
        return self._made(first, header=header, names=_bare(cells) if header else cells)

    def _preamble_of(self, first: int) -> int:
        """Return the number of lines above a header found by its names; 0 if they are comments."""
        above = [record for record in self._records[:first] if not record.is_blank and not self._is_comment(record)]
        return self._records[first].start if above else 0

    def _is_comment(self, record: _Line) -> bool:
        return self._search.lines[record.start].startswith("#") and len(record.cells) != self._width

    def _is_comment_like_a_row(self, told: list[int]) -> bool:
        """Return whether the first line is a comment with as many cells as the table, above the real header."""
        first, second = (self._records[i] for i in told[:2])
        below = [self._records[i].cells for i in told[2 : FEW + 2]]
        is_hashed = self._search.lines[first.start].startswith("#")
        return is_hashed and not any(map(is_number, second.cells)) and text_above_numbers(second.cells, below)

    def _below_a_preamble(self, told: list[int]) -> int | None:
        """Return the position of the first record of the table's width, if those above clearly are not rows."""
        records = self._records
        start = next((i for i in told if len(records[i].cells) == self._width), None)
        if start is None or start == told[0] or self._reading.input_header is False:
            return None
        if any(len(records[i].cells) > self._width for i in told if i < start):
            return None
        cells, below = records[start].cells, [records[i].cells for i in told if i > start][:FEW]
        has_blank_line = records[start - 1].is_blank
        has_text = any(cell not in HOLES and not is_number(cell) for cell in cells)
        texts_alone = not any(is_number(cell) for cell in cells) and text_above_numbers(cells, below)
        return start if (has_blank_line and has_text) or texts_alone else None

    def _refuse_other_encodings(self, record: _Line) -> None:
        """Raise DataError if the first line is not text in the encoding."""
        line = "".join(self._search.lines[record.start : record.end])
        if not re.search("[\udc80-\udcff]", line) or self._reading.input_header is False:
            return
        number = record.start + 1
        shown = line.strip().encode("utf-8", ESCAPED)
        raise not_encoded(
            f"{self._name}: line {number}",
            shown,
            self._said.encoding,
            "".join(self._search.lines).encode("utf-8", ESCAPED),
        )

    def _header(self, first: int, below: list[_Line]) -> bool | None:
        """Return whether the first record is a header; None if more records are needed to know."""
        if self._reading.input_header is not None:
            return self._reading.input_header
        cells, next_cells = _bare(self._records[first].cells), [record.cells for record in below[:FEW]]
        of_model = self._header_of_model(cells)
        if of_model is not None:
            return of_model
        if not next_cells and not self._complete and any(map(is_number, cells)):
            return None
        header, shown = is_header(cells, next_cells), ", ".join(cells[:6]) + ", ..." * (len(cells) > 6)
        if header and any(map(is_number, cells)):
            self._notes.append(
                f"the first line is read as the columns' names: {shown} (--no-input-header reads it as a row)"
            )
        if not header and self._schema is None:
            self._notes.append(
                f"no header: the first line is a row ({shown}), and the columns are called x0 to x{len(cells) - 1} "
                "(--input-header reads it as their names)"
            )
        return header

    def _header_of_model(self, cells: list[str]) -> bool | None:
        """Return whether the first line is a header, by a model's columns; None if they do not decide it."""
        if self._schema is None:
            return None
        if self._search.names & set(named(cells)[0]):
            return True
        if not self._is_row_of_a_model(cells):
            return None
        if self._search.names:
            self._notes.append(f"{self._name} has no header: its columns are matched by position")
        return False

    def _is_row_of_a_model(self, cells: list[str]) -> bool:
        """Return whether a first line without names of the model is a row: as many numbers as the model takes."""
        schema = self._schema
        if schema is None or len(cells) < schema.inputs:
            return False
        like = [is_number(cell) or cell in HOLES or is_local_number(cell) for cell in cells]
        if not schema.features:
            return all(like) and cells != [str(i) for i in range(len(cells))]
        return all(like) and len(cells) == schema.inputs

    def _nothing(self) -> Found:
        """Return the result if all lines are left out: the model's columns without rows."""
        if self._schema is None:
            raise DataError(f"{self._name}: no rows to read: all its lines are comments, blank or left out")
        end = len(self._search.lines)
        dialect = dataclasses.replace(self._said, delimiter=self._delimiter)
        return nothing(self._schema, dialect, self._search.starts[end], end + 1)

    def _made(self, first: int, *, header: bool, names: list[str]) -> Found:
        records, width = self._records, self._width
        rows = [r for r in records[first + header :] if not r.is_blank and not self._is_comment(r)]
        full = [record.cells for record in rows if len(record.cells) == width]
        dropped = False
        made = list(names)
        if header:
            if len(names) == width + 1 and not names[-1] and full:
                made = names[:-1]
            elif len(names) == width and width > 2 and not names[-1] and full and not any(c[-1] for c in full):
                made, dropped = names[:-1], True
            elif len(names) == width - 1 and len(full) == len(rows) and not any(cells[-1] for cells in full):
                dropped = True
            elif len(names) == width - 1 and len(full) == len(rows) and self._delimiter in " \t":
                made = ["", *names]  # R writes row names like this
        elif names and width > 2 and full and len(names) == width and not any(cells[-1] for cells in [names, *full]):
            dropped = True
        nameless: frozenset[str] = frozenset()
        if header:
            made, nameless, renamed = named(made)
            if renamed and self._schema is None:
                self._notes.append(f"columns with an empty or repeated name are now called {', '.join(renamed)}")
        else:
            made = [f"x{i}" for i in range((width or len(made)) - dropped)]
        self._note_hashes(rows)
        comment = next((r for r in records[:first] if self._is_comment(r)), None) if not self._said.skip_rows else None
        if commented := comment is not None:
            self._notes.append(about_comments(self._search.lines[comment.start], self._width))
        start_line = (records[first].end if header else records[first].start) if first < len(records) else 0
        start = self._search.starts[start_line]
        return Found(
            dataclasses.replace(self._said, delimiter=self._delimiter, header=header),
            made,
            nameless,
            dropped=dropped,
            start=start,
            line=start_line + 1,
            blanks=self._delimiter != " " and self._blanks_follow(),
            commented=commented,
            notes=self._notes,
        )

    def _note_hashes(self, rows: list[_Line]) -> None:
        lines = self._search.lines
        hashed = [row for row in rows if lines[row.start].startswith("#") and len(row.cells) == self._width]
        if hashed and self._schema is None:
            self._notes.append(
                f"line {hashed[0].start + 1} begins with '#' and is read as a row, because it has {self._width} cells "
                "(--comment '#' leaves such lines out)"
            )

    def _blanks_follow(self) -> bool:
        """Return whether spaces follow the delimiters: each of them, or one before a quote."""
        text = "".join(self._search.lines[self._search.top :])
        bare = re.sub(r'"[^"]*"', '"', text) if '"' in text else text
        delimiter = re.escape(self._delimiter)
        if not (followed := len(re.findall(f"{delimiter} ", bare))):
            return False
        return followed == bare.count(self._delimiter) or re.search(f'{delimiter} +"', bare) is not None


def nothing(schema: Schema, dialect: Dialect, start: int = 0, line: int = 1) -> Found:
    """Return the result for an input without a table: the model's columns."""
    return Found(
        dialect,
        list(schema.column_names),
        frozenset(),
        dropped=False,
        start=start,
        line=line,
        blanks=False,
        commented=False,
        notes=[],
    )


def about_comments(line: str, width: int) -> str:
    """Return the note that comments such as `line` are left out."""
    shown = line.strip() if len(line.strip()) <= 60 else f"{line.strip()[:57]}..."
    return f"lines that begin with '#' and do not have {width} cells are left out as comments, such as {shown!r}"


def not_encoded(place: str, shown: object, encoding: str, data: bytes) -> DataError:
    """Return the error for text that is not in the encoding: with an encoding that fits as a hint, if there is one."""
    fitting = encoding_that_fits(data) if encoding == "utf-8" else None
    hint = f"--encoding {fitting[0]} reads {fitting[1]!r} there" if fitting else "--encoding names its encoding"
    text = repr(shown) if len(repr(shown)) <= 60 else f"{repr(shown)[:57]}..."
    return DataError(f"{place} is not {encoding.upper()}: {text}", hint=hint)
