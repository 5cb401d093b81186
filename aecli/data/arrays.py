"""Arrays from files: IDX, NPZ, and NPY, whose rows are read when they are needed. Nothing is ever unpickled."""

import math
import tokenize
import warnings
import zipfile
import zlib
from typing import Any

import numpy as np

from aecli.config import Schema, sized
from aecli.data.idx import idx_array
from aecli.data.part import FileRows
from aecli.data.places import Where
from aecli.data.refused import refused
from aecli.data.source import ArraySource
from aecli.data.stream import Stream
from aecli.data.tensors import open_safetensors
from aecli.errors import DataError

Array = np.ndarray[Any, Any]
DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,  # NumPy raises it for a header that is not a Python literal
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def open_array(
    stream: Stream,
    form: str | None,
    key: str | None,
    missing: str | None,
    *,
    path: Where | None = None,
    told: tuple[int, ...] | None = None,
    schema: Schema | None = None,
) -> ArraySource:
    """Open the array in a stream as `array_source` does; `key` names it in an NPZ or safetensors file.

    `form` is idx, npy, npz or safetensors; `path` is the file's path, if it has one.
    Raises DataError if the stream does not hold such an array of numbers.
    """
    if form == "npz":
        array: Array | FileRows = _npz(stream, key, path)
    elif form == "safetensors":
        array = open_safetensors(stream, key, path)
    else:
        array = idx_array(stream) if form == "idx" else open_npy(stream, path)
    name = stream.name if key is None else f"{stream.name}:{key}"
    return array_source(name, array, missing, told=told, schema=schema)


def array_source(
    name: str,
    values: Any,
    missing: str | None,
    *,
    told: tuple[int, ...] | None = None,
    schema: Schema | None = None,
) -> ArraySource:
    """Return an array of numbers as a source: rows (N, D), or images (N, H, W), (N, H, W, C) or (N, C, H, W).

    C is 1, 3 or 4. `told` is the image shape of flat rows (N, D), as in --image-shape; `schema` is the schema of the
    model that is applied.
    Raises DataError if it is not such an array.
    """
    array = values if isinstance(values, FileRows) else np.asarray(values)
    if array.dtype.kind not in "uifb":
        raise DataError(f"{name}: its values are of type {array.dtype}, and numbers were expected")
    if isinstance(array, np.ndarray):
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    wanted = None if schema is None else schema.image_shape
    if wanted is not None:
        turned = wanted[:2] if wanted[2:] in ((), (1,)) else wanted[2:] + wanted[:2]
        if array.shape in (wanted, turned):
            array = array[:][None]  # one image
    if array.ndim < 2:
        raise DataError(
            f"{name}: its shape is {array.shape}, and rows of values (N, D) or images (N, H, W) were expected"
        )
    shape, first = layout(name, array.shape, told, schema)
    given = array.shape[1:]
    if first:
        assert shape is not None  # noqa: S101, for the type checker
        array = _turned(array, (shape[2], shape[0], shape[1]))
    source = ArraySource(
        name,
        array,
        image_shape=shape,
        channels_first=first,
        full_scale=255.0 if shape is not None and array.dtype == np.uint8 else None,
        dtype=None if shape is None else str(array.dtype),
        missing=missing,
    )
    source.row_shape, source.turned = given, first
    if schema is None and told is None:
        source.said = _how_read(name, (len(array), *given), shape)
    return source


def _how_read(name: str, shape: tuple[int, ...], image: tuple[int, ...] | None) -> list[str]:
    """Return a sentence on how an array of a `shape` is read for training, if another reading is as likely."""
    if image is None and len(shape) > 2:
        return [
            f"{name}: its rows of shape {shape[1:]} are learnt as numbers, not as images: images are (H, W), "
            "or have 1, 3 or 4 channels"
        ]
    if len(shape) == 3 and shape[2] in (3, 4):
        return [f"{name}: read as {shape[0]:,} images of {sized(shape[1:])}, not as one image in colour"]
    return []


