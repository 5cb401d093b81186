"""A column of labels from another table than the rows: `labels.csv:kind`.

If the rows have paths, as images do, and the table has a column `path` or one column of the images' names, rows are
matched by it; otherwise by row number.
"""

import contextlib
import dataclasses
import difflib
import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.data.formats import source_name, table_form
from aecli.data.places import WRITTEN, Place, Where, is_remote, place, shown
from aecli.errors import DataError, PlaceError

if TYPE_CHECKING:
    from aecli.data.opening import Input, Request
    from aecli.data.source import Batch, Source
    from aecli.data.table import Table

Array = np.ndarray[Any, Any]
PATH = "path"
AMBIGUOUS = -1
NAMED_COLUMNS = 4


def split(word: str) -> tuple[Where, str] | None:
    """Split FILE:COLUMN at the last colon that has a file before it. Return None if there is no such file.

    Raises DataError for a missing file with the name of a table.
    """
    host = word.find("/", word.find("//") + 2) if is_remote(word) else 0
    places = [i for i, character in enumerate(word) if character == ":" and i >= host]
    for i in reversed(places):
        if word[:i] and (file := place(word[:i])).is_file():
            return file, word[i + 1 :]
    for i in reversed(places):
        if table_form(shown(word[:i])) is not None:
            raise DataError(f"{shown(word[:i])}: no such file")
    return None


def is_of_a_file(label: str) -> bool:
    """Return whether a label is FILE:COLUMN. Raises DataError for a file without a column."""
    from aecli.data.opening import open_table

    if split(label) is not None:
        return True
    if table_form(shown(label)) is not None and (file := place(label)).is_file():
        columns = open_table(file).columns
        label = str(file)
        ways = [f"--label {shlex.quote(f'{label}:{column}')}" for column in columns[:NAMED_COLUMNS]]
        raise DataError(
            f"--label {label} is a file, and FILE:COLUMN was expected", hint=f"name one: {' or '.join(ways)}"
        )
    return False


def join(source: "Source", inputs: "Sequence[Input]", asked: "Request", label: str | None) -> None:
    """Join labels of another table to a source: those of `label`, FILE:COLUMN, or those that a model was trained with.

    The program looks for a model's label file in the folder of the rows, beside it, then in the current folder; if the
    file does not belong to the rows, it announces that.
    Raises DataError if the table named by `label` does not fit the rows.
    """
    if label is None:
        beside = _found_again(source, inputs, asked)
    else:
        beside = Beside(label)
        beside.meet(source.paths)
        asked.announce(f"labels: {beside.path}:{beside.column}, {beside.how}")
    if beside is not None:
        beside.check_rows(source.rows, paths=source.resizes)
        source.beside = beside
        source.schema = dataclasses.replace(source.schema, label=beside.column, label_file=beside.path.name)


def _found_again(source: "Source", inputs: "Sequence[Input]", asked: "Request") -> "Beside | None":
    """Return a model's labels for its rows; None if their file is missing, or belongs to other rows."""
    schema, own = asked.schema, source.schema.label is not None
    assert schema is not None  # noqa: S101, for the type checker
    name = str(schema.label_file)
    file = file_beside(name, inputs[0].path)
    if file is None:
        inside = inputs[0].path is not None and inputs[0].path.is_dir()
        why: str | None = f"they were in {name}, which is neither {'in nor ' * inside}beside {source.name} nor here"
    else:
        beside = Beside(f"{file}:{schema.label}", strict=False)
        why = _why_not(beside, file, inputs, source, asked)
        if why is None:
            asked.announce(f"labels: {file}:{schema.label}, {beside.how}")
            return beside
    if not own:
        asked.announce(f"no labels: {why}")
    return None


def file_beside(name: str, path: Where | None) -> Where | None:
    """Return the file `name` in the folder of a path, in that folder's parent, or here; None if there is none."""
    return next((folder / name for folder in (*_around(path), Path()) if _is_there(folder / name)), None)


def _is_there(file: Where) -> bool:
    try:
        return file.is_file()
    except PlaceError:  # a bucket may deny access to everything but the rows
        return False


def _around(path: Where | None) -> list[Where]:
    """Return the folder of a path (or the path, if a folder) and its parent; nothing for data without a path."""
    if isinstance(path, Place):
        if path.scheme not in WRITTEN:
            return []
        around = path if path.is_dir() else path.parent
        return [around, around.parent]
    if path is None:
        return []
    folder = path if path.is_dir() else path.parent
    return [folder, folder.parent if folder.name not in ("", "..") else folder / ".."]


