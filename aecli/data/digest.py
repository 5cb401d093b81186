"""The identity of rows: the SHA-256 of all their values, in input order."""

import hashlib
from typing import Any

import numpy as np

from aecli.data.part import Part

Array = np.ndarray[Any, Any]
CHUNK_VALUES = 1 << 20


class Digest:
    """The digest of rows that are added batch by batch. It does not depend on the batches or the type of the numbers.

    Each value counts as a float64, and each hole as the same NaN.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._found = hashlib.sha256()

    def add(self, x: Array) -> None:
        """Add rows (N, D)."""
        values = np.ascontiguousarray(x, np.float64)
        if x.dtype.kind == "f" and (holes := np.isnan(values)).any():
            values = np.where(holes, np.nan, values)
        if not self.rows and len(x):
            self._found.update(f"{x.shape[1]} ".encode())
        self._found.update(values.data)
        self.rows += len(x)

    def __str__(self) -> str:
        return self._found.hexdigest()


def digest_of(part: Part) -> str:
    """Return the digest of all rows of a part."""
    found = Digest()
    for x in part.chunks(CHUNK_VALUES):
        found.add(x)
    return str(found)
