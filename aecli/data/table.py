"""Tables of named columns, and how their columns become rows of numbers.

A reader of a format is a `Table`: it knows its columns, and yields those that are wanted, each as the kind that is
wanted. `TableSource` says which are wanted, and makes numbers of them.
"""

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa

from aecli.config import Column, Dialect, Schema
from aecli.data.source import Array, Batch, Source
from aecli.errors import DataError
from aecli.options import ALL_COLUMNS, PLAINLY, Applying, Columns

DEFAULT_LABEL = "label"
MAX_CATEGORIES = 1000
DELIMITERS = ";\t|"  # what stands between cells instead of a comma
TEXT = "text"  # the kind of a column that is carried along as it is
ARROW_TYPES = {"number": pa.float64(), "boolean": pa.bool_(), "category": pa.string(), TEXT: pa.string()}


@dataclass(frozen=True)
class Piece:
    """Some rows of the wanted columns. The first is number `row` of the file `name`, counting from 0.

    `bad` tells by their place in the piece, from 0, the rows that cannot be read, and why; their cells are holes.
    """

    name: str
    row: int
    columns: list[Any]
    bad: Mapping[int, DataError] = field(default_factory=dict)


class Table(ABC):
    """A stream of rows with columns. `named` tells whether the columns' names are the data's own."""

    dialect: Dialect | None = None  # how its text is written

    def __init__(self, name: str, columns: Sequence[str], *, named: bool = True, rows: int | None = None) -> None:
        self.name, self.columns, self.named, self.rows = name, list(columns), named, rows
        seen: set[str] = set()
        for column in columns:
            if column in seen:
                raise DataError(
                    f"{name}: two columns bear the name {column!r}", hint="give each column a name of its own"
                )
            seen.add(column)

    @abstractmethod
    def peek(self) -> pa.Table:
        """Return some of the first rows, with the types that they seem to have, or do have."""

    @abstractmethod
    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        """Yield all rows of the wanted (column, kind) pairs, in input order.

        A number, boolean or category comes with its type in ARROW_TYPES, numbers that are all whole ones of 0 to 255
        perhaps as uint8; a date or timestamp as any that can be cast to a timestamp, a text as the data has it. Raises
        DataError where a cell is not of its kind.
        """

    def share_read(self) -> float | None:
        """Return the share of the data that was read so far, 0 to 1; None where its size is not known."""
        return None


