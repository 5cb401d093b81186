"""From what a user names to a source of rows, in one way: what is it, who reads it, what does the schema say."""

import difflib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from aecli.config import Schema
from aecli.data.formats import ARRAYS, IDX, NAMES, SPLITS, TABLES, table_form
from aecli.data.source import Chain, Source
from aecli.errors import DataError, UsageError
from aecli.options import ALL_COLUMNS, AS_IT_IS, PLAINLY, Applying, Columns, Reading

if TYPE_CHECKING:
    from aecli.data.table import Table

SET, TABLE, ARRAY, IMAGES, FRAME, SOURCE = "built-in set", "table", "array", "images", "data frame", "source"


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Input:
    """One thing to read: what was given, and what it is.

    `path` is its file, None where it has none. `part` is the split of a built-in set, or the key of an NPZ's array.
    """

    given: Any
    kind: str
    path: Path | None = None
    part: str | None = None


@dataclass(frozen=True)
class Request:
    """What is asked of the rows: with the `schema` of a model, they are matched to it."""

    schema: Schema | None = None
    columns: Columns = ALL_COLUMNS
    reading: Reading = AS_IT_IS
    applying: Applying = PLAINLY
    data_dir: Path | None = None
    stdin: BinaryIO | None = None
    announce: Callable[[str], None] = _silent

    @property
    def missing(self) -> str | None:
        """What becomes of holes."""
        return self.columns.missing if self.schema is None else self.schema.missing


def open_source(data: Any, *, split: str = "train", **request: Any) -> Source:
    """Open rows: a built-in set, files of one kind, a folder of images, "-" for standard input, an array or a frame.

    `data` is one of them, or a list of files. `split` is the one that a built-in set's name alone means. `request` are
    the fields of `Request`.
    Raises DataError where there is no such data, or none of it fits; UsageError where the words make no sense together.
    """
    asked = Request(**request)
    several = isinstance(data, list | tuple) and all(isinstance(each, str | Path) for each in data)
    inputs = [identified(each, split, asked.reading) for each in (data if several else [data])]
    kinds = {each.kind for each in inputs}
    if SET in kinds and len(inputs) > 1:
        raise UsageError("a built-in set is read alone", hint=f"name {inputs[0].given} only, or files only")
    if len(kinds) > 1:
        raise DataError(
            f"{inputs[0].given} and {next(i.given for i in inputs if i.kind != inputs[0].kind)}: tables, arrays and "
            "images are not read together"
        )
    source = READERS[inputs[0].kind](inputs, asked)
    if inputs[0].kind not in (TABLE, FRAME):
        _check_unnamed(source, asked)
    return source


def identified(given: Any, split: str, reading: Reading) -> Input:
    """Return what was given: a name, a path, an array, a data frame.

    Raises DataError where there is no such file or set.
    """
    if isinstance(given, Source):
        return Input(given, SOURCE)
    if not isinstance(given, str | Path):
        return Input(given, FRAME if hasattr(given, "columns") or hasattr(given, "schema") else ARRAY)
    word = str(given)
    if named := split_name(word, split):
        return Input(word, SET, part=named[1])
    file, key = _npz_key(word)
    path = None if word == "-" else Path(file)
    if path is not None and not path.exists():
        raise DataError(f"{word}: no such file")
    return Input(word, TABLE if reading.input_format is not None else _kind(path), path, key)


def _kind(path: Path | None) -> str:
    """Return what a file is by its name."""
    if path is None or (table_form(path.name) is not None and not path.is_dir()):
        return TABLE
    is_array = re.search(IDX, path.name) is not None or path.suffix.lower() in ARRAYS
    return ARRAY if is_array and path.is_file() else IMAGES


def split_name(data: str, split: str) -> tuple[str, str] | None:
    """Split a built-in set's name into name and split: "mnist:test" -> ("mnist", "test"). None for all other data.

    Raises DataError for what looks like a name and is none, UsageError for a split that no set has.
    """
    name, colon, said = data.partition(":")
    if name in NAMES:
        if colon and said not in SPLITS:
            raise UsageError(f"{data}: the splits of {name} are {name}:train and {name}:test")
        return name, said or split
    if data != "-" and not Path(data).exists() and re.fullmatch(r"[\w-]+(:\w*)?", data):
        near = difflib.get_close_matches(name.lower(), NAMES, n=1)
        raise DataError(
            f"{data}: no such file, and no built-in data set of this name",
            hint=f"did you mean {near[0]}?" if near else f"the built-in sets are {', '.join(NAMES)}",
        )
    return None


def _npz_key(word: str) -> tuple[str, str | None]:
    """Split `file.npz:key`, which names an array in a file."""
    path, _, key = word.rpartition(":")
    return (path, key) if path.lower().endswith(".npz") and not Path(word).exists() else (word, None)


