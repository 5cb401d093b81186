"""Tables of named columns, and the conversion of their columns to rows of numbers.

The reader of a format is a `Table`: it knows its columns, and yields the requested ones, each as the requested kind.
`TableSource` chooses the columns, and converts them to numbers: see `kinds`.
"""

import dataclasses
import difflib
import re
import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from aecli.config import Column, Dialect, Schema
from aecli.data import kinds, settling
from aecli.data.arrays import places
from aecli.data.cells import HOLES
from aecli.data.kinds import TEXT, shortened, timestamps
from aecli.data.source import Array, Batch, Source
from aecli.errors import DataError, WidthError
from aecli.options import ALL_COLUMNS, PLAINLY, Applying, Columns

DEFAULT_LABEL = "label"
MAX_DISTINCT = 1_000_000  # categories that are counted while rows are read
MAX_UNKNOWN = 10_000  # unknown categories of a column whose texts are remembered
UNKNOWN = "(unknown)"  # the text of the others
SHOWN_COLUMNS = 12
NAMELESS = "a column of labels or other text must have a name in a header"
LOOKED_AT = 1000  # the most columns whose cells are searched for codes
ARROW_TYPES = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "category": pa.string(),
    "vector": pa.list_(pa.float64()),  # for formats without types
    TEXT: pa.string(),
}


WORDS = {"category": "texts or numbers", "vector": "lists of numbers"}  # what the cells of a kind are called


@dataclass(frozen=True)
class Piece:
    """Some rows of the wanted columns. The first is row number `row` of the file `name`, counted from 0.

    `bad` maps the position in the piece, from 0, of each row that cannot be read to its error; the cells of these rows
    are holes.
    """

    name: str
    row: int
    columns: list[Any]
    bad: Mapping[int, DataError] = field(default_factory=dict)


class Table(ABC):
    """A stream of rows with columns.

    `named` is True if the names of the columns come from the data; `rows` is the number of rows if it is known, 0 if
    there are none. Columns in `aside` are learnt only if the user names them; each has its reason: a column from folder
    names, an index of pandas. `learnt` are the columns that are requested as features. `is_text` is True if sed can
    edit the file; `dialect` is how text in it is written; `na` are the values that mean a hole besides the usual
    spellings. `nameless` are the names given to columns that had none.
    """

    is_text = False
    dialect: Dialect | None = None
    aside: Mapping[str, str] = MappingProxyType({})
    learnt: frozenset[str] = frozenset()
    na: Sequence[str] = ()
    nameless: frozenset[str] = frozenset()

    def __init__(self, name: str, columns: Sequence[str], *, named: bool = True, rows: int | None = None) -> None:
        self.name, self.columns, self.named, self.rows = name, list(columns), named, rows
        seen: set[str] = set()
        for column in columns:
            if column in seen:
                raise DataError(
                    f"{name}: two columns have the name {column!r}", hint="give each column a name of its own"
                )
            seen.add(column)

    def types(self) -> Mapping[str, pa.DataType]:
        """Return the types of the columns by name; empty if they are text, which is parsed as the requested kind."""
        return {}

    def check(self, wanted: Sequence[tuple[str, str]]) -> None:  # noqa: B027, most tables are one file
        """Raise DataError if a part of the table is known to lack a wanted column before it is read."""

    def written(self, column: str, row: int) -> str | None:  # noqa: ARG002
        """Return a cell of the first rows as it is written; None if the format does not keep that."""
        return None

    def code(self, column: str) -> str | None:  # noqa: ARG002
        """Return a cell of an integer column that looks like a code: leading zeros, or more than 15 digits."""
        return None

    @abstractmethod
    def peek(self) -> pa.Table:
        """Return some of the first rows, with their types, or the types that they seem to have."""

    @abstractmethod
    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        """Yield all rows of the wanted (column, kind) pairs, in input order.

        A number, boolean or category has its type in ARROW_TYPES; numbers that are all integers from 0 to 255 may be
        uint8. A date or timestamp has any type that can be cast to a timestamp, a text the type of the data. A vector,
        a list of numbers, keeps the type of the data. Raises DataError if a cell is not of its kind.
        """

    def share_read(self) -> float | None:
        """Return the fraction of the data read so far, 0 to 1; None if its size is unknown."""
        return None


