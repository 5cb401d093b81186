"""A folder of parts: one Parquet file for each input file, with a record of how it was made.

The record is the metadata `aecli` of the file's schema, as sorted JSON. It stores the command, its options, the SHA-256
of the model, and the input's path, size and time. By this a later run recognises a finished part, and skips it.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from aecli.data import sinks
from aecli.data.beside import file_beside
from aecli.data.folder import files_in, is_table, tables_in, values_of, within
from aecli.data.formats import ARRAYS, IDX, IMAGES, KEYED, table_form, uncompressed
from aecli.data.opening import TABLE, Input, array_key, elsewhere, split_name
from aecli.data.places import GLOB, WRITTEN, Place, Where, is_remote, place, shown
from aecli.errors import AecliError, DataError, UsageError

KEY = b"aecli"
NAMED_FILES = 3
ONE_FILE = "name one file for all rows: -o rows.parquet"


@dataclass(frozen=True)
class PartFile:
    """A part to write: the input as `Model.open` takes it, and the path of the output.

    `file` is the input's path, `name` its path relative to what the user named, and `array` the key of one array in a
    file with several.
    """

    given: Any
    file: Where
    name: PurePath
    path: Where
    array: str | None = None

    @property
    def apart(self) -> frozenset[str]:
        """The columns in its folders' names, such as `year=2024`. Readers get them from there."""
        return frozenset(values_of(self.name))


@dataclass(frozen=True)
class Made:
    """What is the same for all parts of a run: the command, its options as words, and the model's SHA-256.

    `labels` is the name of the label file of the model's training rows; None if there is none.
    """

    command: str
    options: tuple[str, ...]
    model: str
    labels: str | None = None

    def of(self, part: PartFile) -> dict[str, Any]:
        """Return the record of a part. Raises DataError if its input no longer exists."""
        labels = None if self.labels is None else file_beside(self.labels, part.file)
        return {
            "command": self.command,
            "options": list(self.options),
            "model": self.model,
            "input": identity(part.file, part.name, part.array),
            "labels": None if labels is None else identity(labels, PurePath(labels.name)),
        }


def identity(file: Where, name: PurePath, array: str | None = None) -> dict[str, Any]:
    """Return what identifies the state of a file: its name, its size in bytes, and its time in nanoseconds.

    A remote file has a version instead of a time, such as an ETag. Raises DataError if there is no such file.
    """
    path = name.as_posix() if array is None else f"{name.as_posix()}:{array}"
    if isinstance(file, Place):
        return {"path": path, "size": file.size, "version": file.version}
    try:
        found = file.stat()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    return {"path": path, "size": found.st_size, "time": found.st_mtime_ns}


def planned(data: Sequence[str], folder: Where) -> tuple[list[PartFile], list[str]]:
    """Return the parts that DATA makes in a folder, in DATA's order; and notes on files that make none.

    Raises UsageError for data that is not a file or folder, and if a part would overwrite an input; DataError if there
    is no data, or if two files make the same part.
    """
    parts, notes = dict[Where, PartFile](), list[str]()
    for word in data:
        found, left_out = _files_of(word, folder)
        if left_out:
            more = f" and {len(left_out) - NAMED_FILES:,} more" * (len(left_out) > NAMED_FILES)
            notes.append(f"{shown(word)}: left out, neither tables nor arrays by name: {_listed(left_out)}{more}")
        for given, file, name in found:
            part = PartFile(
                given, file, name, folder / name.with_name(f"{_stem(name.name)}.parquet"), array_key(word)[1]
            )
            if name.name.startswith((".", "_")):
                raise DataError(
                    f"{file}: readers of Parquet folders skip names that begin with {name.name[0]}",
                    hint="rename it first",
                )
            if (other := parts.setdefault(part.path, part)) is not part:
                again = _are_one(other.file, file)
                raise DataError(
                    f"{other.file} and {file} would both be written to {part.path}",
                    hint="give each file once" if again else "rename one of them, or name the folder that holds both",
                )
    read = {part.file.resolve() for part in parts.values()}
    if lost := [path for path in parts if path.resolve() in read]:
        raise UsageError(
            f"{lost[0]} is an input of this command, and would be overwritten", hint="name another --output"
        )
    return list(parts.values()), notes


def _are_one(file: Where, other: Where) -> bool:
    if isinstance(file, Place) or isinstance(other, Place):
        return file == other
    return file.samefile(other)


def _listed(files: Sequence[Where]) -> str:
    return ", ".join(str(file) for file in files[:NAMED_FILES])


def _stem(name: str) -> str:
    """Return a file's name without its endings, also of a compression: x of x.csv.gz, x.2024-01 of x.2024-01."""
    return re.sub(r"(?<=.)\.[A-Za-z]\w*$", "", uncompressed(name))