def _open_set(inputs: Sequence[Input], asked: Request) -> Source:
    from aecli.data.builtin import open_builtin

    name = str(inputs[0].given).partition(":")[0]
    return open_builtin(name, inputs[0].part or "", asked.data_dir, asked.announce)


def _open_tables(inputs: Sequence[Input], asked: Request) -> Source:
    from aecli.data.table import Several, TableSource

    if asked.columns.image_size is not None:
        raise UsageError("--image-size is for images, and this is a table")
    tables = (_table(each, asked) for each in inputs)
    first = next(tables)
    table = Several(first, tables) if len(inputs) > 1 else first
    return TableSource(table, asked.columns, asked.applying, asked.schema)


def _open_frame(inputs: Sequence[Input], asked: Request) -> Source:
    from aecli.data.arrow import FrameTable
    from aecli.data.table import TableSource

    return TableSource(FrameTable(inputs[0].given), asked.columns, asked.applying, asked.schema)


def _open_arrays(inputs: Sequence[Input], asked: Request) -> Source:
    from aecli.data.arrays import array_source, open_array

    def each() -> Iterator[Source]:
        for one in inputs:
            if one.path is None:
                source = array_source("the array", one.given, asked.missing)
            else:
                source = open_array(one.path, one.part, asked.missing)
            _check_width(source, asked.schema)
            if first and source.schema.inputs != first[0].schema.inputs:
                raise DataError(
                    f"{source.name}: {source.schema.inputs} values a row, and {first[0].schema.inputs} were expected"
                )
            first.append(source)
            yield source

    first: list[Source] = []
    sources = each()
    source = next(sources)
    return Chain(source, sources) if len(inputs) > 1 else source


def _open_images(inputs: Sequence[Input], asked: Request) -> Source:
    from aecli.data.images import ImageSource, endings

    paths = [each.path for each in inputs if each.path is not None]
    for path in paths:
        if not path.is_dir() and path.suffix.lower() not in endings():
            raise DataError(
                f"{path}: the name ends in {path.suffix or 'nothing'!r}, which is none of the formats that are read",
                hint=f"they are {', '.join((*TABLES, *ARRAYS))}, IDX files and images; "
                "--input-format names the one of a table with another name",
            )
    return ImageSource(paths, schema=asked.schema, size=asked.columns.image_size, skip_broken=asked.reading.skip_broken)


READERS: dict[str, Callable[[Sequence[Input], Request], Source]] = {
    SET: _open_set,
    TABLE: _open_tables,
    FRAME: _open_frame,
    ARRAY: _open_arrays,
    IMAGES: _open_images,
    SOURCE: lambda inputs, _: inputs[0].given,
}


def _check_unnamed(source: Source, asked: Request) -> None:
    """Refuse options that are for tables alone, and rows that are not of the model's width."""
    named = {"label": asked.columns.label, "features": asked.columns.features, "exclude": asked.columns.exclude}
    named |= {"categorical": asked.columns.categorical, "keep": asked.applying.keep}
    if flag := next((name for name, value in named.items() if value), None):
        raise DataError(f"{source.name} has no named columns, so --{flag} has nothing to choose from")
    if asked.columns.image_size is not None and not source.resizes:
        raise UsageError(f"--image-size is for image files, and {source.name} is an array")
    _check_width(source, asked.schema)


def _check_width(source: Source, schema: Schema | None) -> None:
    if schema is not None and source.schema.inputs != schema.inputs:
        raise DataError(f"{source.name}: {source.schema.inputs} values a row, and the model takes {schema.inputs}")


def _table(one: Input, asked: Request) -> "Table":
    """Open a table: a file, or standard input."""
    from aecli.data.stream import Stream

    if one.path is None:
        stdin = asked.stdin
        if stdin is None:
            if sys.stdin is None:
                raise DataError("standard input is closed")
            stdin = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
        stream = Stream("standard input", stdin)
    elif one.path.is_dir():
        raise DataError(f"{one.path}: a folder, and a table was expected", hint=f"name its files: {one.path}/*")
    else:
        stream = Stream.open(one.path)
    live = asked.applying.line_buffered
    match asked.reading.input_format or (one.path and table_form(one.path.name)):
        case "parquet":
            from aecli.data.arrow import ParquetTable

            return ParquetTable(stream)
        case "arrow":
            from aecli.data.arrow import ArrowTable

            return ArrowTable(stream)
        case "jsonl":
            from aecli.data.jsonl import JsonLinesTable

            return JsonLinesTable(stream, live=live)
        case form:
            from aecli.data.csv import CsvTable

            by_name = "\t" if form == "tsv" else None
            return CsvTable(
                stream, asked.reading, asked.schema, live=live, announce=asked.announce, default_delimiter=by_name
            )
