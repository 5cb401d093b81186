"""The recall@10 of an exact search by cosine among codes of vectors, compared to other codes of as many bytes.

Shape letters: N queries, M rows to search, D values of a row, K values of a code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.config import Schema

Array = np.ndarray[Any, Any]
Coded = tuple[Array, Array]  # the codes of the queries and of the rows
NEAREST = 10
INT8 = "int8"  # the end of the names of codes with one byte per value
BLOCK_VALUES = 1 << 22  # similarities in memory at once
SAME = 1e-6  # smaller differences of similarities are rounding
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Code:
    """A way to shorten rows: its `name`, the number of `values` of a code, the bytes per value, and how good it is.

    `mse` is the mean squared error of the rebuilt rows, in the model's units; `recall_at_10` the share of the 10 most
    similar rows by cosine that are among the 10 most similar codes. Each is None if it cannot be computed.
    """

    name: str
    values: int
    value_bytes: int = FLOAT_BYTES
    mse: float | None = None
    recall_at_10: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        values = {"name": self.name, "values": self.values, "bytes": self.bytes}
        return values | {"mse": self.mse, "recall_at_10": self.recall_at_10}

    @property
    def bytes(self) -> int:
        """The number of bytes per row."""
        return self.values * self.value_bytes


def is_of_one_unit(schema: Schema, recipe: str) -> bool:
    """Return whether all values of a row are of one unit, so that the cosine of two rows has a meaning.

    Such rows are vectors: rows of an array that are not images, a single column of vectors, or rows for a model of
    `--recipe vectors`.
    """
    columns = schema.columns
    is_vector = not columns or (len(columns) == 1 and columns[0].kind == "vector")
    return recipe == "vectors" or (is_vector and schema.image_shape is None)


def compare(queries: Array, rows: Array, codes: Mapping[str, Coded], *, themselves: bool = False) -> dict[str, Code]:
    """Return the recall@10 of codes of rows, see `recalls`, and of two simple codes of the same rows.

    The first of the `codes` has K values. The simple codes are the first 4 K original values as int8, which take as
    many bytes, or all values if there are fewer; and the first K original values.
    """
    values = min(next(iter(codes.values()))[0].shape[1], rows.shape[1])
    first = min(FLOAT_BYTES * values, rows.shape[1])
    every: dict[str, Coded] = dict(codes) | {
        INT8: (int8(queries[:, :first]), int8(rows[:, :first])),
        "truncated": (queries[:, :values], rows[:, :values]),
    }
    found = recalls(queries, rows, every, themselves=themselves)
    return {
        name: Code(name, of_rows.shape[1], 1 if name.endswith(INT8) else FLOAT_BYTES, recall_at_10=found.get(name))
        for name, (_, of_rows) in every.items()
    }


def recalls(queries: Array, rows: Array, codes: Mapping[str, Coded], *, themselves: bool = False) -> dict[str, float]:
    """Return the recall@10 of each of several codes, for queries (N, D) among all rows (M, D).

    With `themselves` the queries are the rows, and a row does not find itself. A row counts as found if it is as
    similar as the tenth. There must be more than 10 rows. Queries of zeros are left out, because they have no cosine.
    If all are zeros, nothing is returned.
    """
    asked = have_cosine(queries)
    if not len(asked):
        return {}
    x, q = unit(rows), unit(queries)
    coded = {name: (unit(of_queries), unit(of_rows)) for name, (of_queries, of_rows) in codes.items()}
    found, step = dict.fromkeys(codes, 0), max(1, BLOCK_VALUES // len(rows))
    for block in np.split(asked, range(step, len(asked), step)):
        own = block if themselves else None
        alike = _alike(q[block], x, own)  # (B, M)
        least = np.partition(alike, -NEAREST, axis=1)[:, -NEAREST, None] - SAME
        for name, (of_queries, of_rows) in coded.items():
            near = np.argpartition(_alike(of_queries[block], of_rows, own), -NEAREST, axis=1)
            found[name] += int((np.take_along_axis(alike, near[:, -NEAREST:], axis=1) >= least).sum())
    return {name: count / (NEAREST * len(asked)) for name, count in found.items()}


def have_cosine(rows: Array) -> Array:
    """Return the indices of the rows (N, D) that are not all zeros."""
    return np.flatnonzero((rows != 0).any(axis=1))


def filled(rows: Array, fill: Array | None) -> Array:
    """Return raw rows (N, D) with a scaler's `fill` (D,) in their holes."""
    return rows if fill is None else np.where(np.isnan(rows), fill.astype(np.float32), rows)


def _alike(queries: Array, rows: Array, own: Array | None) -> Array:
    """Return the cosines (B, M) of queries (B, D) and rows (M, D) of unit length.

    If the queries are the rows with the indices `own` (B,), the cosine of a row with itself is -inf.
    """
    alike: Array = queries @ rows.T
    if own is not None:
        alike[np.arange(len(queries)), own] = -np.inf
    return alike


def unit(x: Array) -> Array:
    """Return rows (N, D) scaled to unit length, float32. Rows of zeros stay."""
    rows = _by_largest(x)  # no square overflows, or falls to 0
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(length > 0, length, 1)
    return rows


def int8(x: Array) -> Array:
    """Return rows (N, D) as whole numbers from -127 to 127, each row scaled by its largest value."""
    whole: Array = np.rint(_by_largest(x) * 127).astype(np.int8)
    return whole


def _by_largest(x: Array) -> Array:
    """Return rows (N, D) divided by their own largest values, float32. Rows of zeros stay."""
    wide: Array = x.astype(np.promote_types(x.dtype, np.float32))
    largest = np.abs(wide).max(axis=1, keepdims=True, initial=0)
    wide /= np.where(largest > 0, largest, 1)
    return wide.astype(np.float32, copy=False)
