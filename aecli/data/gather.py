"""All rows of a source for training: in memory if they fit, else in a file."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from aecli.data.part import FileRows, Part
from aecli.data.source import ArraySource, Source
from aecli.errors import DataError

Array = np.ndarray[Any, Any]
MEMORY_BYTES = 1 << 30  # the most bytes of rows kept in memory
NO_ROOM = "free some space, or name an output on another disk: -o FILE"


def gather(source: Source, scratch: Path | None, announce: Callable[[str], None] = lambda _: None) -> Part:
    """Return all rows of a source. Above MEMORY_BYTES they stay in a file: the array's, or an unnamed one in `scratch`.

    The system deletes the unnamed file when no process has it open, however the program ends. If `scratch` is None, all
    rows are kept in memory. `announce` is called when a file is used.
    Raises DataError if there are no rows, or the folder has too little space for them.
    """
    if isinstance(source, ArraySource) and source.schema.missing != "drop" and source.check():
        return Part(source.x) if isinstance(source.x, np.ndarray) else _blocks(source.x)
    parts: list[Array] = []
    batches = (batch.x for batch in source.batches())
    for x in batches:
        parts.append(x)
        if scratch is not None and sum(part.nbytes for part in parts) > MEMORY_BYTES:
            announce(f"{source.name} has too many rows for memory: they are kept in an unnamed file in {scratch}")
            rows = _spooled(source, parts, batches, scratch)
            if source.renumbered:
                raise DataError(
                    f"{source.name} has too many rows for memory, and a column with more than --max-categories values",
                    hint="raise --max-categories, or leave the column out with --exclude",
                )
            return _blocks(rows)
    if not sum(map(len, parts)):
        raise DataError(f"{source.name}: no rows to train on, {source.left_out:,} with holes were left out")
    x = joined(parts)
    for place, numbers in source.renumbered.items():
        known = ~np.isnan(x[:, place])
        x[known, place] = numbers[x[known, place].astype(np.int64)]
    return Part(x)


def joined(parts: list[Array]) -> Array:
    """Return arrays (N, D) joined to one. Empties the list on the way, so memory holds little more than the result."""
    if len(parts) == 1:
        return parts.pop()
    parts.reverse()
    out = np.empty((sum(map(len, parts)), parts[0].shape[1]), np.result_type(*{part.dtype for part in parts}))
    start = 0
    while parts:
        part = parts.pop()
        out[start : start + len(part)] = part
        start += len(part)
    return out


def _blocks(x: FileRows) -> Part:
    if x.nbytes <= MEMORY_BYTES:
        return Part(x[:])
    rows = Part(x).block_rows
    return Part(x, np.arange(-(-len(x) // rows)))


def _spooled(source: Source, parts: list[Array], rest: Iterable[Array], folder: Path) -> FileRows:
    """Write the rows to an unnamed file in a folder, and return them."""
    width, dtype = parts[0].shape[1], parts[0].dtype
    written = sum(part.nbytes for part in parts)
    share = source.share_read()
    _check_space(source.name, folder, int(written / share) if share else written)
    file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, the system deletes it when it is closed
    rows = 0
    try:
        for x in chain(parts, rest):
            if x.dtype != dtype:
                given, x = x, x.astype(dtype)  # noqa: PLW2901, rows after a missing one may have a wider type
                if not np.array_equal(given, x, equal_nan=dtype.kind == "f"):
                    raise DataError(
                        f"{source.name}: its values are {dtype} at first, and {given.dtype} from row {rows + 1} on"
                    )
            file.write(np.ascontiguousarray(x).data)
            rows += len(x)
        file.flush()
    except OSError as error:
        raise DataError(
            f"{folder}: no room for the rows of {source.name}, too many for memory ({error.strerror})",
            hint=NO_ROOM,
        ) from error
    return FileRows(source.name, file, 0, dtype, (rows, width))


def _check_space(name: str, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {name} has too many rows for memory, and they take {needed / 1e9:.1f} GB there; "
            f"{free / 1e9:.1f} GB are free",
            hint=NO_ROOM,
        )