class TableSource(Source):
    """Rows of a table whose columns are features, a label, kept aside, or unread."""

    def __init__(
        self,
        table: Table,
        columns: Columns = ALL_COLUMNS,
        applying: Applying = PLAINLY,
        schema: Schema | None = None,
    ) -> None:
        """Settle what each column is.

        With the `schema` of a model, the features are its features, by name where both have names, else by position.
        Without, they are the columns that `columns` leaves, and what is no number among them must be spoken for.
        Raises DataError where the columns do not fit.
        """
        self._table = table
        self._ignore_unknown = applying.unknown == "ignore"
        self._training = schema is None
        self._label = self._pick_label(columns.label, schema)
        self._keep = self._matching(applying.keep, "--keep")
        self._seen: dict[str, dict[str, int]] | None = None  # category -> its number, by column, while they are found
        if schema is None:
            schema = self._settled(columns)
        else:
            features = self._matched(schema)
            named = [
                dataclasses.replace(column, name=name if table.named else None)
                for column, name in zip(schema.columns or [Column()] * schema.inputs, features, strict=True)
            ]
            schema = dataclasses.replace(schema, label=self._label, columns=tuple(named))
            self._features = features
        super().__init__(table.name, schema, table.rows)
        self._wanted = list(zip(self._features, schema.kinds, strict=True))

    def _batches(self) -> Iterator[Batch]:
        carried = [*self._keep, *([self._label] if self._label is not None else [])]
        for piece in self._table.pieces([*self._wanted, *((column, TEXT) for column in carried)]):
            if piece.bad:
                raise next(iter(piece.bad.values()))
            features, aside = piece.columns[: len(self._wanted)], piece.columns[len(self._wanted) :]
            if not len(features[0]):
                continue
            labels = aside.pop() if self._label is not None else None
            kept = dict(zip(self._keep, aside, strict=True))
            yield Batch(self._matrix(piece, features), labels, kept, piece.name, piece.row)
        if self._seen is not None:
            found = tuple(
                dataclasses.replace(column, categories=tuple(self._seen.get(name, ())))
                for name, column in zip(self._features, self.schema.columns, strict=True)
            )
            self.schema = dataclasses.replace(self.schema, columns=found)

    def share_read(self) -> float | None:
        return self._table.share_read() or super().share_read()

    def _matrix(self, piece: Piece, columns: list[Any]) -> Array:
        """Return the features as float64 (N, D), holes as NaN; or for a model's use as uint8, where they come so."""
        if self.schema.all_numbers:
            values = pa.record_batch(columns, [str(i) for i in range(len(columns))])
            may_have_holes = columns[0].type == ARROW_TYPES["number"]
            x: Array = values.to_tensor(null_to_nan=may_have_holes).to_numpy()  # which makes floats of bytes
            return x.astype(np.float64, copy=False) if self._training else x
        out = np.empty((len(columns[0]), len(columns)))
        for i, (values, (column, kind)) in enumerate(zip(columns, self._wanted, strict=True)):
            if kind == "category":
                out[:, i] = self._numbered(piece, values, i, column)
            else:
                out[:, i] = _numbers(values, kind)
        return out

    def _numbered(self, piece: Piece, values: Any, place: int, column: str) -> Array:
        """Return each category's number; -1 for one that the model does not know, where that is allowed."""
        encoded = _without_blanks(values).dictionary_encode()
        if self._seen is None:
            known = {value: i for i, value in enumerate(self.schema.categories[place])}
        else:
            known = self._seen.setdefault(column, {})
            for value in encoded.dictionary.to_pylist():
                known.setdefault(value, len(known))
            if len(known) > MAX_CATEGORIES:
                raise DataError(
                    f"{piece.name}: column {column!r} has more than {MAX_CATEGORIES:,} categories",
                    hint=f"leave it out: --exclude {column!r}",
                )
        numbers = np.array([known.get(value, -1) for value in encoded.dictionary.to_pylist()] + [np.nan])
        out: Array = numbers[encoded.indices.fill_null(len(numbers) - 1).to_numpy()]
        if (out < 0).any() and not self._ignore_unknown:
            row = int((out < 0).argmax())
            raise DataError(
                f"{piece.name}: row {piece.row + row + 1}, column {column!r} holds {values[row].as_py()!r}, "
                f"and the model knows {listed(list(known))}",
                hint="--unknown ignore takes such a cell as none of them",
            )
        return out

    def _settled(self, columns: Columns) -> Schema:
        """Choose the features for training, and tell what kind each is."""
        table = self._table
        categorical = self._matching(columns.categorical, "--categorical")
        others = [c for c in table.columns if c != self._label and c not in self._keep]
        if columns.features:
            chosen = [*self._matching(columns.features, "--features"), *categorical]
            others = [column for column in others if column in chosen]
        excluded = self._matching(columns.exclude, "--exclude")
        self._features = [column for column in others if column not in excluded]
        if not self._features:
            raise DataError(f"{table.name}: no column is left to train on, of {len(table.columns)}")
        peeked = table.peek()
        kinds = ["category" if c in categorical else kind_of(peeked.schema.field(c).type) for c in self._features]
        for column, kind in zip(self._features, kinds, strict=True):
            if kind == TEXT:
                raise self._unspoken_for(peeked, column)
        if "category" in kinds:
            self._seen = {}
        return Schema(
            len(self._features),
            tuple(
                Column(name if table.named else None, kind) for name, kind in zip(self._features, kinds, strict=True)
            ),
            missing=columns.missing,
            label=self._label,
        )

    def _unspoken_for(self, peeked: pa.Table, column: str) -> DataError:
        cells = peeked[column].to_pylist()
        row = next((i for i, cell in enumerate(cells) if cell is not None and not is_number(str(cell))), 0)
        only = len(self._table.columns) == 1
        delimiter = next((c for c in DELIMITERS if only and c in column and c in str(cells[row])), None)
        return DataError(
            f"{self._table.name}: row {row + 1}, column {column!r} holds {shortened(cells[row])}, which is no number",
            hint=f"if {delimiter!r} stands between the cells, say so: --delimiter {delimiter!r}"
            if delimiter
            else f"leave the column out with --exclude {column!r}, one-hot encode it with --categorical {column!r}, "
            f"or make it the label with --label {column!r}",
        )

    def _pick_label(self, label: str | None, schema: Schema | None) -> str | None:
        table = self._table
        if label is not None and schema is None:
            return self._known(label, "--label")
        if schema is not None and not table.named and len(table.columns) == schema.inputs:
            return None  # every column is needed, and only a header could name a label
        wanted = (schema and schema.label) or DEFAULT_LABEL
        return wanted if wanted in table.columns else None

    def _matched(self, schema: Schema) -> list[str]:
        """Return the table's columns that are the model's features, in the model's order."""
        table = self._table
        if table.named and schema.features is not None:
            here = set(table.columns)
            missing = [column for column in schema.features if column not in here]
            if missing:
                raise DataError(
                    f"{table.name}: {len(missing)} of the model's {schema.inputs} columns are missing: "
                    f"{listed(missing)}",
                    hint=f"its columns are {listed(table.columns)}",
                )
            return list(schema.features)
        others = [column for column in table.columns if column != self._label and column not in self._keep]
        if len(others) != schema.inputs:
            raise DataError(
                f"{table.name}: {len(others)} columns of values, and the model takes {schema.inputs}",
                hint=None if self._label else "a column of labels or other text must bear a name in a header",
            )
        return others

    def _matching(self, patterns: Sequence[str], flag: str) -> list[str]:
        """Return the columns that names or globs choose, in the table's order."""
        chosen: set[str] = set()
        for pattern in patterns:
            found = [c for c in self._table.columns if c == pattern or fnmatchcase(c, pattern)]
            chosen.update(found or [self._known(pattern, flag)])
        return [column for column in self._table.columns if column in chosen]

    def _known(self, wanted: str, flag: str) -> str:
        columns = self._table.columns
        if wanted in columns:
            return wanted
        near = difflib.get_close_matches(wanted, columns, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"its columns are {listed(columns)}"
        if set(several := wanted.split(",")) <= set(columns):
            hint = "name one at a time: " + " ".join(f"{flag} {name!r}" for name in several)
        raise DataError(f"{self._table.name}: {flag} {wanted!r} names no column", hint=hint)


class Several(Table):
    """Tables of the same columns, in any order, one after the other. Each is opened when its turn comes."""

    def __init__(self, first: Table, others: Iterator[Table]) -> None:
        super().__init__(first.name, first.columns, named=first.named)
        self._first, self._others = first, others

    def peek(self) -> pa.Table:
        return self._first.peek()

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        yield from self._first.pieces(wanted)
        places = {column: i for i, column in enumerate(self.columns)}
        for table in self._others:
            if not table.named and not self.named and len(table.columns) == len(self.columns):
                yield from table.pieces([(table.columns[places[column]], kind) for column, kind in wanted])
                continue
            missing = [column for column, _ in wanted if column not in table.columns]
            if missing:
                raise DataError(
                    f"{table.name}: columns that {self.name} has are missing: {listed(missing)}",
                    hint=f"its columns are {listed(table.columns)}",
                )
            yield from table.pieces(wanted)


def kind_of(kind: pa.DataType) -> str:
    """Return the kind of feature that a column of this type makes, "text" where it makes none."""
    types = pa.types
    if types.is_boolean(kind):
        return "boolean"
    if types.is_date(kind):
        return "date"
    if types.is_timestamp(kind):
        return "timestamp"
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)
    return "number" if numeric else TEXT