class TableSource(Source):
    """Rows of a table whose columns are features, a label, kept, or left out.

    `unlearnt` maps each column that is not learnt, although nobody excluded it, to the reason; `remarks` are other
    things to say. `renumbered` maps the positions of some of the D values to their new category numbers: which
    categories are rare, and so merged, is known only when all rows are read.
    """

    def __init__(
        self,
        table: Table,
        columns: Columns = ALL_COLUMNS,
        applying: Applying = PLAINLY,
        schema: Schema | None = None,
    ) -> None:
        """Decide what each column is.

        With a model's `schema`, the features are the model's, matched by name if both have names, by position
        otherwise. Without a schema, they are the columns that `columns` leaves; if one of them cannot be learnt, the
        user must say what to do with it.
        Raises DataError if the columns do not fit.
        """
        self.endless = True
        self._table = table
        self._applying = applying
        self._max_categories = columns.max_categories
        self._training = schema is None
        self._label = self._pick_label(columns.label, schema)
        self._keep = self._matching(applying.keep, "--keep")
        self._seen: list[dict[str, int] | None] = []  # for each feature, the number of each category found so far
        self._counts: list[Array] = []
        self._places: Array | None = None
        self.unlearnt: dict[str, str] = {}
        self.remarks: list[str] = []
        self.renumbered: dict[int, Array] = {}
        self.unknown: dict[int, dict[str, int]] = {}
        if schema is None:
            schema = self._settled(columns)
        else:
            schema = self._shortened(schema)
            self.features = self._matched(schema)
            columns_here = schema.columns or (Column(),) * schema.inputs
            named = [
                dataclasses.replace(column, name=name if table.named else None)
                for column, name in zip(columns_here, self.features, strict=True)
            ]
            schema = dataclasses.replace(schema, label=self._label, columns=tuple(named))
            self.turned = schema.channels_first
            self._places = self._within(schema)
        super().__init__(table.name, schema, table.rows)
        self.columns, self.bad_rows = table.columns, applying.bad_rows
        if applying.keep_all:
            self._keep = list(table.columns)
        if applying.aside is not None:
            flag, wanted = applying.aside
            aside = self._known(wanted, flag)
            self._keep += [aside] if aside not in (*self._keep, self._label) else []
        table.learnt = frozenset(self.features)
        self._want()
        table.check(self._read)

    def _want(self) -> None:
        """Decide which columns to read, and as which kinds."""
        types = self._table.types()
        self._wanted = [
            (name, "category" if column.kind == "category" else kinds.reader_kind(column, types.get(name)))
            for name, column in zip(self.features, self.schema.columns, strict=True)
        ]
        found = [pa.null() if self._table.is_text else types.get(name, pa.null()) for name in self.features]
        self.types = [kind if kinds.kind_of(kind) == "vector" else None for kind in found]
        for name, column, kind in zip(self.features, self.schema.columns, self.types, strict=True):
            width = kind.list_size if kind is not None and pa.types.is_fixed_size_list(kind) else column.width
            if column.kind == "vector" and width != column.width:
                raise DataError(
                    f"{self._table.name}: column {name!r} holds lists of {width}, and lists of {column.width} numbers "
                    "were expected"
                )
        carried = [*self._keep, *([self._label] if self._label is not None else [])]
        self._read = [*self._wanted, *((column, TEXT) for column in carried)]

    def may_be_label(self) -> str:
        """Return the feature that may be the label among pixels: the one whose name differs from the others.

        If all names are alike, it is the first or the last, whichever has fewer distinct values in the first rows.
        """
        forms = Counter(re.sub(r"\d+", "", name) for name in self.features)
        alone = [name for name in self.features if forms[re.sub(r"\d+", "", name)] == 1]
        if len(alone) == 1:
            return alone[0]
        peeked = self._table.peek()
        ends = (self.features[0], self.features[-1])
        return min(ends, key=lambda name: len(set(peeked[name].to_pylist())))

    def order_pixels(self) -> None:
        """Order the columns by the numbers in their names, if the names differ in nothing else.

        A table may have them sorted as text: pixel0, pixel1, pixel10, ...
        """
        found = [re.fullmatch(r"(.*?)(\d+)", name) for name in self.features]
        if len(self.features) != self.schema.inputs or len({each[1] if each else None for each in found}) != 1:
            return
        numbers = np.array([int(each[2]) if each else -1 for each in found])
        order = np.argsort(numbers).tolist()
        if (np.diff(numbers[order]) != 1).any():
            return
        if order == list(range(len(order))):
            return
        self._reorder(order)
        self.remarks.append(
            f"pixels are in the order of the numbers in their names: {', '.join(self.features[:3])}, ..."
        )

    def _reorder(self, order: list[int]) -> None:
        self.features = [self.features[i] for i in order]
        self.schema = dataclasses.replace(self.schema, columns=tuple(self.schema.columns[i] for i in order))
        self._want()

    def turn(self) -> None:
        """Read the training columns as pixels whose channels come first, as the schema says.

        Raises DataError if a channel begins inside a list.
        """
        schema = self.schema
        assert schema.image_shape is not None  # noqa: S101, for the type checker
        self.turned, self._places = True, self._within(schema)
        if self._places is None:
            if len(schema.columns) != schema.inputs:
                raise DataError(
                    f"{self.name}: pixels with channels first must be one list, or columns of one number each"
                )
            self._reorder(np.argsort(places(schema.image_shape)).tolist())

    @staticmethod
    def _within(schema: Schema) -> Array | None:
        """Return the order of a row's values if one list holds all of them; else None, and columns are reordered."""
        if not schema.channels_first or schema.image_shape is None or len(schema.columns) != 1:
            return None
        return np.argsort(places(schema.image_shape))

    def _batches(self) -> Iterator[Batch]:
        sorted_by = [name for name, why in self.schema.left_out if why == settling.SORTED]
        clocks = [settling.Clock(name) for name in sorted_by if self.in_time_order and name in self._table.columns]
        for piece in self._table.pieces([*self._read, *((clock.name, TEXT) for clock in clocks)]):
            features, aside = piece.columns[: len(self._wanted)], piece.columns[len(self._wanted) :]
            for clock in reversed(clocks):
                clock.see(aside.pop(), self._table.dialect or kinds.PLAIN, self._table.na)
            bad = dict(piece.bad)
            x = self._matrix(piece, features, bad)
            labels = aside.pop() if self._label is not None else None
            kept = dict(zip(self._keep, aside, strict=True))
            yield Batch(x, labels, kept, piece.name, piece.row, bad=bad)
        if any(known is not None for known in self._seen):
            self._close_categories()
        self.remarks += [
            f"--holdout-last: the rows are not in the order of column {clock.name!r}: sort them by it, and name the "
            "files in that order"
            for clock in clocks
            if not clock.rises
        ]

    def learning(self) -> list[str]:
        """Return sentences on what training is about to learn from the table, and other remarks."""
        wide = [f" ({column.width:,} values)" * (column.kind == "vector") for column in self.schema.columns]
        names = [f"{column.name or f'x{i}'}{wide[i]}" for i, column in enumerate(self.schema.columns)]
        shown = ", ".join(names[:SHOWN_COLUMNS]) + (", ..." if len(names) > SHOWN_COLUMNS else "")
        parts = [f"learning {len(names):,} column{'s' * (len(names) != 1)}: {shown}"]
        if self._label is not None:
            parts.append(f"label: {self._label}")
        if self.unlearnt:
            parts.append(
                "left out: " + ", ".join(f"{name or repr(name)} ({why})" for name, why in self.unlearnt.items())
            )
        said, self.remarks = ["; ".join(parts), *self.remarks], []
        return said

    def share_read(self) -> float | None:
        return self._table.share_read() or super().share_read()

    def _matrix(self, piece: Piece, columns: list[Any], bad: dict[int, DataError]) -> Array:
        """Return the features as float64 (N, D), holes as NaN; or as uint8, if they come so and a model is applied.

        If all features are vectors, they keep their type. Rows with a cell that cannot be read are added to `bad`, by
        their position.
        """
        plain = not self._table.na
        if plain and self.schema.all_numbers and all(kind == "number" for _, kind in self._wanted):
            values = pa.record_batch(columns, [str(i) for i in range(len(columns))])
            may_have_holes = any(column.type == ARROW_TYPES["number"] for column in columns)
            x: Array = values.to_tensor(null_to_nan=may_have_holes).to_numpy()  # uint8 becomes float here
            if not may_have_holes and not self._training:
                return x
            x = x.astype(np.float64, copy=False)
        elif all(column.kind == "vector" for column in self.schema.columns):
            parts = [self._numbers(piece, values, i, bad) for i, values in enumerate(columns)]
            x = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        else:
            x, place = np.empty((len(columns[0]), self.schema.inputs)), 0
            for i, (values, column) in enumerate(zip(columns, self.schema.columns, strict=True)):
                x[:, place : place + column.width] = self._numbers(piece, values, i, bad)
                place += column.width
        return x if self._places is None else x[:, self._places]

    def _numbers(self, piece: Piece, values: Any, place: int, bad: dict[int, DataError]) -> Array:
        """Return a feature's numbers (N, width). Rows with a cell that cannot be read are added to `bad`."""
        column = self.schema.columns[place]
        if column.kind == "category":
            return self._numbered(piece, values, place, bad)[:, None]
        dialect = self._table.dialect or kinds.PLAIN
        numbers, wrong = kinds.to_numbers(values, column, dialect, self._table.na)
        for row in np.flatnonzero(wrong).tolist():
            bad.setdefault(row, self._unreadable(piece, row, place, values[row].as_py()))
        return numbers

    def _unreadable(self, piece: Piece, row: int, place: int, cell: Any) -> DataError:
        column = self.schema.columns[place]
        expected = {
            "vector": f"a list of {column.width} number{'s' * (column.width != 1)}",
            "boolean": " or ".join(column.words or ("true", "false")),
        }.get(column.kind, f"a {column.kind}")
        is_other = isinstance(cell, list) and len(cell) != column.width
        held = f"a list of {len(cell)}" if is_other else shortened(cell)
        return DataError(
            f"{piece.name}: row {piece.row + row + 1}, column {self.features[place]!r} holds {held}, and "
            f"{expected} was expected",
            hint=mend(self._applying, training=self._training),
        )

    def _numbered(self, piece: Piece, values: Any, place: int, bad: dict[int, DataError]) -> Array:
        """Return the number of each cell's category; for unknown categories, that of the rare ones or below 0."""
        column = self.schema.columns[place]
        encoded = kinds.texts(values, self._table.na).dictionary_encode()
        names = [kinds.category(text) for text in encoded.dictionary.to_pylist()]
        seen = self._seen[place] if self._seen else None
        if seen is not None:
            for name in names:
                seen.setdefault(name, len(seen))
            if len(seen) > MAX_DISTINCT:
                raise DataError(
                    f"{piece.name}: column {self.features[place]!r} has more than {MAX_DISTINCT:,} categories",
                    hint=f"leave it out: --exclude {self.features[place]!r}",
                )
            known = seen
        else:
            known = {value: i for i, value in enumerate(column.categories)}
        unknown = len(column.categories) - 1 if column.other else -1
        numbers = np.array([known.get(name, unknown) for name in names] + [np.nan])
        if self._applying.unknown == "ignore":
            for i in np.flatnonzero(numbers < 0).tolist():
                numbers[i] = self._unknown_number(names[i], place)
        out: Array = numbers[encoded.indices.fill_null(len(numbers) - 1).to_numpy()]
        if seen is not None:
            counts = np.bincount(out[~np.isnan(out)].astype(np.int64), minlength=len(seen))
            counts[: len(self._counts[place])] += self._counts[place]
            self._counts[place] = counts
        if self._applying.unknown != "ignore":
            for row in np.flatnonzero(out < 0).tolist():
                error = DataError(
                    f"{piece.name}: row {piece.row + row + 1}, column {self.features[place]!r} holds "
                    f"{values[row].as_py()!r}, and the model knows {listed(list(known))}",
                    hint="--unknown ignore reads such a cell as none of them",
                )
                bad.setdefault(row, error)
        return out

    def _unknown_number(self, name: str, place: int) -> int:
        """Return a number below 0 for a category that the model does not know, and remember its text: see `Source`."""
        first = sum(column.width for column in self.schema.columns[:place])
        numbers = self.unknown.setdefault(first, {UNKNOWN: -1})
        if len(numbers) <= MAX_UNKNOWN:
            numbers.setdefault(name, -1 - len(numbers))
        return numbers.get(name, -1)

    def _close_categories(self) -> None:
        """Put the categories that were found into the schema, after all rows were read."""
        columns = list(self.schema.columns)
        for i, (seen, counts) in enumerate(zip(self._seen, self._counts, strict=True)):
            if seen is None:
                continue
            names = list(seen)
            if doubtful := [name for name in names if name in HOLES]:
                self.remarks.append(
                    f"column {self.features[i]!r} holds {listed(doubtful)} as categories: --na {doubtful[0]!r} reads "
                    "such cells as holes"
                )
            if len(names) <= self._max_categories:
                columns[i] = dataclasses.replace(columns[i], categories=tuple(names))
                continue
            place = sum(column.width for column in columns[:i])
            kept, self.renumbered[place] = settling.grouped(counts, self._max_categories)
            has = f"column {self.features[i]!r} has {len(names):,} categories"
            if counts[kept].sum() < counts.sum() / 2:
                raise DataError(
                    f"{self.name}: {has}, and the {self._max_categories:,} most frequent ones cover less than half of "
                    "the rows: it looks like an id",
                    hint=f"leave it out: --exclude {self.features[i]!r}",
                )
            rare = "other" if "other" not in names else "(other)"
            columns[i] = dataclasses.replace(
                columns[i], categories=(*(names[place] for place in kept.tolist()), rare), other=True
            )
            self.remarks.append(f"{has}: the {len(names) - len(kept):,} rarest are merged into one, {rare!r}")
        self._seen = []
        self.schema = dataclasses.replace(self.schema, columns=tuple(columns))

    def _settled(self, columns: Columns) -> Schema:
        """Choose the features for training, and the kind of each."""
        table = self._table
        categorical = self._matching(columns.categorical, "--categorical")
        named = self._matching(columns.features, "--features")
        excluded = self._matching(columns.exclude, "--exclude")
        others = [c for c in table.columns if c not in (self._label, *self._keep, *excluded)]
        if columns.features:
            others = [column for column in others if column in (*named, *categorical)]
        elif aside := [column for column in others if column in table.aside]:
            self.unlearnt |= {column: table.aside[column] for column in aside}
            others = [column for column in others if column not in aside]
        found = settling.settled(
            table.name,
            table.peek(),
            others,
            chosen=named,
            categorical=categorical,
            may_have_holes=columns.missing is not None,
            dialect=table.dialect or kinds.PLAIN,
            na=table.na,
            written=table.written,
            nameless=table.nameless,
            is_text=table.is_text,
            may_be_label=columns.image_shape is not None and self._label is None,
        )
        self.unlearnt |= found.left_out
        self.remarks += found.notes
        self.features = [column.name or "" for column in found.columns]
        for name in self.features[:LOOKED_AT]:
            if name not in (*named, *categorical) and (cell := table.code(name)) is not None:
                ways = f"--categorical {name!r} or --exclude {name!r}"
                self.remarks.append(
                    f"column {name!r} holds {cell}, and is learnt as numbers: if they are codes, use {ways}"
                )
        if alike := [name for name in self.features if name.casefold() == DEFAULT_LABEL and name != self._label]:
            self.remarks.append(f"column {alike[0]!r} is learnt: --label {alike[0]!r} makes it the label")
        if not self.features:
            raise DataError(f"{table.name}: none of its {len(table.columns)} columns is left to train on")
        if any(column.kind == "category" for column in found.columns):
            self._seen = [{} if column.kind == "category" else None for column in found.columns]
            self._counts = [np.zeros(0, np.int64) for _ in found.columns]
        made = found.columns
        if not table.named:
            made = [dataclasses.replace(column, name=None) for column in made]
        return Schema(
            sum(column.width for column in made),
            tuple(made),
            missing=columns.missing,
            label=self._label,
            dialect=table.dialect,
            na=tuple(table.na),
            left_out=tuple(sorted(self.unlearnt.items())),
        )

    def _pick_label(self, label: str | None, schema: Schema | None) -> str | None:
        table = self._table
        if label is not None and schema is None:
            return self._known(label, "--label")
        if schema is not None and not table.named and len(table.columns) == len(schema.columns or range(schema.inputs)):
            return None  # every column is a feature, and without a header none can be named as the label
        wanted = [DEFAULT_LABEL] if schema is None or schema.features is None else []
        wanted = [schema.label, *wanted] if schema is not None and schema.label else [DEFAULT_LABEL]
        return next((name for name in wanted if name in table.columns), None)

    def _shortened(self, schema: Schema) -> Schema:
        """Return the schema of the first columns only, if the table has as many as a shorter row needs."""
        names, here = schema.features, self._table.columns
        if self._table.named and names is not None:
            there = next((i for i, name in enumerate(names) if name not in here), len(names))
        else:
            there = sum(column != self._label and column not in self._keep for column in here)
        if there not in self._applying.shorter:
            return schema
        return dataclasses.replace(schema, inputs=there, columns=schema.columns[:there])

    def _matched(self, schema: Schema) -> list[str]:
        """Return the table's columns that are the model's features, in the model's order."""
        table = self._table
        count = len(schema.columns) or schema.inputs
        if table.named and schema.features is not None:
            here = set(table.columns)
            missing = [column for column in schema.features if column not in here]
            if missing:
                raise WidthError(
                    f"{table.name}: {len(missing)} of the model's {count} columns are missing: {listed(missing)}",
                    hint=f"its columns are {listed(table.columns)}",
                )
            return list(schema.features)
        others = [column for column in table.columns if column != self._label and column not in self._keep]
        if len(others) != count:
            raise WidthError(
                f"{table.name}: {len(others)} columns of values, and the model takes {count}",
                hint=None if self._label else NAMELESS,
            )
        if schema.channels_first and schema.image_shape is not None and count == schema.inputs:
            return [others[i] for i in np.argsort(places(schema.image_shape))]
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
        if wanted.strip() in columns:  # the reader strips blanks around names
            return wanted.strip()
        near = difflib.get_close_matches(wanted, columns, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"its columns are {listed(columns)}"
        if set(several := wanted.split(",")) <= set(columns):
            each = [f"{flag} {name!r}" for name in several]
            takes_one = flag in ("--label", "--colour")
            hint = f"name one: {' or '.join(each)}" if takes_one else f"name one at a time: {' '.join(each)}"
        raise DataError(f"{self._table.name}: {flag} {wanted!r} names no column", hint=hint)


def mend(applying: Applying, *, training: bool) -> str:
    """Return the ways to handle a cell that is not of its column's kind."""
    if training:
        return "correct the cell, or leave it empty and train with --missing mean or --missing drop"
    return f"correct the cell, or use {applying.ways}"


def mend_marks(name: str, marks: Mapping[str, Any], applying: Applying, *, training: bool) -> str:
    """Return the way to read a file whose numbers have other marks: the option's name -> mark."""
    options = " ".join(f"--{option} {shlex.quote(mark)}" for option, mark in marks.items())
    if training or applying.further:
        return (
            f"it is a number with other marks: {options} reads it if all files of the run are written so; otherwise "
            f"convert {name} first"
        )
    return f"it is a number with other marks: {options} reads it"


def as_kind(values: Any, kind: str, name: str, column: str, first_row: int) -> Any:
    """Return a column of a typed format as `Table.pieces` yields it. Raises DataError for the first wrong cell.

    `name` is the name of the file, `first_row` the number of rows before these.
    """
    values = kinds.as_one(values)
    try:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return _cast(values, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        for i in range(len(values)):
            try:
                _cast(values[i : i + 1], kind)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise DataError(
                    f"{name}: row {first_row + i + 1}, column {column!r} holds {shortened(values[i].as_py())}, "
                    f"and the cells of this feature must be {WORDS.get(kind, f'{kind}s')}"
                ) from error
        raise DataError(f"{name}: column {column!r}: {error}") from error


def _cast(values: Any, kind: str) -> Any:
    if kind in (TEXT, "vector"):
        return values
    if kind == "category":
        return kinds.texts(values)
    if kind in ("date", "timestamp"):
        return timestamps(values)
    return values if values.type == ARROW_TYPES[kind] else values.cast(ARROW_TYPES[kind], safe=False)


def listed(names: Sequence[str]) -> str:
    """Return the first eight names, as a sentence lists them."""
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
