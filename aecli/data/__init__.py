"""Names and paths to sources; results to sinks."""

import difflib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from aecli.config import Schema
from aecli.data.reading import Columns, Reading
from aecli.data.source import ArraySource, Batch, Chain, Source
from aecli.errors import DataError, UsageError
from aecli.formats import ARRAYS, NAMES, SPLITS, TABLES, table_form

if TYPE_CHECKING:
    from aecli.data.table import Table

__all__ = ["ArraySource", "Batch", "Columns", "Reading", "Source", "open_source", "split_name"]

NO_COLUMNS, AS_NAMED = Columns(), Reading()


def _silent(_: str) -> None:
    pass


def split_name(data: str, default_split: str) -> tuple[str, str] | None:
    """Split a built-in set's name into name and split: "mnist:test" -> ("mnist", "test"). None for all other data.

    Raises DataError for what looks like a name and is none, UsageError for a split that no set has.
    """
    name, colon, split = data.partition(":")
    if name in NAMES:
        if colon and split not in SPLITS:
            raise UsageError(f"{data}: the splits of {name} are {name}:train and {name}:test")
        return name, split or default_split
    if data != "-" and not Path(data).exists() and re.fullmatch(r"[\w-]+(:\w*)?", data):
        near = difflib.get_close_matches(name.lower(), NAMES, n=1)
        raise DataError(
            f"{data}: no such file, and no built-in data set of this name",
            hint=f"did you mean {near[0]}?" if near else f"the built-in sets are {', '.join(NAMES)}",
        )
    return None


def open_source(
    data: Sequence[str],
    *,
    default_split: str,
    data_dir: Path,
    schema: Schema | None = None,
    columns: Columns = NO_COLUMNS,
    reading: Reading = AS_NAMED,
    missing: str | None = None,
    ignore_unknown: bool = False,
    stdin: BinaryIO | None = None,
    announce: Callable[[str], None] = _silent,
) -> Source:
    """Open what the words `data` mean: a built-in set, files of one kind, a folder of images, or "-" for `stdin`.

    With the `schema` of a model, the rows are matched to it. `missing` says what becomes of holes where there is none.
    Raises DataError where there is no such data, or none of it fits; UsageError where the words make no sense together.
    """
    if schema is not None:
        missing = schema.missing
    names = [split_name(word, default_split) for word in data]
    if any(names):
        if len(data) > 1:
            raise UsageError("a built-in set is read alone", hint=f"name {data[0]} only, or files only")
        from aecli.data.builtin import open_builtin

        name, split = names[0] or ("", "")
        source: Source = open_builtin(name, split, data_dir, announce)
        return _checked(source, schema, columns, reading)
    for word in data:
        if word != "-" and not _path(word).exists():
            raise DataError(f"{word}: no such file")
    if reading.form is not None or all(word == "-" or _table_form(Path(word)) for word in data):
        from aecli.data.table import Several, TableSource

        tables = (_open_table(word, reading, stdin) for word in data)
        first = next(tables)
        table = Several(first, tables) if len(data) > 1 else first
        if reading.image_size is not None:
            raise UsageError("--image-size is for images, and this is a table")
        return TableSource(table, columns, schema=schema, missing=missing, ignore_unknown=ignore_unknown)
    arrays = all(_is_array(word) for word in data)
    source = _arrays(data, schema, missing) if arrays else _images(data, schema, reading)
    return _checked(source, schema, columns, reading)


def _checked(source: Source, schema: Schema | None, columns: Columns, reading: Reading) -> Source:
    """Refuse what is only for tables, and rows that are not of the model's width."""
    if flag := columns.flag():
        raise DataError(f"{source.name} has no named columns, so {flag} has nothing to choose from")
    if reading.image_size is not None and isinstance(source, ArraySource):
        raise UsageError(f"--image-size is for image files, and {source.name} is an array")
    if schema is not None and source.schema.inputs != schema.inputs:
        raise DataError(f"{source.name}: {source.schema.inputs} values a row, and the model takes {schema.inputs}")
    return source


def _path(word: str) -> Path:
    """Give the file that a word names: `file.npz:key` names an array in one."""
    return Path(_npz_key(word)[0])


def _npz_key(word: str) -> tuple[str, str | None]:
    path, _, key = word.rpartition(":")
    return (path, key) if path.lower().endswith(".npz") and not Path(word).exists() else (word, None)


def _table_form(path: Path) -> str | None:
    """Give the format that a file's name says: None where it is no table."""
    return None if path.is_dir() else table_form(path.name)


def _is_array(word: str) -> bool:
    from aecli.data.idx import is_idx

    path = _path(word)
    return path.is_file() and (is_idx(path) or path.suffix.lower() in ARRAYS)


def _open_table(word: str, reading: Reading, stdin: BinaryIO | None) -> "Table":
    from aecli.data.stream import Stream

    if word == "-":
        if stdin is None:
            if sys.stdin is None:
                raise DataError("standard input is closed")
            stdin = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
        stream = Stream("standard input", stdin)
    elif Path(word).is_dir():
        raise DataError(f"{word}: a folder, and a table was expected", hint=f"name its files: {word}/*")
    else:
        stream = Stream.open(Path(word))
    match reading.form or _table_form(Path(word)):
        case "parquet":
            from aecli.data.arrow import ParquetTable

            return ParquetTable(stream)
        case "arrow":
            from aecli.data.arrow import ArrowTable

            return ArrowTable(stream)
        case "jsonl":
            from aecli.data.jsonl import JsonLinesTable

            return JsonLinesTable(stream, live=reading.live)
        case form:
            from aecli.data.csv import CsvTable

            delimiter = reading.delimiter or ("\t" if form == "tsv" else ",")
            return CsvTable(stream, delimiter=delimiter, header=reading.header, live=reading.live)


def _arrays(data: Sequence[str], schema: Schema | None, missing: str | None) -> Source:
    from aecli.data.arrays import open_array

    def each() -> Iterator[Source]:
        for word in data:
            source = open_array(_path(word), _npz_key(word)[1], missing)
            inputs = schema.inputs if schema is not None else first.schema.inputs
            if source.schema.inputs != inputs:
                raise DataError(f"{word}: {source.schema.inputs} values a row, and {inputs} were expected")
            yield source

    first: Source = open_array(_path(data[0]), _npz_key(data[0])[1], missing)
    if len(data) == 1:
        return first
    sources = each()
    return Chain(next(sources), sources)


def _images(data: Sequence[str], schema: Schema | None, reading: Reading) -> Source:
    from aecli.data.images import ImageSource, endings

    for word in data:
        path = Path(word)
        if not path.is_dir() and path.suffix.lower() not in endings():
            several = "tables, arrays and images are not read together; " if len(data) > 1 else ""
            raise DataError(
                f"{word}: {several}the name ends in {path.suffix or 'nothing'!r}, which is none of the formats that "
                "are read here",
                hint=f"they are {', '.join((*TABLES, *ARRAYS))}, IDX files and images; "
                "--input-format names the one of a table with another name",
            )
    paths = [Path(word) for word in data]
    return ImageSource(paths, schema=schema, size=reading.image_size, skip_broken=reading.skip_broken)
