"""IDX files, the format of MNIST: a type, the dimensions, then the values, big-endian, plain or gzipped."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from aecli.data.formats import IDX
from aecli.data.stream import Stream
from aecli.errors import DataError

CHUNK_BYTES = 1 << 20
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(path: Path) -> bool:
    """Return whether the file's name is the name of an IDX file, such as `t10k-images-idx3-ubyte.gz`."""
    return re.search(IDX, path.name) is not None


def read_idx(path: Path) -> np.ndarray[Any, Any]:
    """Return the array in an IDX file. Raises DataError as `idx_array` does, and if it cannot be opened."""
    return idx_array(Stream.open(path))


def idx_array(stream: Stream) -> np.ndarray[Any, Any]:
    """Return the array in a stream of IDX.

    Raises DataError if it is not IDX, or holds fewer or more bytes than its header says.
    """
    data = bytearray(stream.block(4 + 4 * 255))  # grown in place: memory holds it once, and it is writable
    dtype, shape, start = _header(stream.name, data)
    expected = start + math.prod(shape) * dtype.itemsize
    while len(data) <= expected and (part := stream.block(CHUNK_BYTES)):
        data += part
    if len(data) != expected:
        found = f"{len(data):,}" if len(data) < expected else "more"
        raise DataError(
            f"{stream.name}: an IDX file of shape {shape} takes {expected:,} bytes, and this one has {found}"
        )
    array = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(name: str, data: bytearray) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return the type and the shape of the values, and the byte where they start."""
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in DTYPES or not data[3]:
        raise DataError(f"{name}: not an IDX file: it begins with {bytes(data[:4])!r}")
    start = 4 + 4 * data[3]
    return np.dtype(DTYPES[data[2]]), tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4)), start