def _why_not(
    beside: "Beside", file: Where, inputs: "Sequence[Input]", source: "Source", asked: "Request"
) -> str | None:
    """Return why a label file does not belong to some rows; None if it does.

    Rows are matched by number only if they have the name and the number of the training rows. They are matched by path
    only if they lie in a folder with the name of the training rows' folder, or if the file is known to belong to them:
    it lies in their folder, or its paths name it. Images in another folder often have the same names.
    """
    try:
        beside.meet(source.paths)
    except DataError as error:
        return error.message
    named = source_name([one.given for one in inputs])
    is_known = asked.trained_on is None or named == asked.trained_on
    other = f"{source.name} is not {asked.trained_on}, which the model was trained on"
    if beside.how != "by row number":
        if is_known or all(_is_near(one.path, file, beside, asked.trained_on) for one in inputs):
            return None
        return f"{file} is matched by names, and {other}"
    if source.rows is None:
        return f"{file} is matched by row number, and the number of rows in {source.name} is unknown"
    if not beside.fits(source.rows, paths=False):
        return f"{file} has another number of rows than {source.name}"
    return None if is_known else f"{file} is matched by row number, and {other}"


def _is_near(path: Where | None, file: Where, beside: "Beside", trained_on: str | None) -> bool:
    """Return whether images lie in a folder named like the training folder, or a label file is known to be theirs.

    It is if it lies in their folder, or if its paths name both folders.
    """
    if path is None or trained_on is None or not (around := _around(path)):
        return False
    folder = around[0]
    parts = folder.parts if folder.name not in ("", "..") else (*folder.parts, folder.resolve().name)
    return trained_on in (*parts, path.name) or file.parent == folder or beside.tells(trained_on, parts[-1])


