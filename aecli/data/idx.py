"""IDX files, the format of MNIST: a type, the dimensions, then the values, big-endian, plain or gzipped."""

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from aecli.data.formats import IDX
from aecli.errors import DataError

CHUNK_BYTES = 1 << 20
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(path: Path) -> bool:
    """Return whether the file's name is one that IDX files bear, such as `t10k-images-idx3-ubyte.gz`."""
    return re.search(IDX, path.name) is not None


def read_idx(path: Path) -> np.ndarray[Any, Any]:
    """Read the array that an IDX file holds.

    Raises DataError where the file is no IDX file, or holds fewer or more bytes than its header says.
    """
    data = bytearray()  # grown in place: the file is never there twice, and the array may be written to
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data += stream.read(4 + 4 * 255)
            dtype, shape, start = _header(path, data)
            expected = start + math.prod(shape) * dtype.itemsize
            while len(data) <= expected and (part := stream.read(CHUNK_BYTES)):
                data += part
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip stream is damaged or cut short ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) != expected:
        found = f"{len(data):,}" if len(data) < expected else "more"
        raise DataError(f"{path}: an IDX file of shape {shape} takes {expected:,} bytes, and this one has {found}")
    array = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(path: Path, data: bytearray) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Read what the values are, their shape, and where they start."""
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in DTYPES or not data[3]:
        raise DataError(f"{path}: not an IDX file, it begins with {bytes(data[:4])!r}")
    start = 4 + 4 * data[3]
    return np.dtype(DTYPES[data[2]]), tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4)), start
