"""Some rows of an array: in memory, or blocks of an array in a file."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from aecli.errors import DataError

Array = np.ndarray[Any, Any]
BLOCK_BYTES = 1 << 18


class FileRows:
    """An array (N, ...) in a file, row after row from the byte `start` on. A slice is read when it is accessed.

    The values are converted to the machine's byte order. The file is not mapped to memory: if another program truncates
    a mapped file, the process that reads it is killed.
    """

    def __init__(
        self,
        name: str,
        file: BinaryIO,
        start: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        *,
        turned: tuple[int, int, int] | None = None,
        bfloat16: bool = False,
    ) -> None:
        """Describe the array; if `turned` is given, each row is converted from (C, H, W) to (H, W, C).

        With `bfloat16`, values that NumPy stores as uint16 are read as float32.
        Raises DataError if the file is shorter than the array.
        """
        self.turned = turned
        self.name, self._file, self._start, self._stored, self.shape = name, file, start, dtype, shape
        self.bfloat16 = bfloat16
        self.dtype = np.dtype(np.float32) if bfloat16 else dtype.newbyteorder("=")
        self.ndim, self.size, self.itemsize = len(shape), math.prod(shape), dtype.itemsize
        self.nbytes = self.size * self.itemsize
        held = os.fstat(file.fileno()).st_size - start
        if held < self.nbytes or min(shape, default=0) < 0:
            raise DataError(f"{name}: cut short: {shape} values of {dtype} take {self.nbytes:,} bytes, it has {held:,}")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def path(self) -> Path | None:
        """The path for other processes; None if the file has no name, or another file has that name now."""
        name: Any = self._file.name  # a number, if it was opened without one
        if not isinstance(name, str | Path):
            return None
        path = Path(name).absolute()
        is_it = path.exists() and os.path.samestat(path.stat(), os.fstat(self._file.fileno()))
        return path if is_it else None

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"turned": self.turned, "bfloat16": self.bfloat16}
        return _opened, (self.name, self.path, self._start, self._stored, self.shape, options)

    def __getitem__(self, rows: slice) -> Array:
        first, end, _ = rows.indices(len(self))
        out: Array = np.empty((max(0, end - first), *self.shape[1:]), self._stored)
        unread, place = memoryview(out.reshape(-1).view(np.uint8).data), self._start + first * out[:1].nbytes
        while unread:
            count = os.preadv(self._file.fileno(), [unread], place)
            if not count:
                raise DataError(f"{self.name}: became shorter while it was read")
            unread, place = unread[count:], place + count
        if self.bfloat16:  # the upper half of a float32
            out = (out.astype(np.uint32) << 16).view(np.float32)
        out = out.astype(self.dtype, copy=False)
        if self.turned is not None:
            out = np.ascontiguousarray(np.moveaxis(out.reshape(-1, *self.turned), 1, -1)).reshape(out.shape)
        return out

    def reshape(self, rows: int, width: int) -> "FileRows":
        """Return the same values as rows of another shape; a width of -1 is computed."""
        width = self.size // max(1, rows) if width < 0 else width
        shape = (rows, width)
        return FileRows(
            self.name, self._file, self._start, self._stored, shape, turned=self.turned, bfloat16=self.bfloat16
        )


def _opened(
    name: str, path: Path | None, start: int, dtype: np.dtype[Any], shape: tuple[int, ...], options: dict[str, Any]
) -> FileRows:
    """Return an array in a file that another process has open. Raises DataError if it cannot be opened here."""
    if path is None:
        raise DataError(f"{name}: it has no path by which another process could open it")
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read here ({error.strerror or error})",
            hint="the data must be at the same path on all machines",
        ) from error
    return FileRows(name, file, start, dtype, shape, **options)


@dataclass(frozen=True, eq=False)
class Part:
    """All rows of the array `x` (M, D), or those of its `blocks`, each of `block_rows` rows; the last may be shorter.

    Blocks are for arrays in files: they are read one by one, and nothing else is kept in memory.
    """

    x: Array | FileRows
    blocks: Array | None = None

    @property
    def block_rows(self) -> int:
        """The number of rows in a block."""
        return max(1, BLOCK_BYTES // int(self.x.shape[1] * self.x.itemsize))

    def __len__(self) -> int:
        if self.blocks is None:
            return len(self.x)
        short = -len(self.x) % self.block_rows * int((self.blocks + 1 == -(-len(self.x) // self.block_rows)).sum())
        return len(self.blocks) * self.block_rows - short

    def cut(self, share: float, rng: "np.random.Generator | None") -> "tuple[Part, Part]":
        """Return a split into the rest and a share of at least one row or block, both in their order.

        The share is drawn by `rng`; without one it is the last rows.
        """
        rest, off = cut_off(len(self.x) if self.blocks is None else len(self.blocks), share, rng)
        if self.blocks is None:
            x = self.x[:]
            return Part(x[rest]), Part(x[off])
        return Part(self.x, self.blocks[rest]), Part(self.x, self.blocks[off])

    def gather(self, blocks: Array) -> Array:
        """Return the rows of these blocks, in memory."""
        size = self.block_rows
        return np.concatenate([self.x[block * size : (block + 1) * size] for block in blocks])

    def sample(self, count: int, rng: "np.random.Generator") -> Array:
        """Return `count` distinct random rows (N, D) in their order; all rows if there are fewer."""
        places = np.sort(rng.permutation(len(self))[:count])
        if self.blocks is not None:
            places = self.blocks[places // self.block_rows] * self.block_rows + places % self.block_rows
        if isinstance(self.x, FileRows):
            return np.concatenate([self.x[place : place + 1] for place in places])
        return self.x[places]

    def chunks(self, values: int) -> Iterator[Array]:
        """Yield all the rows in order, in arrays (B, D) of about `values` values."""
        step = max(1, values // self.x.shape[1])
        if self.blocks is None:
            for start in range(0, len(self.x), step):
                yield self.x[start : start + step]
            return
        together = max(1, step // self.block_rows)
        for start in range(0, len(self.blocks), together):
            yield self.gather(self.blocks[start : start + together])


def cut_off(units: int, share: float, rng: "np.random.Generator | None") -> tuple[Array, Array]:
    """Return the sorted numbers of the units that are not chosen, and of a share of at least one.

    The share is drawn by `rng`; without one it is the last units.
    """
    order = np.arange(units)[::-1] if rng is None else rng.permutation(units)
    cut = max(1, round(share * units))
    return np.sort(order[cut:]), np.sort(order[:cut])