class Beside:
    """The column of another table that `word`, FILE:COLUMN, names. Ask for it batch by batch, then call `check`.

    `column` is the column's name, `path` the file.
    """

    def __init__(self, word: str, *, strict: bool = True) -> None:
        """Read the column. If not `strict`, the table may have none of the rows' paths.

        Raises DataError if there is no such file or column, or a row cannot be read.
        """
        from aecli.data.kinds import TEXT
        from aecli.data.opening import open_table
        from aecli.data.table import listed

        found = split(word)
        if found is None:
            raise DataError(f"{shown(word)}: no such file", hint="name a column of another file as FILE:COLUMN")
        self.path, self.column = found
        with self._by_itself():
            table = open_table(self.path)
        if self.column not in table.columns:
            near = difflib.get_close_matches(self.column, table.columns, n=1)
            hint = f"did you mean {self.path}:{near[0]}?" if near else f"its columns are {listed(table.columns)}"
            raise DataError(f"{self.path}: no column {self.column!r}", hint=hint)
        self._path_column = PATH
        wanted = [self.column, *[PATH] * (PATH in table.columns)]
        self._values: list[Any] = []
        self._paths: list[str] = []
        with self._by_itself():
            for piece in table.pieces([(name, TEXT) for name in dict.fromkeys(wanted)]):
                if piece.bad:
                    raise piece.bad[min(piece.bad)]
                self._values += map(_value, piece.columns[0].to_pylist())
                if PATH in table.columns:
                    self._paths += [_normal(str(path)) for path in piece.columns[-1].to_pylist()]
        self._rows, self._found, self._strict = 0, 0, strict
        self._by_path: bool | None = None
        self._of_row: dict[int, str] = {}
        self._exact: dict[str, int] = {}
        self._endings: dict[str, int] = {}

    @contextlib.contextmanager
    def _by_itself(self) -> Iterator[None]:
        """Replace the hints of this table's errors that name options: those apply to the data."""
        try:
            yield
        except DataError as error:
            if error.hint is None or not re.search(r"--\w|aecli ", error.hint):
                raise
            hint = f"correct {self.path} first: reading options apply only to the data"
            raise DataError(error.message, hint=hint) from error

    def of(self, batch: "Batch") -> Array:
        """Return the values (N,) for a batch's rows: see `labels`."""
        assert batch.numbers is not None  # noqa: S101, for the type checker: every source numbers its rows
        return self.labels(_texts(batch.kept.get(PATH)), batch.numbers.tolist())

    def labels(self, paths: Sequence[str] | None, numbers: Sequence[int]) -> Array:
        """Return the column's values (N,) for the rows with these `numbers`, counted from 0, and `paths`, if any.

        The value is None for a row that the table does not have, or whose cell is empty.
        Raises DataError for a path that matches several rows of the table or a row already matched by another path, and
        if the table has too few rows.
        """
        self._rows += len(numbers)
        if self._by_path is None:
            self.meet(paths)
        values = np.empty(len(numbers), object)
        if self._by_path and paths is not None:
            for i, path in enumerate(paths):
                place = self._place(_normal(str(path)))
                values[i] = None if place is None else self._values[place]
                self._found += place is not None
            return values
        if max(numbers, default=-1) >= len(self._values):
            raise self._of_other_length("more", paths is not None)
        values[:] = [self._values[number] for number in numbers]
        self._found += len(numbers)
        return values

    def meet(self, paths: Sequence[str] | None) -> None:
        """Decide how to match rows with these `paths`, which may be some of them, or None.

        Raises DataError as `labels` does, and if several columns could be the paths.
        """
        if paths is not None and not self._paths:
            self._paths = self._named({_normal(str(path)) for path in paths})
        self._by_path = paths is not None and bool(self._paths)
        if self._by_path and paths is not None:
            self._index()
            for path in paths:
                self._place(_normal(str(path)))

    def tells(self, *folders: str) -> bool:
        """Return whether the table's paths contain folders with all these names."""
        return {*folders} <= {folder for path in self._paths for folder in path.split("/")[:-1]}

    @property
    def how(self) -> str:
        """How rows are matched, in words."""
        return f"matched by {self._path_column}" if self._by_path else "by row number"

    def _named(self, paths: Collection[str]) -> list[str]:
        """Return the cells of the one column that names more than half of the images; an empty list if there is none.

        If no column of texts does, a column of distinct integers may: 1 matches 1.png and 001.png. An index column,
        which has no name, is ignored.
        Raises DataError if an integer column does not name all images: it may count differently.
        """
        from aecli.data.kinds import TEXT
        from aecli.data.opening import open_table
        from aecli.data.table import listed

        names = [(posixpath.basename(path), _stem(path)) for path in paths]
        found: dict[str, list[str]] = {}
        with self._by_itself():
            table = open_table(self.path)
            types = dict(zip(table.columns, table.peek().schema.types, strict=True))
            others = [name for name in types if name != self.column]
            texts = [name for name in others if _is_text(types[name])]
            wholes = [name for name in others if _is_whole(types[name]) and not _is_nameless(name, table)]
            cells: dict[str, list[str]] = {name: [] for name in (*texts, *wholes)}
            for piece in table.pieces([(name, TEXT) for name in cells]) if cells else ():
                for column, values in zip(cells.values(), piece.columns, strict=True):
                    column += [str(cell) for cell in values.to_pylist()]
        for name in texts:
            ways = [_normal(cell) for cell in cells[name]]
            if _count(names, ways) * 2 > len(names):
                found[name] = ways
        for name in wholes if not found else ():
            ways = _as_named(cells[name], [stem for _, stem in names])
            count = _count(names, ways)
            if count == len(names):
                found[name] = ways
            elif count * 2 > len(names):
                raise DataError(
                    f"{self.path}: its column {name!r} names {count:,} of the {len(names):,} images",
                    hint=f"if it names the images, rename it to {PATH!r}; if not, remove it",
                )
        if len(found) > 1:
            raise DataError(
                f"{self.path}: several columns may be the images' paths: {listed(list(found))}",
                hint=f"rename the right one to {PATH!r}",
            )
        self._path_column = next(iter(found), PATH)
        return found.get(self._path_column, [])

    def joined(self, batches: "Iterator[Batch]", skipped: Callable[[], int]) -> "Iterator[Batch]":
        """Yield the batches with their labels, and `check` the table at the end; `skipped` counts rows left out."""
        for batch in batches:
            yield dataclasses.replace(batch, labels=self.of(batch))
        self.check(skipped())

    def fits(self, rows: int | None, *, paths: bool) -> bool:
        """Return whether the table fits so many rows, with or without `paths`; `rows` is None if unknown."""
        return (paths and bool(self._by_path)) or rows == len(self._values)

    def check_rows(self, rows: int | None, *, paths: bool) -> None:
        """Raise DataError if rows are matched by number, and the data is known to have another number of rows."""
        if rows is not None and not self.fits(rows, paths=paths):
            raise self._of_other_length(f"{rows:,}", paths)

    def check(self, left_out: int = 0) -> None:
        """Check that the table fits the rows, after all were asked for except some that were `left_out`.

        Raises DataError if it has another number of rows, or none of their paths.
        """
        if self._strict and self._by_path and self._rows and not self._found:
            raise DataError(
                f"{self.path}: its column {self._path_column!r} matches none of the {self._rows:,} paths of the data",
                hint=f"one path must end with the other; it has {self._paths[0]}" if self._paths else None,
            )
        if not self._by_path and self._rows + left_out != len(self._values):
            raise self._of_other_length(f"{self._rows + left_out:,}", False)

    def notes(self) -> list[str]:
        """Return a note on the rows that the table does not have, if there are any."""
        lacking = self._rows - self._found
        if not lacking:
            return []
        return [f"{self.path} has no row for {lacking:,} of the {self._rows:,} paths: they have no {self.column}"]

    def _of_other_length(self, rows: str, images: bool) -> DataError:
        count = len(self._values)
        return DataError(
            f"{self.path} has {count:,} row{'s' * (count != 1)}, and the data has {rows}: rows are matched by number",
            hint=f"add a column {PATH!r} with the images' paths" if images else None,
        )

    def _index(self) -> None:
        for row, path in enumerate(self._paths):
            _enter(self._exact, path, row, self._values)
            parts = path.split("/")
            for i in range(len(parts)):
                _enter(self._endings, "/".join(parts[i:]), row, self._values)

    def _place(self, path: str) -> int | None:
        """Return the row of a path: the same path, or one that ends with it, or that it ends with."""
        parts = path.split("/")
        for full in (parts, [*parts[:-1], _stem(path)]):
            whole = "/".join(full)
            found = self._exact.get(whole, self._endings.get(whole))
            for i in range(1, len(full)):
                if found is None:
                    found = self._exact.get("/".join(full[i:]))
            if found is not None:
                break
        if found is None:
            return None
        if found == AMBIGUOUS:
            raise DataError(
                f"{self.path}: its column {self._path_column!r} has several rows with different values that may "
                f"be {path}",
                hint="write longer paths, or write each path once",
            )
        if (other := self._of_row.setdefault(found, path)) != path:
            raise DataError(
                f"{self.path}: its row with {self._path_column} {self._paths[found]!r} may belong to {other} or to "
                f"{path}",
                hint="write longer paths, so that each image has a row of its own",
            )
        return found


