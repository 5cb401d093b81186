"""Arrays from files: IDX, NPZ, and NPY, whose rows are read as they are needed. Nothing in them is ever unpickled."""

import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from aecli.data.idx import idx_array
from aecli.data.part import FileRows
from aecli.data.refused import refused
from aecli.data.source import ArraySource
from aecli.data.stream import Stream
from aecli.errors import DataError

Array = np.ndarray[Any, Any]
DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,  # what NumPy lets through of a header that is no Python literal
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def open_array(
    stream: Stream, form: str | None, key: str | None, missing: str | None, *, path: Path | None = None
) -> ArraySource:
    """Open the array of a stream, for NPZ the one called `key`: rows (N, D), or images (N, H, W) or (N, H, W, C).

    `form` is idx, npy or npz, and `path` is the file's, where it has one.
    Raises DataError where it holds no such array of numbers.
    """
    if form == "npz":
        array: Array | FileRows = _npz(stream, key, path)
    else:
        array = idx_array(stream) if form == "idx" else _npy(stream, path)
    return array_source(stream.name if key is None else f"{stream.name}:{key}", array, missing)


def array_source(name: str, values: Any, missing: str | None) -> ArraySource:
    """Return an array of numbers as a source: rows (N, D), or images (N, H, W) or (N, H, W, C).

    Raises DataError where it is no such array.
    """
    array = values if isinstance(values, FileRows) else np.asarray(values)
    if array.dtype.kind not in "uifb":
        raise DataError(f"{name}: its values are of type {array.dtype}, and numbers were expected")
    if array.ndim < 2:
        raise DataError(
            f"{name}: its shape is {array.shape}, and rows of values (N, D) or images (N, H, W) were expected"
        )
    images = array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3, 4))
    white = {"u": float(np.iinfo(array.dtype).max) if array.dtype.kind == "u" else None, "f": 1.0, "b": 1.0}
    return ArraySource(
        name,
        array,
        image_shape=array.shape[1:] if images else None,
        full_scale=white.get(array.dtype.kind) if images else None,
        missing=missing,
    )


def _npy(stream: Stream, path: Path | None) -> Array | FileRows:
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    file = stream.file()
    try:
        with warnings.catch_warnings(action="ignore"):  # NumPy's, of files made by Python 2
            shape, fortran_order, dtype = read[np.lib.format.read_magic(file)](file)
            if dtype.hasobject:
                raise refused(stream.name, "objects", path=path)
            if dtype.names is not None:
                raise refused(stream.name, "structured", path=path)
            if not fortran_order:
                return FileRows(stream.name, file, file.tell(), dtype, shape)
        file.seek(0)
        array: Array = np.load(file, allow_pickle=False)
    except (*DAMAGED, KeyError) as error:
        raise DataError(f"{stream.name}: not an NPY file of plain numbers, or cut short ({error})") from error
    return array


def _npz(stream: Stream, key: str | None, path: Path | None) -> Array:
    name = stream.name
    try:
        with np.load(stream.file(), allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{name}: not an NPZ archive")
            names = archive.files
            if key is None and {"format", "shape", "data"} <= set(names):
                raise refused(name, "sparse", path=path)
            if key is None and len(names) == 1:
                key = names[0]
            if key not in names:
                asked = f"no array {key!r} in it" if key is not None else f"it holds {len(names)} arrays"
                words = ", ".join(f"{path or 'FILE.npz'}:{each}" for each in names[:8])
                raise DataError(f"{name}: {asked}", hint=f"name one{'' if path else ' of a file'}: {words}")
            if archive.zip is not None:
                held = archive.zip.getinfo(f"{key}.npy")
                stream.check_ratio(held.compress_size, held.file_size)
            array: Array = archive[key]
    except (*DAMAGED, KeyError, RuntimeError) as error:
        raise DataError(f"{name}: not an NPZ archive of plain numbers, or a damaged one ({error})") from error
    if array.dtype.names is not None:
        raise DataError(f"{name}:{key}: an array of records, and numbers were expected")
    return array
