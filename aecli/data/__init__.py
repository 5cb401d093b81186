"""Names and paths to sources; results to sinks."""

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from aecli.config import Schema
from aecli.data.source import ArraySource, Batch, Source
from aecli.errors import DataError, UsageError

__all__ = ["ArraySource", "Batch", "Source", "open_source", "split_name"]

TABLE_ENDINGS = {".csv": ",", ".tsv": "\t"}


def _silent(_: str) -> None:
    pass


def split_name(data: str, default_split: str) -> tuple[str, str] | None:
    """Split a built-in set's name into name and split: "mnist:test" -> ("mnist", "test"). None for all other data.

    Raises DataError for what looks like a name and is none, UsageError for a split that no set has.
    """
    from aecli.data.builtin import NAMES, SPLITS

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
    data: str,
    *,
    default_split: str,
    data_dir: Path,
    schema: Schema | None = None,
    label: str | None = None,
    exclude: Sequence[str] = (),
    keep: Sequence[str] = (),
    stdin: BinaryIO | None = None,
    announce: Callable[[str], None] = _silent,
) -> Source:
    """Open what the word `data` means: a built-in set, a file, or "-" for `stdin`.

    With the `schema` of a model, the rows are matched to it. `label`, `exclude` and `keep` name columns of a table.
    Raises DataError where there is no such data, or none of it fits; UsageError where the words make no sense together.
    """
    table: dict[str, object] = {"label": label, "exclude": exclude, "keep": keep}
    if data == "-":
        if stdin is None and sys.stdin is None:
            raise DataError("standard input is closed")
        return _open_csv("standard input", stdin or sys.stdin.buffer, ",", schema, table)
    source: Source
    if named := split_name(data, default_split):
        from aecli.data.builtin import open_builtin

        source = open_builtin(*named, data_dir, announce)
    else:
        path = Path(data)
        ending = _ending(path)
        if not path.exists():
            raise DataError(f"{data}: no such file")
        if path.is_dir():
            raise DataError(f"{data}: a folder, and data is read from files", hint="name a file in it")
        if ending in TABLE_ENDINGS:
            return _open_csv(data, _decompressed(path), TABLE_ENDINGS[ending], schema, table)
        source = _open_array(path)
    if label or exclude or keep:
        flag = "--label" if label else "--exclude" if exclude else "--keep"
        raise DataError(f"{data} has no named columns, so {flag} has nothing to choose from")
    if schema is not None and source.schema.inputs != schema.inputs:
        raise DataError(f"{data}: {source.schema.inputs} values a row, and the model takes {schema.inputs}")
    return source


def _ending(path: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    return Path(name).suffix.lower()


def _decompressed(path: Path) -> BinaryIO:
    import pyarrow as pa

    try:
        stream: BinaryIO = pa.input_stream(str(path), compression="detect")
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error})") from error
    return stream


def _open_csv(name: str, stream: BinaryIO, delimiter: str, schema: Schema | None, table: dict[str, object]) -> Source:
    from aecli.data.csv import CsvSource

    return CsvSource(name, stream, delimiter=delimiter, schema=schema, **table)  # type: ignore[arg-type]


def _open_array(path: Path) -> Source:
    import numpy as np

    from aecli.data.idx import is_idx, read_idx

    if is_idx(path):
        array = read_idx(path)
    elif path.suffix.lower() == ".npy":
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: not an NPY file of plain numbers ({error})") from error
    else:
        raise DataError(
            f"{path}: the name ends in {path.suffix or 'nothing'!r}, which is none of the formats that are read",
            hint="they are .csv, .tsv, .npy and IDX files; pipe other tables as CSV: ... | aecli COMMAND -",
        )
    if array.dtype.kind not in "uifb":
        raise DataError(f"{path}: its values are of type {array.dtype}, and numbers were expected")
    if array.ndim < 2:
        raise DataError(
            f"{path}: its shape is {array.shape}, and rows of values (N, D) or images (N, H, W) were expected"
        )
    images = array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3, 4))
    scales = {"u": float(np.iinfo(array.dtype).max) if array.dtype.kind == "u" else None, "f": 1.0, "b": 1.0}
    return ArraySource(
        str(path),
        array,
        image_shape=array.shape[1:] if images else None,
        full_scale=scales.get(array.dtype.kind) if images else None,
    )
