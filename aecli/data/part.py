"""Some rows of an array: in memory, or blocks of a file that is mapped to memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
BLOCK_BYTES = 1 << 18


@dataclass(frozen=True, eq=False)
class Part:
    """All rows of the array `x` (M, D), or those of its `blocks`, each of `block_rows` rows, the last of what is left.

    Blocks are for arrays that are mapped from a file: they are read one by one, and nothing else is in memory.
    """

    x: Array
    blocks: Array | None = None

    @property
    def block_rows(self) -> int:
        """How many rows a block has."""
        return max(1, BLOCK_BYTES // int(self.x.shape[1] * self.x.itemsize))

    def __len__(self) -> int:
        if self.blocks is None:
            return len(self.x)
        short = -len(self.x) % self.block_rows * int((self.blocks + 1 == -(-len(self.x) // self.block_rows)).sum())
        return len(self.blocks) * self.block_rows - short

    def cut(self, share: float, rng: np.random.Generator) -> "tuple[Part, Part]":
        """Cut a random share off, at least one row or block: the rest, and what was cut off, both in their order."""
        units = len(self.x) if self.blocks is None else len(self.blocks)
        order = rng.permutation(units)
        cut = max(1, round(share * units))
        rest, off = np.sort(order[cut:]), np.sort(order[:cut])
        if self.blocks is None:
            return Part(self.x[rest]), Part(self.x[off])
        return Part(self.x, self.blocks[rest]), Part(self.x, self.blocks[off])

    def gather(self, blocks: Array) -> Array:
        """Read these blocks' rows into memory."""
        size = self.block_rows
        return np.concatenate([self.x[block * size : (block + 1) * size] for block in blocks])

    def chunks(self, values: int) -> Iterator[Array]:
        """Yield all the rows in order, in arrays (B, D) of about so many values."""
        step = max(1, values // self.x.shape[1])
        if self.blocks is None:
            for start in range(0, len(self.x), step):
                yield self.x[start : start + step]
            return
        together = max(1, step // self.block_rows)
        for start in range(0, len(self.blocks), together):
            yield self.gather(self.blocks[start : start + together])