def layout(
    name: str,
    shape: tuple[int, ...],
    told: tuple[int, ...] | None = None,
    schema: Schema | None = None,
) -> tuple[tuple[int, ...] | None, bool]:
    """Return the shape of an array's row, (H, W), (H, W, C), or None if it is not an image; and whether C comes first.

    In flat rows for a model, the channels are where the `schema` says that the training rows had them.
    Raises DataError if the shape contradicts `told` or the model, or is ambiguous.
    """
    row = shape[1:]
    if schema is not None and schema.image_shape is not None:
        return schema.image_shape, _is_turned(name, row, schema.image_shape, flat=schema.channels_first)
    if told is not None:
        return _as_told(name, row, told)
    last, first = (len(row) == 3 and row[place] in (1, 3, 4) for place in (2, 0))
    if last and first and row[0] * row[2] > 1 and len(set(row)) > 1:
        last_or_first = f"--image-shape {row[1]}x{row[0]}x{row[2]} for last, {row[0]}x{row[2]}x{row[1]} for first"
        raise DataError(
            f"{name}: images of shape {row} may have their channels first or last",
            hint=f"say which: {last_or_first}"
            if schema is None
            else "reshape them to the rows (N, D) that the model takes",
        )
    if first and not last:
        return (row[1:], False) if row[0] == 1 else ((row[1], row[2], row[0]), True)
    return (row if len(row) == 2 or last else None), False


def is_one_image(array: Array | FileRows, told: tuple[int, ...] | None, schema: Schema | None) -> bool:
    """Return whether an array in one of several files is read as one image, and not as rows.

    It is an image if it has the shape of the model's images, or the shape `told`. Without these, it is one if its shape
    is that of a colour image or a square image, or if it holds bytes, which may also be rows.
    """
    shape: tuple[int, ...] = tuple(array.shape)
    if schema is not None:
        wanted = schema.image_shape
        return wanted is not None and shape in (wanted, (*wanted[2:], *wanted[:2]))
    if told is not None:
        return math.prod(shape) == math.prod(told)
    if len(shape) == 3:
        return shape[2] in (3, 4) or shape[0] in (3, 4)
    return len(shape) == 2 and (shape[0] == shape[1] or bool(array.dtype == np.uint8))


def _is_turned(name: str, row: tuple[int, ...], wanted: tuple[int, ...], *, flat: bool) -> bool:
    """Return whether a row is a model's image (H, W, C), stored as (C, H, W); `flat` is the answer for flat rows."""
    height, width, channels = (*wanted, 1)[:3]
    if row == (height * width * channels,):
        return flat and channels > 1
    straight = {wanted, (height, width, channels)}
    if row in straight or (channels == 1 and row in ((height, width), (1, height, width))):
        return False
    if row == (channels, height, width):
        return True
    if len(row) == 1:
        raise DataError(f"{name}: {row[0]} values per row, and the model takes {height * width * channels}")
    raise DataError(f"{name}: a row is of shape {row}, and the model takes images of shape {wanted}, {sized(wanted)}")


def _as_told(name: str, row: tuple[int, ...], told: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    first = len(told) == 3 and told[2] not in (1, 3, 4)
    if len(told) == 3 and not first and row == (told[0], told[2], told[1]) and told[0] in (1, 3, 4):
        first = True  # both are possible, so the array's shape decides
    channels, width, height = told if first else (told[2] if len(told) == 3 else 1, *told[:2])
    if math.prod(row) != channels * width * height:
        raise DataError(
            f"{name}: a row has {math.prod(row):,} values, and --image-shape {'x'.join(map(str, told))} makes "
            f"{channels * width * height:,}"
        )
    shape = (height, width) if channels == 1 else (height, width, channels)
    as_first, as_last = (channels, height, width), (height, width, channels)
    if len(row) > 1 and row not in ((shape, as_first, as_last) if channels == 1 else (as_first if first else as_last,)):
        raise DataError(
            f"{name}: a row is of shape {row}, and --image-shape {'x'.join(map(str, told))} is one of "
            f"{as_first if first else shape}",
            hint="leave it out to use the array's own shape; or reshape the array to rows (N, D) first",
        )
    return shape, first and channels > 1


def _turned(array: Array | FileRows, shape: tuple[int, int, int]) -> Array | FileRows:
    if isinstance(array, FileRows):
        flat = array.reshape(len(array), math.prod(shape))
        flat.turned = shape
        return flat
    return np.ascontiguousarray(np.moveaxis(array.reshape(len(array), *shape), 1, -1))


def places(shape: tuple[int, ...]) -> Array:
    """Return the position of each value of a flat row (C, H, W) in the flat row (H, W, C) of this `shape`."""
    return np.moveaxis(np.arange(math.prod(shape)).reshape(shape), -1, 0).ravel()


def open_npy(stream: Stream, path: Where | None) -> Array | FileRows:
    """Return the array of an NPY file. Raises DataError if it is not one, or not an array of numbers."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    file = stream.file()
    try:
        with warnings.catch_warnings(action="ignore"):  # NumPy warns about files made by Python 2
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


def _npz(stream: Stream, key: str | None, path: Where | None) -> Array:
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
