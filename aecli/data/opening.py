"""Open what a user names as a source of rows: find out what it is, choose its reader, match it to the schema."""

import dataclasses
import difflib
import functools
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from aecli.config import Dialect, Schema, sized
from aecli.data.folder import is_table
from aecli.data.formats import (
    ARRAYS,
    BLANKS,
    BOM,
    COMPRESSED,
    IDX,
    KEYED,
    NAMES,
    SPLITS,
    TEXTS,
    form_of,
    is_text,
    table_form,
    uncompressed,
)
from aecli.data.formats import IMAGES as IMAGE_ENDINGS
from aecli.data.places import Place, Where, is_remote, place, shown
from aecli.data.refused import refused
from aecli.data.source import ArraySource, Chain, Source
from aecli.errors import DataError, UsageError, WidthError
from aecli.options import ALL_COLUMNS, AS_IT_IS, PLAINLY, Applying, Columns, Reading

if TYPE_CHECKING:
    from aecli.data.stream import Stream
    from aecli.data.table import Table, TableSource

READ = (
    "supported formats: CSV, JSON Lines, a JSON array, Parquet, Arrow, NPY, NPZ, safetensors, IDX and images, plain or "
    "compressed by gzip, zstd, xz, bzip2 or zip"
)
SET, TABLE, ARRAY, IMAGES, FRAME, SOURCE = "built-in set", "table", "array", "images", "data frame", "source"

CARRIED = ("path", "page")  # columns that are always kept for images
KINDS = dict.fromkeys(("csv", "tsv", "jsonl", "parquet", "arrow"), TABLE)
KINDS |= dict.fromkeys(("npy", "npz", "safetensors", "idx"), ARRAY) | {"image": IMAGES}


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Input:
    """One thing to read: what the user gave, and what it is.

    `kind` is None if it is found out only when the input's turn comes. `path` is its file, None if it has none. `part`
    is the split of a built-in set, or the key of an array in a file with several. `form` is a file's format, and
    `stream` its bytes, if they can be read only once. `folders` are the values in the names of a table's folders, such
    as `year=2024`.
    """

    given: Any
    kind: str | None
    path: Where | None = None
    part: str | None = None
    form: str | None = None
    stream: "Stream | None" = None
    folders: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What the caller asks of the rows. If there is a model's `schema`, the rows are matched to it.

    With `force`, possible decompression bombs are read too. `trained_on` is the name of the model's training data, None
    if it has no name. `codes` is True if the schema is one of codes, which may also be one column of lists.
    """

    schema: Schema | None = None
    columns: Columns = ALL_COLUMNS
    reading: Reading = AS_IT_IS
    applying: Applying = PLAINLY
    data_dir: Path | None = None
    stdin: BinaryIO | None = None
    force: bool = False
    trained_on: str | None = None
    codes: bool = False
    announce: Callable[[str], None] = _silent

    @property
    def forced(self) -> bool | None:
        """Whether possible decompression bombs are read; None if no option can ask for it."""
        return self.force or (False if self.schema is None or self.applying.further else None)

    @property
    def missing(self) -> str | None:
        """What to do with holes."""
        return self.columns.missing if self.schema is None else self.schema.missing


def open_source(data: Any, *, split: str = "train", **request: Any) -> Source:
    """Open rows: a built-in set, files of one kind, a folder of images, "-" for standard input, an array or a frame.

    `data` is one of these, or a list of files. `split` is the split to read if only the name of a built-in set is
    given. `request` are the fields of `Request`.
    Raises DataError if the data does not exist or does not fit, UsageError if options contradict each other.
    """
    asked = Request(**request)
    several = isinstance(data, list | tuple) and all(isinstance(each, str | Where) for each in data)
    given = [file for each in (data if several else [data]) for one in _named(each) for file in _arrays_in(one)]
    inputs = [identified(each, split, asked, turn=i) for i, each in enumerate(given)]
    kinds = {each.kind for each in inputs if each.kind is not None}
    if SET in kinds and len(inputs) > 1:
        raise UsageError("a built-in set must be the only data", hint=f"name {inputs[0].given} only, or files only")
    for each in inputs:
        _check_kind(each, inputs[0])
    kind = inputs[0].kind or TABLE
    labels, asked = _apart(asked)
    source = READERS[kind](inputs, asked)
    _check_for_images(source, asked)
    if kind in (TABLE, FRAME):
        _as_images(cast("TableSource", source), asked)
    else:
        _check_unnamed(source, asked)
    if labels is not None or (asked.schema is not None and asked.schema.label_file is not None):
        from aecli.data.beside import join

        join(source, inputs, asked, labels)
    return source


def _apart(asked: Request) -> tuple[str | None, Request]:
    """Return the label as FILE:COLUMN, None if it is not of this form; and the request without it."""
    if asked.columns.label is None:
        return None, asked
    from aecli.data.beside import is_of_a_file

    if not is_of_a_file(asked.columns.label):
        return None, asked
    return asked.columns.label, dataclasses.replace(asked, columns=dataclasses.replace(asked.columns, label=None))


def _check_for_images(source: Source, asked: Request) -> None:
    """Raise UsageError if an option for image files was given for other data."""
    usual = ALL_COLUMNS
    given = [name for name in ("fit", "background", "alpha") if getattr(asked.columns, name) != getattr(usual, name)]
    if given and not source.resizes:
        raise UsageError(f"--{given[0]} is for image files, and {source.name} is not one", hint="leave it out")
    if "fit" in given and asked.columns.image_size is None:
        raise UsageError("--fit says how to resize images, and no size is given", hint="add --image-size 64")


def _as_images(source: "TableSource", asked: Request) -> None:
    """Make a table's rows images, if --image-shape says so."""
    told = asked.columns.image_shape
    if told is None or asked.schema is not None:
        return
    from aecli.data.arrays import layout

    if not source.schema.all_numbers:
        raise DataError(f"{source.name}: pixels must be numbers, and not all of its columns are", hint="leave them out")
    if math.prod(told) + 1 == source.schema.inputs == len(source.features):
        raise DataError(
            f"{source.name}: {source.schema.inputs} columns, and --image-shape {'x'.join(map(str, told))} makes "
            f"{math.prod(told)}",
            hint=f"one of them may be the label: --label {shlex.quote(source.may_be_label())}",
        )
    shape, first = layout(source.name, (0, source.schema.inputs), told)
    source.order_pixels()
    source.schema = dataclasses.replace(source.schema, image_shape=shape, channels_first=first)
    if first:
        source.turn()


