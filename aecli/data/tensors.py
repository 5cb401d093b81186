"""Arrays in safetensors files, whose rows are read when they are needed."""

import json
import math
import os
from typing import Any, BinaryIO

import numpy as np

from aecli.data.part import FileRows
from aecli.data.places import Where
from aecli.data.stream import Stream
from aecli.errors import DataError

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
BFLOAT16 = "BF16"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", BFLOAT16: "<u2", "BOOL": "?"}
DTYPES |= {f"{sign}{8 * size}": f"<{sign.lower()}{size}" for sign in "IU" for size in (1, 2, 4, 8)}


def open_safetensors(stream: Stream, key: str | None, path: Where | None) -> FileRows:
    """Return the array `key` of a safetensors file, or its only array; bfloat16 is read as float32.

    `path` is the file's path, if it has one.
    Raises DataError if there is no such array of numbers, or the file is an aecli checkpoint.
    """
    file = stream.file()
    header, start = _header(stream.name, file)
    said = header.pop("__metadata__", None)
    if isinstance(said, dict) and {"aecli", "aecli-resume"} & set(said):
        what = "an aecli checkpoint" if "aecli" in said else "a saved run of aecli"
        raise DataError(
            f"{stream.name}: {what}, and data was expected",
            hint="name the data; a command that takes a model takes it before the data",
        )
    if key is None and len(header) == 1:
        key = next(iter(header))
    if not header:
        raise DataError(f"{stream.name}: no array in it")
    if key not in header:
        asked = f"no array {key!r} in it" if key is not None else f"it holds {len(header)} arrays"
        words = ", ".join(f"{path or 'FILE.safetensors'}:{name}" for name in list(header)[:8])
        raise DataError(f"{stream.name}: {asked}", hint=f"name one{'' if path else ' of a file'}: {words}")
    entry = header[key] if isinstance(header[key], dict) else {}
    kind = entry.get("dtype")
    shape, offsets = (entry.get(name, ()) for name in ("shape", "data_offsets"))
    if not (_are_whole(shape) and _are_whole(offsets) and len(offsets) == 2):
        raise DataError(f"{stream.name}: a damaged safetensors file: it does not say where {key!r} is")
    if kind not in DTYPES:
        raise DataError(
            f"{stream.name}:{key}: its values are of type {kind}, and one of {', '.join(DTYPES)} was expected",
            hint="convert them to float16 first",
        )
    dtype = np.dtype(DTYPES[kind])
    if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise DataError(f"{stream.name}: a damaged safetensors file: {key!r} is not as long as its shape {shape} takes")
    name = f"{stream.name}:{key}"
    return FileRows(name, file, start + offsets[0], dtype, tuple(shape), bfloat16=kind == BFLOAT16)


def _header(name: str, file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the header, which describes the arrays, and where the first one starts."""
    length = int.from_bytes(file.read(8), "little")
    held = os.fstat(file.fileno()).st_size - 8
    try:
        if not 2 <= length <= min(MAX_HEADER_BYTES, held):
            raise ValueError(f"a header of {length:,} bytes")  # noqa: TRY301, one error for all that is damaged
        header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise TypeError("its header is not an object")  # noqa: TRY301
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{name}: not a safetensors file, or cut short ({error})") from error
    return header, 8 + length


def _are_whole(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