def _enter(index: dict[str, int], path: str, row: int, values: Sequence[Any]) -> None:
    """Add a path's row to the index; a path of several rows with different values is ambiguous."""
    before = index.setdefault(path, row)
    if before != AMBIGUOUS and values[before] != values[row]:
        index[path] = AMBIGUOUS


def _texts(column: Any) -> list[str] | None:
    return None if column is None else column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_whole(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind))


def _is_nameless(name: str, table: "Table") -> bool:
    """Return whether a column has no name, or one that pandas or R made, as an index has."""
    from aecli.data.settling import NAMELESS

    return name in table.nameless or NAMELESS.fullmatch(name.casefold()) is not None


def _count(names: Sequence[tuple[str, str]], ways: Sequence[str]) -> int:
    """Return how many of the files, by their names with or without the ending, are among some paths."""
    here = {posixpath.basename(way) for way in ways}
    return sum(full in here or stem in here for full, stem in names)


def _as_named(cells: Sequence[str], stems: Sequence[str]) -> list[str]:
    """Return integers as in the files' names, 7 as 007; an empty list if numbers or names repeat."""
    named = {int(stem): stem for stem in stems if stem.isdecimal()}
    if len(set(cells)) < len(cells) or len(named) < sum(map(str.isdecimal, set(stems))):
        return []
    return [named.get(int(cell), cell) if cell.isdecimal() else cell for cell in cells]


def _normal(path: str) -> str:
    return posixpath.normpath(path.replace("\\", "/"))


def _value(cell: Any) -> Any:
    """Return a cell; None if it is empty; the text of a list or a struct."""
    if isinstance(cell, list | dict):
        return str(cell)
    return None if cell is None or cell == "" or cell != cell else cell  # noqa: PLR0124, NaN