def _named(given: Any) -> list[Any]:
    """Return the remote files that match a pattern; other data unchanged. Raises DataError if no file matches."""
    if not is_remote(given):
        return [given]
    found: list[Any] = [*elsewhere(given).expanded()]
    if not found:
        raise DataError(f"{shown(given)}: no file matches this name")
    return found


def _arrays_in(given: Any) -> list[Any]:
    """Return the NPY or safetensors files in a folder that holds nothing else; other data unchanged."""
    if not isinstance(given, str | Where) or given == "-" or is_remote(given):
        return [given]
    folder = place(given)
    if not folder.is_dir():
        return [given]
    inside = folder.files() if isinstance(folder, Place) else [*folder.iterdir()]
    files: list[Any] = [file for file in inside if not file.name.startswith(".")]
    endings = {file.suffix.lower() if file.is_file() else "" for file in files}
    return sorted(files) if endings in ({".npy"}, {".safetensors"}) else [given]


def identified(given: Any, split: str, asked: Request, *, turn: int = 0) -> Input:
    """Return what was given as an `Input`: a name, a path, an array, a data frame.

    Data that can be read only once, such as a pipe, is opened only when its `turn` comes.
    Raises DataError if there is no such file or set, or aecli does not read its format.
    """
    if isinstance(given, Input | Source):
        return given if isinstance(given, Input) else Input(given, SOURCE)
    if not isinstance(given, str | Where):
        return Input(given, FRAME if hasattr(given, "columns") or hasattr(given, "schema") else ARRAY)
    word = f"{given}:{given.array}" if isinstance(given, Place) and given.array is not None else str(given)
    if named := split_name(word, split):
        return Input(word, SET, part=named[1])
    file, key = (given, given.array) if isinstance(given, Place) else array_key(word)
    path = None if word == "-" else place(file)
    word = shown(word)
    if path is not None and (known := _by_place(path)) is not None:
        return Input(word, known, path)
    lasts = path is not None and path.is_file()
    if not lasts and turn:
        return Input(word, None, path, key)
    found = _looked(Input(word, None, path, key), asked)
    again = lasts and (found.kind != IMAGES or found.stream is None or found.stream.is_plain())
    return dataclasses.replace(found, stream=None) if again else found


