"""CSV from a file or a stream: read in blocks of whole records, each parsed by pyarrow with its types laid down.

Rows are counted from 1, below the header.
"""

import csv
import difflib
import io
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pacsv

from aecli.config import Schema
from aecli.data.source import Batch, Source, check_finite
from aecli.errors import DataError

BLOCK_BYTES = 8 << 20
MAX_RECORD_BYTES = 64 << 20
OPENING_QUOTE = re.compile(rb'(^|[,;\t\n])"')  # elsewhere a quote is a character like others
DEFAULT_LABEL = "label"


class CsvSource(Source):
    """Rows of a CSV, whose columns are features, a label, kept aside, or unread."""

    def __init__(
        self,
        name: str,
        stream: BinaryIO,
        *,
        delimiter: str = ",",
        schema: Schema | None = None,
        label: str | None = None,
        exclude: Sequence[str] = (),
        keep: Sequence[str] = (),
    ) -> None:
        """Open a stream, read its header, and settle what each column is.

        With the `schema` of a model, the features are its features, by name where both have names, else by position.
        Without, they are all columns that are neither the label, nor kept, nor named by a glob in `exclude`.
        Raises DataError where the columns do not fit.
        """
        self._records = _records(name, stream)
        self._delimiter = delimiter
        first = next(self._records, b"")
        if not first.strip():
            raise DataError(f"{name}: no rows to read, it is empty")
        while (end := _first_record_end(first)) == len(first) and (more := next(self._records, b"")):
            first += more  # a short block held the header alone
        cells = _cells(first[:end], name, delimiter)
        self._named = _is_header(cells, _cells(first[end:][: _first_record_end(first[end:])], name, delimiter))
        self._columns = cells if self._named else [f"x{i}" for i in range(len(cells))]
        _check_unique(self._columns, name)
        self._first_block = first[end:] if self._named else first
        if not self._first_block.strip():
            raise DataError(f"{name}: no rows to read, there is a header alone")

        self._label = self._pick_label(name, label, schema)
        self._training = schema is None
        self._keep = [self._known(name, column, "--keep") for column in keep]
        spoken_for = {self._label, *self._keep}
        if schema is None:
            for pattern in exclude:
                if not any(fnmatchcase(column, pattern) for column in self._columns):
                    self._known(name, pattern, "--exclude")
                spoken_for.update(c for c in self._columns if fnmatchcase(c, pattern))
        others = [column for column in self._columns if column not in spoken_for]
        self._features = others if schema is None else self._match(name, others, schema)
        if not self._features:
            raise DataError(f"{name}: no column is left to train on, of {len(self._columns)}")
        super().__init__(
            name,
            Schema(len(self._features), tuple(self._features) if self._named else None, label=self._label),
        )

    def batches(self) -> Iterator[Batch]:
        rows = 0
        for block in self._blocks():
            table, texts = self._parse(block, rows)
            if not table.num_rows:
                continue
            values = table.select(self._features).combine_chunks().to_batches()[0]
            x = values.to_tensor(null_to_nan=True).to_numpy()  # (N, D)
            check_finite(x, self.name, self.schema, rows)
            labels = None if self._label is None else texts[self._label].combine_chunks()
            kept = {column: texts[column].combine_chunks() for column in self._keep}
            yield Batch(x, labels, kept)
            rows += len(x)

    def _blocks(self) -> Iterator[bytes]:
        yield self._first_block
        self._first_block = b""
        yield from self._records

    def _known(self, name: str, wanted: str, flag: str) -> str:
        if wanted in self._columns:
            return wanted
        near = difflib.get_close_matches(wanted, self._columns, n=1)
        raise DataError(
            f"{name}: {flag} {wanted!r} names no column",
            hint=f"did you mean {near[0]!r}?" if near else f"its columns are {_listed(self._columns)}",
        )

    def _pick_label(self, name: str, label: str | None, schema: Schema | None) -> str | None:
        if label is not None and schema is None:
            return self._known(name, label, "--label")
        if schema is not None and not self._named and len(self._columns) == schema.inputs:
            return None  # every column is needed, and only a header could name a label
        wanted = (schema and schema.label) or DEFAULT_LABEL
        return wanted if wanted in self._columns else None

    def _match(self, name: str, others: list[str], schema: Schema) -> list[str]:
        if self._named and schema.features is not None:
            missing = [column for column in schema.features if column not in self._columns]
            if missing:
                raise DataError(
                    f"{name}: {len(missing)} of the model's {schema.inputs} columns are missing: {_listed(missing)}",
                    hint=f"its columns are {_listed(self._columns)}",
                )
            return list(schema.features)
        if len(others) != schema.inputs:
            raise DataError(
                f"{name}: {len(others)} columns of values, and the model takes {schema.inputs}",
                hint=None if self._label else "a column of labels or other text must bear a name in a header",
            )
        return others

    def _parse(self, block: bytes, first_row: int) -> tuple[pa.Table, pa.Table]:
        """Parse the features as numbers, and the label and the kept columns as text: one table of each."""
        numbers = dict.fromkeys(self._features, pa.float64())
        texts = dict.fromkeys((column for column in (self._label, *self._keep) if column is not None), pa.string())
        both = numbers.keys() & texts.keys()
        once = numbers | {column: kind for column, kind in texts.items() if column not in both}
        try:
            table = self._read(block, pacsv.ConvertOptions(column_types=once, include_columns=list(once)))
            if not both:
                return table, table
            return table, self._read(block, pacsv.ConvertOptions(column_types=texts, include_columns=list(texts)))
        except pa.ArrowInvalid as error:
            self._explain(block, first_row)
            raise DataError(f"{self.name}: {error}") from error

    def _read(self, block: bytes, convert: pacsv.ConvertOptions, invalid_row_handler: Any = None) -> pa.Table:
        return pacsv.read_csv(
            io.BytesIO(block),
            pacsv.ReadOptions(column_names=self._columns, use_threads=invalid_row_handler is None),
            pacsv.ParseOptions(
                delimiter=self._delimiter, newlines_in_values=b'"' in block, invalid_row_handler=invalid_row_handler
            ),
            convert,
        )

    def _explain(self, block: bytes, first_row: int) -> None:
        """Raise a DataError that names the row, and where there is one the column, where `block` cannot be parsed."""
        ragged: list[Any] = []

        def note(row: Any) -> str:
            ragged.append(row)
            return "skip"

        binary = dict.fromkeys(self._columns, pa.binary())
        table = self._read(block, pacsv.ConvertOptions(column_types=binary), note)
        if ragged:
            row = ragged[0]
            raise DataError(
                f"{self.name}: row {first_row + row.number} has {row.actual_columns} cells, "
                f"and {row.expected_columns} were expected"
            )
        for column in self._columns:
            cells = table[column].to_pylist()
            for i, cell in enumerate(cells):
                place = f"{self.name}: row {first_row + i + 1}, column {column!r}"
                try:
                    text = cell.decode()
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{place} is not UTF-8: {cell!r}", hint="convert the file first: iconv -f latin1 -t utf-8"
                    ) from error
                if column in self._features and not _is_number(text) and not _is_missing(cell):
                    raise DataError(
                        f"{place} holds {text!r}, and a feature's cells must be numbers",
                        hint=f"leave the column out with --exclude {column!r}, or name it as the --label"
                        if self._training
                        else None,
                    )


def _records(name: str, stream: BinaryIO) -> Iterator[bytes]:
    """Cut a stream into blocks of whole records: a newline inside quotes ends none."""
    rest = b""
    first = True
    while True:
        try:
            block = stream.read(BLOCK_BYTES)
        except OSError as error:
            raise DataError(f"{name}: the file is damaged or cut short ({error})") from error
        if not block:
            break
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


def _is_header(first: list[str], second: list[str]) -> bool:
    """Tell a header from a row: no number, or 0, 1, 2 and so on, or text where the next row holds a number."""
    if not any(_is_number(cell) for cell in first) or first == [str(i) for i in range(len(first))]:
        return True
    holes = pacsv.ConvertOptions().null_values
    return any(
        _is_number(below) and not _is_number(above) and above not in holes
        for above, below in zip(first, second, strict=False)
    )


def _check_unique(columns: list[str], name: str) -> None:
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise DataError(f"{name}: two columns bear the name {column!r}", hint="give each column a name of its own")
        seen.add(column)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _is_missing(cell: bytes) -> bool:
    return cell.decode() in pacsv.ConvertOptions().null_values


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