def as_kind(values: Any, kind: str, name: str, column: str, first_row: int) -> Any:
    """Cast a column of a typed format to what `Table.pieces` gives. Raises DataError for the first cell that cannot be.

    `name` is the file's, `first_row` the number of rows before these.
    """
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    try:
        return _cast(values, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        for i in range(len(values)):
            try:
                _cast(values[i : i + 1], kind)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise DataError(
                    f"{name}: row {first_row + i + 1}, column {column!r} holds {shortened(values[i].as_py())}, "
                    f"and the cells of this feature must be {kind}s"
                ) from error
        raise DataError(f"{name}: column {column!r}: {error}") from error


def _cast(values: Any, kind: str) -> Any:
    if kind == TEXT:
        return values
    if kind in ("date", "timestamp"):
        return timestamps(values)
    return values if values.type == ARROW_TYPES[kind] else values.cast(ARROW_TYPES[kind], safe=False)


def timestamps(values: Any) -> Any:
    """Cast dates, timestamps or text (N,) to timestamps of microseconds, those with a time zone to UTC.

    Raises pa.ArrowInvalid for text that is no ISO 8601 date or time.
    """
    if pa.types.is_string(values.type):
        values = _without_blanks(values)
        try:
            return values.cast(pa.timestamp("us"))
        except pa.ArrowInvalid:
            return values.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    if not (pa.types.is_temporal(values.type) or pa.types.is_null(values.type)):
        raise pa.ArrowInvalid(f"{values.type} is no date or time")
    return values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False)


def from_numbers(numbers: Array, kind: str, categories: Sequence[str]) -> Any:
    """Return a rebuilt column (N,) of raw values as its kind has it: the inverse of what `TableSource` makes of it."""
    if kind == "number":
        return numbers.astype(np.float32)
    if kind == "boolean":
        return pa.array(numbers > 0.5)
    if kind == "category":
        return pa.array(categories).take(pa.array(numbers.astype(np.int64)))
    if kind == "date":
        return pa.array(np.rint(numbers / 86_400).astype(np.int32)).cast(pa.date32())
    return pa.array(np.rint(numbers * 1000).astype(np.int64)).cast(pa.timestamp("ms"))


def _numbers(values: Any, kind: str) -> Array:
    if kind in ("date", "timestamp"):
        ticks = timestamps(values).cast(pa.int64())
        return np.asarray(ticks.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)) / 1e6
    if kind == "boolean":
        values = values.cast(pa.uint8()).cast(pa.float64())
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _without_blanks(texts: Any) -> Any:
    """Make holes of empty texts."""
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def is_number(text: str) -> bool:
    """Return whether a cell is written as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def listed(names: Sequence[str]) -> str:
    """List names in a sentence, the first eight of them."""
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def shortened(cell: object) -> str:
    """Return a cell as an error message shows it."""
    text = repr(cell)
    return text if len(text) <= 60 else f"{text[:57]}..."
