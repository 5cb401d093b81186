"""Tables of more than one file, or none: several tables in a row, tables in folders, and a table without rows."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from aecli.data.kinds import TEXT
from aecli.data.table import ARROW_TYPES, Piece, Table, as_kind, listed
from aecli.errors import DataError


class Several(Table):
    """Tables one after another, with their columns in any order. Each is opened when its turn comes.

    The columns are those of the first table, and of the tables that are looked at early: in training, each table must
    have all columns that are learnt.
    """

    def __init__(
        self,
        openers: Sequence[Callable[[], Table]],
        *,
        look: Sequence[bool],
        training: bool,
        announce: Callable[[str], None],
    ) -> None:
        """Take a function for each table that opens it. It is called twice if `look` says to read the columns early.

        `announce` is called for tables without rows, and for columns that some tables lack.
        """
        self._openers, self._training, self._announce = list(openers), training, announce
        first = self._openers[0]()
        while first.rows == 0 and len(self._openers) > 1:
            announce(f"{first.name}: no rows in it")
            first, look = self._openers[1](), look[1:]
            del self._openers[0]
        others = (opener() for opener, wanted in zip(self._openers[1:], look[1:], strict=True) if wanted)
        looked = [first, *(table for table in others if table.rows != 0)]
        self._first: Table | None = first
        columns = list(dict.fromkeys(column for table in looked for column in table.columns))
        rows = [table.rows for table in looked]
        known = None if None in rows or len(rows) < len(self._openers) else sum(row or 0 for row in rows)
        super().__init__(first.name, columns, named=first.named, rows=known)
        self.aside = {column: why for table in looked for column, why in table.aside.items()}
        self._lacking = {table.name: [c for c in columns if c not in table.columns] for table in looked}
        self._peeked = _peeked_together(looked) if len(looked) > 1 else None
        self._first_types = first.types()
        self.dialect, self.is_text = first.dialect, first.is_text
        self._types: dict[str, pa.DataType] = {}  # types of kept columns

    def types(self) -> Mapping[str, pa.DataType]:
        return self._first_types

    def peek(self) -> pa.Table:
        if self._peeked is None and self._first is not None:
            self._peeked = self._first.peek()
        if self._first is not None:
            self.dialect = self._first.dialect  # it has the date format that peeking found
        return self._peeked

    def check(self, wanted: Sequence[tuple[str, str]]) -> None:
        for name, lacking in self._lacking.items():
            self._check(name, lacking, wanted)

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        for i, opener in enumerate(self._openers):
            table = self._first if i == 0 and self._first is not None else self._like_the_first(opener())
            self._first = None
            rows = 0
            if table.columns:
                for piece in self._of(table, wanted):
                    rows += len(piece.columns[0])
                    pairs = zip(wanted, piece.columns, strict=True)
                    self._types |= {column: values.type for (column, kind), values in pairs if kind == TEXT}
                    yield piece
            if not rows:
                self._announce(f"{table.name}: no rows in it")

    def _like_the_first(self, table: Table) -> Table:
        """Return a table whose dates are read in the first table's format."""
        if table.dialect is not None and self.dialect is not None and table.dialect.date_format is None:
            table.dialect = dataclasses.replace(table.dialect, date_format=self.dialect.date_format)
        return table

    def _of(self, table: Table, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        """Yield the wanted columns of one table, with holes for kept columns that it lacks."""
        here = set(table.columns)
        if not table.named and not self.named and len(table.columns) == len(self.columns):
            own = dict(zip(self.columns, table.columns, strict=True))
            yield from table.pieces([(own[column], kind) for column, kind in wanted])
            return
        if table.name not in self._lacking:
            self._check(table.name, [column for column in self.columns if column not in here], wanted)
        found = [pair for pair in wanted if pair[0] in here]
        for piece in table.pieces(found):
            columns = iter(piece.columns)
            rows = len(piece.columns[0])
            yield Piece(
                piece.name,
                piece.row,
                [next(columns) if column in here else self._holes(column, rows) for column, _ in wanted],
                piece.bad,
            )

    def _holes(self, column: str, rows: int) -> Any:
        known = self._types.get(column)
        return pa.nulls(rows, self.peek().schema.field(column).type if known is None else known)

    def _check(self, name: str, lacking: Sequence[str], wanted: Sequence[tuple[str, str]]) -> None:
        """Raise DataError if a table lacks features; announce all other columns that it lacks."""
        carried = {column for column, _ in wanted} - self.learnt
        if missing := [column for column in lacking if column in self.learnt]:
            raise DataError(
                f"{name}: columns of other files are missing: {listed(missing)}",
                hint="leave them out: " + " ".join(f"--exclude {column!r}" for column in missing[:8])
                if self._training
                else None,
            )
        if empty := [column for column in lacking if column in carried]:
            self._announce(f"{name}: no column {listed(empty)}, so it is empty for these rows")
        if (unread := [column for column in lacking if column not in carried]) and self._training:
            self._announce(f"{name}: no column {listed(unread)}, so it is not learnt")


class InFolder(Table):
    """A table in folders such as `year=2024`: each folder is a column with one value."""

    def __init__(self, table: Table, values: Mapping[str, Any]) -> None:
        """Take the folders' values as Arrow scalars by column. A column of the table itself has priority."""
        self._table, self.dialect, self.is_text = table, table.dialect, table.is_text
        self._values = {column: value for column, value in values.items() if column not in table.columns}
        super().__init__(table.name, [*table.columns, *self._values], named=table.named, rows=table.rows)
        self.aside = {**table.aside, **dict.fromkeys(self._values, "partition")}

    def peek(self) -> pa.Table:
        peeked = self._table.peek()
        for column, value in self._values.items():
            peeked = peeked.append_column(column, pa.repeat(value, len(peeked)))
        return peeked

    def types(self) -> Mapping[str, pa.DataType]:
        return {**self._table.types(), **{column: value.type for column, value in self._values.items()}}

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        own = [pair for pair in wanted if pair[0] not in self._values] or [(self._table.columns[0], TEXT)]
        for piece in self._table.pieces(own):
            columns, rows = dict(zip(own, piece.columns, strict=True)), len(piece.columns[0])
            yield Piece(
                piece.name,
                piece.row,
                [
                    as_kind(pa.repeat(self._values[column], rows), kind, piece.name, column, piece.row)
                    if column in self._values
                    else columns[column, kind]
                    for column, kind in wanted
                ],
                piece.bad,
            )

    def share_read(self) -> float | None:
        return self._table.share_read()


class NoRows(Table):
    """A table without rows, with the columns that it would have."""

    def __init__(self, name: str, columns: Sequence[str], *, named: bool = True) -> None:
        super().__init__(name, columns, named=named, rows=0)

    def peek(self) -> pa.Table:
        return pa.schema([(column, pa.null()) for column in self.columns]).empty_table()

    def pieces(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Piece]:
        kinds = {"date": pa.timestamp("us"), "timestamp": pa.timestamp("us")} | ARROW_TYPES
        yield Piece(self.name, 0, [pa.array([], kinds.get(kind, pa.string())) for _, kind in wanted])


def _peeked_together(tables: Sequence[Table]) -> pa.Table:
    """Return the first rows of the first table, with columns from later tables that the earlier ones lack."""
    peeked = tables[0].peek()
    for table in tables[1:]:
        if new := [column for column in table.columns if column not in peeked.column_names]:
            found = table.peek()
            rows = min(len(peeked), len(found))
            peeked = peeked.slice(0, rows)
            for column in new:
                peeked = peeked.append_column(column, found[column].slice(0, rows))
    return peeked
