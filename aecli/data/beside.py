"""A column of another table, beside the rows of a source: `labels.csv:kind`.

Where the rows have paths, as images do, and the table has a column `path`, or one column of their names, a row is found
by it; else by its number.
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
    """Split FILE:COLUMN at the last colon that has a file before it. None where there is no such file.

    Raises DataError for a missing file whose name is that of a table.
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
    """Return whether a label is FILE:COLUMN. Raises DataError for a file of which no column is named."""
    from aecli.data.opening import open_table

    if split(label) is not None:
        return True
    if table_form(shown(label)) is not None and (file := place(label)).is_file():
        columns = open_table(file).columns
        label = str(file)
        ways = [f"--label {shlex.quote(f'{label}:{column}')}" for column in columns[:NAMED_COLUMNS]]
        raise DataError(
            f"--label {label} is a file, and one of its columns was expected", hint=f"name one: {' or '.join(ways)}"
        )
    return False


def join(source: "Source", inputs: "Sequence[Input]", asked: "Request", label: str | None) -> None:
    """Join to a source the labels of another table: of `label`, FILE:COLUMN, or those that a model was trained with.

    The latter are looked for in the folder of the rows, beside it, then here; where they are not theirs, a sentence
    says so.
    Raises DataError where the table that was named is not that of the rows.
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
    """Return the labels of rows for a model; None where there is no such file, or it is not that of these rows."""
    schema, own = asked.schema, source.schema.label is not None
    assert schema is not None  # noqa: S101, for the type checker
    name = str(schema.label_file)
    file = file_beside(name, inputs[0].path)
    if file is None:
        inside = inputs[0].path is not None and inputs[0].path.is_dir()
        why: str | None = f"they were in {name}, which lies neither {'in nor ' * inside}beside {source.name} nor here"
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
    """Return the file of this name in the folder that a path is or lies in, beside it, or here; None for none."""
    return next((folder / name for folder in (*_around(path), Path()) if _is_there(folder / name)), None)


def _is_there(file: Where) -> bool:
    try:
        return file.is_file()
    except PlaceError:  # a bucket may be closed but for the rows
        return False


def _around(path: Where | None) -> list[Where]:
    """Return the folder that a path is or lies in, and the one that holds it; none for data without a path."""
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
    """Say why a file of labels is not that of some rows, None where it is.

    By their numbers rows are matched only where they have the name and the number of the training rows. By their paths
    only where they are of the training rows' folder, by name, or the file is known to be of these: it lies in their
    folder, or tells it. Images of another folder often have the same names.
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
        return f"{file} goes by names, and {other}"
    if source.rows is None:
        return f"{file} goes by row number, and the rows of {source.name} are not counted"
    if not beside.fits(source.rows, paths=False):
        return f"{file} has another number of rows than {source.name}"
    return None if is_known else f"{file} goes by row number, and {other}"


def _is_near(path: Where | None, file: Where, beside: "Beside", trained_on: str | None) -> bool:
    """Return whether images are of the folder that a model was trained on, or a file of labels is known to be theirs.

    It lies in their folder, or tells both folders apart.
    """
    if path is None or trained_on is None or not (around := _around(path)):
        return False
    folder = around[0]
    parts = folder.parts if folder.name not in ("", "..") else (*folder.parts, folder.resolve().name)
    return trained_on in (*parts, path.name) or file.parent == folder or beside.tells(trained_on, parts[-1])


