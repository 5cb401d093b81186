"""Arrays from files: IDX, NPZ, and NPY, whose rows are read as they are needed. Nothing in them is ever unpickled."""

import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from aecli.data.idx import is_idx, read_idx
from aecli.data.part import FileRows
from aecli.data.source import ArraySource
from aecli.data.stream import OwnFile
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


def open_array(path: Path, key: str | None, missing: str | None) -> ArraySource:
    """Open the array of a file, for NPZ the one called `key`: rows (N, D), or images (N, H, W) or (N, H, W, C).

    Raises DataError where it holds no such array of numbers.
    """
    name = str(path) if key is None else f"{path}:{key}"
    array = read_idx(path) if is_idx(path) else _npz(path, key) if path.suffix.lower() == ".npz" else _npy(path)
    return array_source(name, array, missing)


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


def _npy(path: Path) -> Array | FileRows:
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # NumPy's, of files made by Python 2
            shape, fortran_order, dtype = read[np.lib.format.read_magic(file)](file)
            if dtype.hasobject:
                raise DataError(f"{path}: an NPY file of Python objects, and numbers were expected")
            if not fortran_order:
                return FileRows(str(path), OwnFile(path), file.tell(), dtype, shape)
        array: Array = np.load(path, allow_pickle=False)
    except (*DAMAGED, KeyError) as error:
        raise DataError(f"{path}: not an NPY file of plain numbers, or cut short ({error})") from error
    return array


def _npz(path: Path, key: str | None) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: not an NPZ archive")
            names = archive.files
            if key is None and len(names) == 1:
                key = names[0]
            if key not in names:
                asked = f"no array {key!r} in it" if key is not None else f"it holds {len(names)} arrays"
                raise DataError(
                    f"{path}: {asked}", hint=f"name one: {', '.join(f'{path}:{name}' for name in names[:8])}"
                )
            array: Array = archive[key]
    except DAMAGED as error:
        raise DataError(f"{path}: not an NPZ archive of plain numbers, or a damaged one ({error})") from error
    return array