def _files_of(word: str, folder: Where) -> tuple[list[tuple[Any, Where, PurePath]], list[Where]]:
    """Return the files that a word of DATA names, each as (what to read, its path, its path relative to the word).

    The second value are the files of a folder that are left out, because by their names they are neither tables nor
    arrays.
    """
    if word == "-" or split_name(word, "test") is not None:
        what = "standard input has no name" if word == "-" else f"{word} is a built-in set"
        raise UsageError(f"a folder gets one part per input file, and {what}", hint=ONE_FILE)
    named, key = array_key(word)
    path = elsewhere(word) if is_remote(word) else place(named)
    if isinstance(path, Place) and GLOB.search(path.key) and path.scheme in WRITTEN:
        return _of_pattern(path), []
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_file():
        _check_no_image(path)
        return [(word if key is not None and isinstance(path, Path) else _given(path), path, PurePath(path.name))], []
    if not path.is_dir():
        raise UsageError(
            f"{word}: a pipe can be read only once, and a part is recognised by its input file", hint=ONE_FILE
        )
    if _lies_in(folder, path):
        raise DataError(f"{folder} is in {path}, which is read", hint="name a folder elsewhere")
    every = list(files_in(path))
    for file in every:
        _check_no_image(file)
    if is_table(path):
        found = [
            (Input(str(file), TABLE, file, form="parquet", folders=values) if values else _given(file), file)
            for file, values in tables_in(path)
        ]
    else:
        found = [(_given(file), file) for file in every if _is_data(file.name)]
    if not found:
        raise DataError(f"{path}: a folder without tables or arrays")
    read = {file for _, file in found}
    return [(given, file, within(file, path)) for given, file in found], [file for file in every if file not in read]


def _of_pattern(pattern: Place) -> list[tuple[Any, Where, PurePath]]:
    """Return the remote files that match a pattern, each with its path in the last folder without a wildcard."""
    files = pattern.expanded()
    if not files:
        raise DataError(f"{pattern}: no file matches this name")
    for file in files:
        _check_no_image(file)
    above = Place(f"{pattern.scheme}://{pattern.root}/{GLOB.split(pattern.key)[0].rpartition('/')[0]}")
    return [(file, file, within(file, above)) for file in files]


def _given(file: Where) -> Any:
    """Return a file as `Model.open` takes it; a remote one stays a `Place`, which remembers its version."""
    return file if isinstance(file, Place) else str(file)


def _lies_in(folder: Where, path: Where) -> bool:
    if isinstance(folder, Path) and isinstance(path, Path):
        return path.resolve() in (folder.resolve(), *folder.resolve().parents)
    return isinstance(folder, Place) and f"{folder}/".startswith(f"{path}/")


def _is_data(name: str) -> bool:
    return (
        table_form(name) is not None
        or Path(uncompressed(name)).suffix.lower() in (*ARRAYS, *KEYED)
        or re.search(IDX, name) is not None
    )


def _check_no_image(file: Where) -> None:
    if file.suffix.lower() in IMAGES:
        raise no_part_of_images(str(file))


def no_part_of_images(name: str) -> UsageError:
    """Return the error for image files, because each is only one row."""
    return UsageError(f"{name}: an image is one row, and a folder of parts is for tables and arrays", hint=ONE_FILE)


def is_there(part: PartFile, made: Made, *, force: bool) -> bool:
    """Return whether a part exists, complete and as it would be written. With `force`, another file may be replaced.

    Raises AecliError for another file in its place, with the difference.
    """
    if not (part.path.exists() if isinstance(part.path, Place) else os.path.lexists(part.path)):
        return False
    if part.path.exists() and not part.path.is_file():
        raise AecliError(f"{part.path}: not a file, and a part would be written there", hint="name another --output")
    there = record_of(part.path)
    if there == (wanted := made.of(part)):
        return True
    if force:
        return False
    why = "it is not a complete part that aecli wrote" if there is None else _difference(there, wanted)
    raise AecliError(f"{part.path} already exists, and {why}", options=("--force",))


def record_of(path: Where) -> dict[str, Any] | None:
    """Return the record of a part; None if the file is not a part, or not complete."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = json.loads((pq.read_metadata(path.open() if isinstance(path, Place) else path).metadata or {})[KEY])
    except (pa.ArrowException, OSError, LookupError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _difference(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return how an existing part differs from the one that would be written, by their records."""
    differing = next((key for key in wanted if there.get(key) != wanted[key]), "record")
    match differing, there.get(differing), wanted.get(differing):
        case "command", str(then), now:
            why = f"{then} wrote it, not {now}"
        case "options", list(then), list(now):
            words = [f"with {each}" for each in then if each not in now]
            words += [f"without {each}" for each in now if each not in then]
            why = f"it was written {' and '.join(words)}"
        case "model", str(then), str(now):
            why = f"it was written with another model (SHA-256 {then[:12]}..., now {now[:12]}...)"
        case "labels", then, None:
            why = "it was written with labels from a table that no longer exists"
        case "labels", None, {"path": name}:
            why = f"it was written without the labels of {name}"
        case _, {"path": str(then)}, {"path": str(now)} if then != now:
            why = f"it was made from {then}, not from {now}"
        case _, {"size": int(then)}, {"size": int(now), "path": name} if then != now:
            why = f"{name} has changed since: it had {then:,} bytes, and now has {now:,}"
        case _, {"time": int()}, {"path": name, "time": int()}:
            why = f"{name} has changed since: it was written at another time"
        case _, {"path": name}, {"path": _}:
            why = f"{name} has changed since: it is another version"
        case _:
            why = "its record is not one that this version of aecli writes"
    return why


@contextlib.contextmanager
def writing(part: PartFile, made: Made) -> Iterator[sinks.Sink]:
    """Open a part for writing, which appears only when it is complete. Open it before its input is read.

    Raises DataError if the input changed in between.
    """
    record = made.of(part)
    if isinstance(part.path, Path):
        _make_folder(part.path.parent)
    metadata = {KEY: json.dumps(record, sort_keys=True).encode()}
    with sinks.to_file(part.path, "parquet", metadata=metadata, apart=part.apart) as sink:
        yield sink
        if made.of(part) != record:
            raise DataError(f"{part.file}: changed while it was read")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AecliError(f"{folder}: the folder cannot be created ({error.strerror or error})") from error