def _by_place(path: Where) -> str | None:
    """Return the kind of a folder or a remote image, by its path; None if its content must be read first.

    Raises DataError if nothing is there.
    """
    if isinstance(path, Place) and path.listed and path.suffix.lower() in IMAGE_ENDINGS:
        return IMAGES  # opening each one takes long
    if not path.exists():
        raise DataError(f"{path}: no such file")
    return (TABLE if is_table(path) else IMAGES) if path.is_dir() else None


def _looked(one: Input, asked: Request) -> Input:
    """Return a file with its bytes, its kind and its format."""
    if one.stream is not None:
        return one
    stream = _stream(one.path, asked)
    start = stream.peek()
    form = asked.reading.input_format or form_of(start)
    if form_of(start) == "zip":
        from aecli.data.archive import unpacked

        inside, stream = unpacked(stream, one.path, force=asked.forced)
        start, form = stream.peek(), asked.reading.input_format or inside
    if form is None:
        form = _form_by_name(stream.name, start)
    if form in TEXTS and form_of(start) is None and asked.reading.encoding is None and not is_text(start):
        place = next(i for i in range(len(start)) if not is_text(start[: i + 1]))
        raise DataError(
            f"{stream.name}: not text, and no format that aecli reads: byte {place + 1} is "
            f"{start[place : place + 1]!r}",
            hint=READ,
        )
    if form not in KINDS:
        raise refused(stream.name, form, path=one.path)
    return dataclasses.replace(one, kind=KINDS[form], form=form, stream=stream)


def _check_kind(one: Input, first: Input) -> None:
    if one.kind not in (None, first.kind):
        raise DataError(f"{first.given} and {one.given}: tables, arrays and images cannot be read together")


def _stream(path: Where | None, asked: Request) -> "Stream":
    from aecli.data.stream import Stream

    if path is not None:
        return Stream.open(path, force=asked.forced)
    stdin = asked.stdin
    if stdin is None:
        if sys.stdin is None:
            raise DataError("standard input is closed")
        stdin = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return Stream("standard input", stdin, force=asked.forced)


def _form_by_name(name: str, start: bytes) -> str:
    """Return the format by a file's name and its first bytes; CSV if the name says nothing."""
    if re.search(IDX, name):
        return "idx"
    ending = Path(name).suffix.lower()
    if ending in ARRAYS:
        return ending[1:]
    if form := table_form(name):
        return form
    if ending in IMAGE_ENDINGS:
        return "image"
    if ending and not is_text(start):
        from aecli.data.images import endings

        return "image" if ending in endings() else "csv"
    return "csv"


