"""Raw units to the model's units and back."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.config import Schema
from aecli.errors import DataError

KINDS = ("standard", "minmax", "none")
FULL_SCALE = "full-scale"
CHUNK_VALUES = 1 << 22
LARGEST = 1e18  # its square is still a float32

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scaler:
    """The affine map `(x - shift) / scale` of each input value; `shift` and `scale` are float64, (D,) or (1,).

    `full-scale` divides pixels by the value of white, `standard` gives mean 0 and variance 1, `minmax` [0, 1],
    `none` leaves values as they are. A constant column is divided by 1.
    """

    kind: str
    shift: Array
    scale: Array

    @property
    def bounded(self) -> bool:
        """Whether the training rows all lie in [0, 1]."""
        return self.kind in (FULL_SCALE, "minmax")

    @classmethod
    def fit(cls, kind: str, x: Array, schema: Schema) -> "Scaler":
        """Find the scaler of the training rows `x` (N, D).

        Images are divided by their full scale, whatever the kind asked for, if all their values lie within it.
        Raises DataError where a column's values are too large to be scaled.
        """
        if schema.full_scale is not None and x.min() >= 0 and x.max() <= schema.full_scale:
            return cls(FULL_SCALE, np.zeros(1), np.array([schema.full_scale]))
        if kind == "none":
            return cls(kind, np.zeros(1), np.ones(1))
        if kind == "minmax":
            low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
            with np.errstate(over="ignore"):
                spread = high - low
            _check(spread, schema)
            return cls(kind, low, _divisor(spread, np.maximum(np.abs(low), np.abs(high))))
        with np.errstate(over="ignore", invalid="ignore"):
            mean: Array = sum((part.sum(axis=0) for part in _chunks(x)), np.zeros(x.shape[1])) / len(x)
            squares: Array = sum((((part - mean) ** 2).sum(axis=0) for part in _chunks(x)), np.zeros(x.shape[1]))
        _check(squares, schema)
        return cls(kind, mean, _divisor(np.sqrt(squares / len(x)), np.abs(mean)))

    def transform(self, x: Array) -> Array:
        """Raw rows (N, D) to float32 rows in the model's units.

        Raises DataError for a value that is too far from those of the training rows to be a float32.
        """
        with np.errstate(over="ignore"):
            scaled: Array = ((x - self.shift) / self.scale).astype(np.float32)
        if np.abs(scaled).max(initial=0) > LARGEST:
            row, column = np.unravel_index(int(np.abs(scaled).argmax()), scaled.shape)
            raise DataError(
                f"{x[row, column]:g}, in column {column + 1}, is out of all proportion to the training rows"
            )
        return scaled

    def inverse(self, x: Array) -> Array:
        """Rows (N, D) in the model's units to float32 rows in raw units."""
        return (x * self.scale + self.shift).astype(np.float32)


def _chunks(x: Array) -> Iterator[Array]:
    step = max(1, CHUNK_VALUES // x.shape[1])
    for start in range(0, len(x), step):
        yield x[start : start + step].astype(np.float64)


def _check(moments: Array, schema: Schema) -> None:
    """Raise DataError where a column's moment overflowed."""
    if not np.isfinite(moments).all():
        column = schema.names()[int(np.isfinite(moments).argmin())]
        raise DataError(f"column {column!r} holds values too large to be scaled", hint="are they numbers of one unit?")


def _divisor(spread: Array, magnitude: Array) -> Array:
    """Give the spread of each column, 1 where it is no more than rounding: the column is constant."""
    return np.where(spread > 1e-12 * magnitude, spread, 1.0)