class Beside:
    """The column of another table that `word`, as FILE:COLUMN, names. Ask for it batch by batch, then `check`.

    `column` is the column's name, `path` the file.
    """

    def __init__(self, word: str, *, strict: bool = True) -> None:
        """Read the column. Where not `strict`, the table need have none of the rows' paths.

        Raises DataError where there is no such file or column, or a row cannot be read.
        """
        from aecli.data.kinds import TEXT
        from aecli.data.opening import open_table
        from aecli.data.table import listed

        found = split(word)
        if found is None:
            raise DataError(f"{shown(word)}: no such file", hint="a column of another file is named FILE:COLUMN")
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
        """Let no error of this table name options: they are for the data."""
        try:
            yield
        except DataError as error:
            if error.hint is None or not re.search(r"--\w|aecli ", error.hint):
                raise
            hint = f"correct {self.path} first: options on how to read are for the data alone"
            raise DataError(error.message, hint=hint) from error

    def of(self, batch: "Batch") -> Array:
        """Return the values (N,) of a batch's rows: see `labels`."""
        assert batch.numbers is not None  # noqa: S101, for the type checker: a source numbers them
        return self.labels(_texts(batch.kept.get(PATH)), batch.numbers.tolist())

    def labels(self, paths: Sequence[str] | None, numbers: Sequence[int]) -> Array:
        """Return the column's values (N,) for rows of these `numbers`, from 0, of which `paths` are the paths, if any.

        A row that the table does not have, or whose cell is empty, has None.
        Raises DataError for a path that may be one of several, or whose row may be that of another, and where the
        table has fewer rows than were asked for.
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
        """Settle how rows are found, of which `paths` are the paths, or some of them, if they have any.

        Raises DataError as `labels` does, and where several columns may be that of the paths.
        """
        if paths is not None and not self._paths:
            self._paths = self._named({_normal(str(path)) for path in paths})
        self._by_path = paths is not None and bool(self._paths)
        if self._by_path and paths is not None:
            self._index()
            for path in paths:
                self._place(_normal(str(path)))

    def tells(self, *folders: str) -> bool:
        """Return whether the table's paths go through folders of all these names."""
        return {*folders} <= {folder for path in self._paths for folder in path.split("/")[:-1]}

    @property
    def how(self) -> str:
        """How rows are found, in words."""
        return f"matched by {self._path_column}" if self._by_path else "by row number"

    def _named(self, paths: Collection[str]) -> list[str]:
        """Return the cells of the one column that has the names of more than half of the images; none without one.

        Where no column of texts has, one of whole numbers may, each of which stands there once: 1 is 1.png and 001.png.
        That of an index, which has no name, is none.
        Raises DataError where it has not all of the names: it may count otherwise than they do.
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
                    f"{self.path}: its column {name!r} has the names of {count:,} of the {len(names):,} images",
                    hint=f"where it tells the images, give it the name {PATH!r}; else take it out",
                )
        if len(found) > 1:
            raise DataError(
                f"{self.path}: several columns may be the images' paths: {listed(list(found))}",
                hint=f"give the right one the name {PATH!r}",
            )
        self._path_column = next(iter(found), PATH)
        return found.get(self._path_column, [])

    def joined(self, batches: "Iterator[Batch]", skipped: Callable[[], int]) -> "Iterator[Batch]":
        """Yield the batches of all rows but for some that were `skipped`, with their labels, and `check` at the end."""
        for batch in batches:
            yield dataclasses.replace(batch, labels=self.of(batch))
        self.check(skipped())

    def fits(self, rows: int | None, *, paths: bool) -> bool:
        """Return whether the table can be that of so many rows, which have `paths` or not; None is not known."""
        return (paths and bool(self._by_path)) or rows == len(self._values)

    def check_rows(self, rows: int | None, *, paths: bool) -> None:
        """Raise DataError where the data is known to have another number of rows, and rows are matched by number."""
        if rows is not None and not self.fits(rows, paths=paths):
            raise self._of_other_length(f"{rows:,}", paths)

    def check(self, left_out: int = 0) -> None:
        """Check, when all rows were asked for but for some that were `left_out`, that the table is theirs.

        Raises DataError where it has another number of rows, or none of their paths.
        """
        if self._strict and self._by_path and self._rows and not self._found:
            raise DataError(
                f"{self.path}: its column {self._path_column!r} has none of the {self._rows:,} paths of the data",
                hint=f"one has to be the end of the other; it has {self._paths[0]}" if self._paths else None,
            )
        if not self._by_path and self._rows + left_out != len(self._values):
            raise self._of_other_length(f"{self._rows + left_out:,}", False)

    def notes(self) -> list[str]:
        """Return a sentence on the rows that the table does not have, where there are some."""
        lacking = self._rows - self._found
        if not lacking:
            return []
        return [f"{self.path} has no row for {lacking:,} of the {self._rows:,} paths, which have no {self.column}"]

    def _of_other_length(self, rows: str, images: bool) -> DataError:
        count = len(self._values)
        return DataError(
            f"{self.path} has {count:,} row{'s' * (count != 1)}, and the data has {rows}: rows are matched by number",
            hint=f"give it a column {PATH!r} with the images' paths" if images else None,
        )

    def _index(self) -> None:
        for row, path in enumerate(self._paths):
            _enter(self._exact, path, row, self._values)
            parts = path.split("/")
            for i in range(len(parts)):
                _enter(self._endings, "/".join(parts[i:]), row, self._values)

    def _place(self, path: str) -> int | None:
        """Return the row of a path: of the same one, else of one that ends with it, or that it ends with."""
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
                f"{self.path}: its column {self._path_column!r} has several rows that may be {path}, with other values",
                hint="write longer paths, or each path once",
            )
        if (other := self._of_row.setdefault(found, path)) != path:
            raise DataError(
                f"{self.path}: its row with {self._path_column} {self._paths[found]!r} may be that of {other} or of "
                f"{path}",
                hint="write longer paths, so that each image has a row of its own",
            )
        return found


def _enter(index: dict[str, int], path: str, row: int, values: Sequence[Any]) -> None:
    """Enter a path's row; a path of several rows with other values is ambiguous."""
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
    """Return whether a column is an index, which has no name, or one that pandas or R made."""
    from aecli.data.settling import NAMELESS

    return name in table.nameless or NAMELESS.fullmatch(name.casefold()) is not None


def _count(names: Sequence[tuple[str, str]], ways: Sequence[str]) -> int:
    """Count the files, by their names with and without the ending, that stand among some paths."""
    here = {posixpath.basename(way) for way in ways}
    return sum(full in here or stem in here for full, stem in names)


def _as_named(cells: Sequence[str], stems: Sequence[str]) -> list[str]:
    """Return whole numbers as files are named by them, 7 as 007; none where numbers or names are not all different."""
    named = {int(stem): stem for stem in stems if stem.isdecimal()}
    if len(set(cells)) < len(cells) or len(named) < sum(map(str.isdecimal, set(stems))):
        return []
    return [named.get(int(cell), cell) if cell.isdecimal() else cell for cell in cells]


def _normal(path: str) -> str:
    return posixpath.normpath(path.replace("\\", "/"))


def _value(cell: Any) -> Any:
    """Return a cell, None where it is empty; of a list or a struct its text."""
    if isinstance(cell, list | dict):
        return str(cell)
    return None if cell is None or cell == "" or cell != cell else cell  # noqa: PLR0124, NaN