def split_name(data: str, split: str) -> tuple[str, str] | None:
    """Split a built-in set's name into name and split: "mnist:test" -> ("mnist", "test"). None for other data.

    Raises DataError for a word that looks like a set's name but is not one, UsageError for an unknown split.
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


def array_key(word: str) -> tuple[str, str | None]:
    """Split `file.npz:key` or `file.safetensors:key`, which names an array in a file. A query may follow the key."""
    if is_remote(word):
        endings, packed = ("|".join(map(re.escape, each)) for each in (KEYED, COMPRESSED))
        form = rf"(.*(?:{endings})(?:{packed})?):([^?#]*)(.*)"
        found = re.fullmatch(form, word, re.IGNORECASE | re.DOTALL)
        return (f"{found[1]}{found[3]}", found[2]) if found else (word, None)
    path, _, key = word.rpartition(":")
    is_key = uncompressed(path.lower()).endswith(KEYED) and not Path(word).exists()
    return (path, key) if is_key else (word, None)


def elsewhere(word: str) -> Place:
    """Return the place that a URL names, with the array key of `file.npz:key`."""
    file, key = array_key(word)
    return Place(file, array=key)


def _open_set(inputs: Sequence[Input], asked: Request) -> Source:
    from aecli.data.builtin import open_builtin

    name = str(inputs[0].given).partition(":")[0]
    return open_builtin(name, inputs[0].part or "", asked.data_dir, asked.announce)


def _open_tables(inputs: Sequence[Input], asked: Request) -> Source:
    from aecli.data.dialect import na_values

    if asked.columns.image_size is not None:
        raise UsageError("--image-size is for images, and this is a table")
    training = asked.schema is None
    files = [file for one in inputs for file in _files(one)]
    if len(files) == 1:
        table = _table(files[0], asked, files[0])
    else:
        from aecli.data.several import Several

        openers = [functools.partial(_table, file, asked, files[0]) for file in files]
        table = Several(
            openers,
            look=[(training or bool(asked.applying.keep)) and file.kind is not None for file in files],
            training=training,
            announce=asked.announce,
        )
    table.na = na_values(asked.reading, asked.schema)
    if table.rows == 0:
        if training:
            why = "only a header" if table.columns else "it is empty"
            raise DataError(f"{table.name}: no rows to read, {why}")
        if len(files) == 1:
            asked.announce(f"{table.name}: no rows in it")
    return _rows(table, asked)


def _rows(table: "Table", asked: Request) -> Source:
    from aecli.data.table import TableSource

    schema = asked.schema
    if asked.codes and schema is not None:
        from aecli.data.codes import in_lists

        schema = in_lists(table, schema, asked.applying.shorter)
    return TableSource(table, asked.columns, asked.applying, schema)


def _files(one: Input) -> list[Input]:
    """Return the files of a folder of tables; any other input counts as one file."""
    if one.path is None or not one.path.is_dir():
        return [one]
    from aecli.data.folder import tables_in

    return [Input(path, TABLE, path, form="parquet", folders=values) for path, values in tables_in(one.path)]


def _open_frame(inputs: Sequence[Input], asked: Request) -> Source:
    from aecli.data.batches import frame_or_batches
    from aecli.data.dialect import na_values

    table = _with_marks(frame_or_batches(inputs[0].given, once=asked.schema is not None), asked)
    table.na = na_values(asked.reading, asked.schema)
    return _rows(table, asked)


def _open_arrays(inputs: Sequence[Input], asked: Request) -> Source:
    from aecli.data.arrays import array_source, open_array

    def each() -> Iterator[ArraySource]:
        for one in inputs:
            if one.form is None and one.kind is not None:
                source = array_source("the array", one.given, asked.missing, **how)
            else:
                found = _looked(one, asked)
                _check_kind(found, inputs[0])
                stream = found.stream or _stream(found.path, asked)
                source = open_array(stream, found.form, found.part, asked.missing, path=found.path, **how)
            if not source.rows:
                if asked.schema is None and len(inputs) == 1:
                    raise DataError(f"{source.name}: no rows to read, only columns")
                asked.announce(f"{source.name}: no rows in it")
            _check_width(source, asked)
            if first:
                _check_alike(source, first[0], training=asked.schema is None)
            first.append(source)
            yield source

    how: dict[str, Any] = {"told": asked.columns.image_shape, "schema": asked.schema}
    if (images := _one_each(inputs, asked)) is not None:
        name = f"{inputs[0].given} and {len(inputs) - 1:,} more"
        together = array_source(name, images, asked.missing, **how)
        shape = together.schema.image_shape
        what = "rows of one image" if shape is None else f"an image of {sized(shape)}"
        asked.announce(f"{name}: {what} in each file")
        return together
    first: list[ArraySource] = []
    sources = each()
    source = next(sources)
    if len(inputs) == 1:
        return source
    return Chain(source, sources, _rows_of(inputs, asked) if asked.schema is None else None)


def _check_alike(source: ArraySource, first: ArraySource, *, training: bool) -> None:
    """Raise DataError if the rows of an array do not have the same layout as those of the first one."""
    if source.turned != first.turned:
        raise DataError(f"{source.name}: its channels are on another axis than in {first.name}")
    if training and source.schema.image_shape is not None:
        _check_depth(source.name, source.x.dtype, first.name, first.x.dtype)
    if source.schema.inputs != first.schema.inputs:
        raise DataError(
            f"{source.name}: {source.schema.inputs} values per row, and {first.schema.inputs} were expected"
        )


def _check_depth(name: str, dtype: Any, first: str, wanted: Any) -> None:
    """Raise DataError if images have another type than the first ones, so that black and white may differ."""
    if dtype != wanted and {dtype.kind, wanted.kind} != {"f"}:
        raise DataError(
            f"{name}: its values are {dtype}, and those of {first} {wanted}", hint="convert all to one depth"
        )


def _rows_of(inputs: Sequence[Input], asked: Request) -> int | None:
    """Return how many rows several NPY or safetensors files have, by their headers; None if a header does not say."""
    from aecli.data.arrays import open_npy
    from aecli.data.tensors import open_safetensors

    total = 0
    for one in inputs:
        if one.form not in ("npy", "safetensors") or one.path is None:
            return None
        if not (stream := _stream(one.path, asked)).is_plain():
            return None
        array = open_npy(stream, one.path) if one.form == "npy" else open_safetensors(stream, one.part, one.path)
        total += (*array.shape, 0)[0]
    return total


def _one_each(inputs: Sequence[Input], asked: Request) -> Any:
    """Return the arrays (N, ...) of several NPY files with one image each; None if their contents are rows.

    They are images if all have the same shape, and it is the shape of an image. Raises DataError if both are possible.
    """
    import numpy as np

    from aecli.data.arrays import is_one_image, open_npy

    if len(inputs) < 2 or any(one.form != "npy" or one.path is None for one in inputs):
        return None
    arrays: list[Any] = []
    for one in inputs:
        array = open_npy(_looked(one, asked).stream or _stream(one.path, asked), one.path)
        if not is_one_image(array, asked.columns.image_shape, asked.schema) or (
            arrays and array.shape != arrays[0].shape
        ):
            return None
        if arrays:
            _check_depth(str(one.given), array.dtype, str(inputs[0].given), arrays[0].dtype)
        arrays.append(array[:])  # this closes the file: there may be more files than can be open at once
    rows, *row = arrays[0].shape
    if asked.schema is None and asked.columns.image_shape is None and len(row) == 1 and rows != row[0]:
        raise DataError(
            f"{inputs[0].given} and {len(inputs) - 1:,} more: each may be an image of {sized((rows, *row))}, or "
            f"{rows:,} rows of {row[0]:,} values",
            hint=f"--image-shape {row[0]}x{rows} reads one image per file; or join their rows in one file",
        )
    return np.stack(arrays)


def _open_images(inputs: Sequence[Input], asked: Request) -> Source:
    from aecli.data.images import ImageSource

    paths: list[Where] = []
    opened: dict[Where, BinaryIO] = {}
    for one in inputs:
        path = one.path
        if one.kind is None or one.stream is not None:
            found = _looked(one, asked)
            _check_kind(found, inputs[0])
            if found.stream is not None and (path is None or not found.stream.is_plain()):
                path = path if isinstance(path, Place) else Path(found.stream.name)
                opened[path] = found.stream.file()
        assert path is not None  # noqa: S101, for the type checker: an input without a file has a stream
        paths.append(path)
    return ImageSource(
        paths,
        schema=asked.schema,
        columns=asked.columns,
        skip_broken=asked.reading.skip_broken,
        any_type=asked.reading.input_range is not None and asked.schema is not None,
        force=asked.forced,
        opened=opened,
    )


READERS: dict[str, Callable[[Sequence[Input], Request], Source]] = {
    SET: _open_set,
    TABLE: _open_tables,
    FRAME: _open_frame,
    ARRAY: _open_arrays,
    IMAGES: _open_images,
    SOURCE: lambda inputs, _: inputs[0].given,
}


def _check_unnamed(source: Source, asked: Request) -> None:
    """Raise an error if an option for tables was given for other data, or the width is not the model's."""
    named: dict[str, Any] = {
        "label": asked.columns.label,
        "features": asked.columns.features,
        "exclude": asked.columns.exclude,
    }
    named |= {"categorical": asked.columns.categorical}
    unknown = [name for name in asked.applying.keep if not (source.resizes and name in CARRIED)]
    if source.resizes and unknown:
        raise DataError(
            f"{source.name}: --keep {unknown[0]!r} names no column",
            hint="images have 'path', and pages of a TIFF also 'page'; both are always kept, and so is a label",
        )
    named["keep"] = unknown
    if flag := next((name for name, value in named.items() if value), None):
        raise DataError(f"{source.name} has no named columns, so --{flag} cannot select any")
    if asked.columns.image_shape is not None and source.resizes:
        raise UsageError("--image-shape is for arrays and tables; image files have their own", hint="leave it out")
    if asked.columns.image_size is not None and not source.resizes:
        raise UsageError(f"--image-size is for image files, and {source.name} is an array")
    _check_width(source, asked)


