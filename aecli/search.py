"""What an exact search by cosine finds among codes of vectors: recall@10, beside other codes of as many bytes.

Shape letters: N queries, M rows that are searched, D values of a row, K values of a code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.config import Schema

Array = np.ndarray[Any, Any]
Coded = tuple[Array, Array]  # the codes of the queries and of the rows
NEAREST = 10
INT8 = "int8"  # ends the names of codes that take a byte a value
BLOCK_VALUES = 1 << 22  # similarities that are held at once
SAME = 1e-6  # of similarities: what is nearer to each other differs by rounding
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Code:
    """A way to shorten rows: its `name`, of how many `values` a row then is, of so many bytes each, and how good it is.

    `mse` is the mean squared error of the rows that are rebuilt, in the model's units; `recall_at_10` the share of the
    10 rows most alike by cosine that are among the 10 codes most alike by cosine. Each is None where it cannot be had.
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
        """How many bytes a row takes."""
        return self.values * self.value_bytes


def is_of_one_unit(schema: Schema, recipe: str) -> bool:
    """Return whether all values of a row are of one unit, so that the cosine of two rows means something.

    Those are vectors: the rows of an array that are no images, one column of vectors, and what `--recipe vectors`
    was trained on.
    """
    columns = schema.columns
    is_vector = not columns or (len(columns) == 1 and columns[0].kind == "vector")
    return recipe == "vectors" or (is_vector and schema.image_shape is None)


def compare(queries: Array, rows: Array, codes: Mapping[str, Coded], *, themselves: bool = False) -> dict[str, Code]:
    """Return the recall@10 of codes of rows, see `recalls`, and of the simplest codes of the same rows.

    The first of the codes are K values wide. The others are so many of the first original values as int8 that they take
    the same bytes, or all where those are fewer; and as many of the first original values.
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
    """Return the recall@10 of each of several codes: of queries (N, D) among rows (M, D), all of them compared.

    With `themselves` the queries are the rows, and a row is not found by itself. A row counts as found if it is as much
    alike as the tenth. There are more than 10 rows. Queries of zeros are left out: they have no cosine, and are as much
    alike to all rows. Where all are such, nothing is returned.
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
    """Return the places of the rows (N, D) that are not all zeros."""
    return np.flatnonzero((rows != 0).any(axis=1))


def filled(rows: Array, fill: Array | None) -> Array:
    """Return raw rows (N, D) with a scaler's `fill` (D,) in their holes."""
    return rows if fill is None else np.where(np.isnan(rows), fill.astype(np.float32), rows)


def _alike(queries: Array, rows: Array, own: Array | None) -> Array:
    """Return the cosines (B, M) of queries (B, D) and rows (M, D) of unit length.

    Where queries are rows themselves, at places `own` (B,), a row's of itself is none.
    """
    alike: Array = queries @ rows.T
    if own is not None:
        alike[np.arange(len(queries)), own] = -np.inf
    return alike


def unit(x: Array) -> Array:
    """Return rows (N, D) brought to unit length, float32; one of zeros stays as it is."""
    rows = _by_largest(x)  # no square overflows, or falls to 0
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(length > 0, length, 1)
    return rows


def int8(x: Array) -> Array:
    """Return rows (N, D) as whole numbers from -127 to 127, each row by its own largest value."""
    whole: Array = np.rint(_by_largest(x) * 127).astype(np.int8)
    return whole


def _by_largest(x: Array) -> Array:
    """Return rows (N, D) divided by their own largest values, float32; one of zeros stays as it is."""
    wide: Array = x.astype(np.promote_types(x.dtype, np.float32))
    largest = np.abs(wide).max(axis=1, keepdims=True, initial=0)
    wide /= np.where(largest > 0, largest, 1)
    return wide.astype(np.float32, copy=False)