def _check_width(source: Source, asked: Request) -> None:
    schema, found = asked.schema, source.schema.inputs
    if schema is None or found in (schema.inputs, *asked.applying.shorter):
        return
    raise WidthError(f"{source.name}: {found} values per row, and the model takes {schema.inputs}")


def _table(one: Input, asked: Request, first: Input) -> "Table":
    """Open a table: a file, or standard input. Raises DataError if its kind is not that of the `first` one."""
    found = _looked(one, asked)
    _check_kind(found, first)
    stream, live = found.stream or _stream(found.path, asked), asked.applying.line_buffered
    if found.form in TEXTS and not stream.peek().removeprefix(BOM).strip(BLANKS):
        return _no_rows(stream.name, asked)
    match found.form:
        case "parquet":
            from aecli.data.arrow import ParquetTable

            table: Table = ParquetTable(stream)
        case "arrow":
            from aecli.data.arrow import ArrowTable

            table = ArrowTable(stream)
        case "jsonl":
            from aecli.data.jsonl import JsonLinesTable

            table = JsonLinesTable(stream, live=live, training=asked.schema is None, applying=asked.applying)
        case form:
            from aecli.data.csv import CsvTable

            table = CsvTable(
                stream,
                asked.reading,
                asked.schema,
                live=live,
                applying=asked.applying,
                announce=asked.announce,
                default_delimiter="\t" if form == "tsv" else None,
            )
    if table.rows == 0 and not table.columns:
        return _no_rows(stream.name, asked)
    if found.folders:
        from aecli.data.several import InFolder

        table = InFolder(table, found.folders)
    return _with_marks(table, asked)


def _with_marks(table: "Table", asked: Request) -> "Table":
    """Return a table whose texts are read in the given dialect, or the model's, if its format has none."""
    from aecli.data.dialect import marks

    if (
        table.dialect is None
        and (said := marks(asked.reading, asked.schema.dialect if asked.schema else None)) != Dialect()
    ):
        table.dialect = said
    return table


def open_table(path: Where, **request: Any) -> "Table":
    """Open the columns of a file unchanged. `request` are the fields of `Request`.

    Raises DataError if there is no such file, or it is not a table.
    """
    asked = Request(**request)
    one = identified(path, "train", asked)
    if one.kind != TABLE or (one.path is not None and one.path.is_dir()):
        raise DataError(f"{path}: not a table, and a file with a table was expected")
    return _table(one, asked, one)


def _no_rows(name: str, asked: Request) -> "Table":
    """Return a table without rows or header; its columns are the ones that the model needs."""
    from aecli.data.several import NoRows

    schema = asked.schema
    if schema is None:
        return NoRows(name, [])
    carried = [column for column in asked.applying.keep if column not in schema.column_names]
    return NoRows(name, [*schema.column_names, *carried], named=schema.features is not None)
