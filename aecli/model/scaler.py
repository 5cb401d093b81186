"""Raw units to the model's units and back."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from aecli.config import Schema
from aecli.data.part import Part
from aecli.errors import DataError

KINDS = ("standard", "minmax", "none")
FULL_SCALE = "full-scale"
CHUNK_VALUES = 1 << 22
LARGEST = 1e18  # its square is still a float32

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Scaler:
    """The map of D raw values to the E inputs of a model: categories one-hot, holes filled, then (x - shift) / scale.

    `shift` and `scale` are float64, (E,) or (1,); `fill` (E,) is what NaN becomes, None where there is none. E is D but
    for categories. `full-scale` divides pixels by the value of white, `standard` gives mean 0 and variance 1, `minmax`
    [0, 1], `none` leaves values as they are. A constant column is divided by 1.
    """

    kind: str
    shift: Array
    scale: Array
    fill: Array | None
    schema: Schema

    @property
    def bounded(self) -> bool:
        """Whether the training rows all lie in [0, 1]."""
        return self.kind in (FULL_SCALE, "minmax")

    @property
    def inputs(self) -> int:
        """How many values a row has in the model's units."""
        return sum(self.schema.widths)

    @classmethod
    def fit(cls, kind: str, part: Part, schema: Schema) -> "Scaler":
        """Find the scaler of the training rows.

        Images are divided by their full scale, whatever the kind asked for, if all their values lie within it.
        Raises DataError where a column's values are too large to be scaled, or all are holes.
        """
        white = schema.full_scale
        if white is not None and all(x.min() >= 0 and x.max() <= white for x in part.chunks(CHUNK_VALUES)):
            return cls(FULL_SCALE, np.zeros(1), np.array([white]), None, schema)
        unscaled = cls("none", np.zeros(1), np.ones(1), None, schema)
        fill = unscaled._means(part) if schema.missing == "mean" else None
        unscaled = cls("none", np.zeros(1), np.ones(1), fill, schema)
        if kind == "none":
            return unscaled
        if kind == "minmax":
            extremes = [(x.min(axis=0), x.max(axis=0)) for x in unscaled._encoded(part)]
            low = np.min([low for low, _ in extremes], axis=0)
            high = np.max([high for _, high in extremes], axis=0)
            with np.errstate(over="ignore"):
                spread = high - low
            _check(spread, schema)
            return cls(kind, low, _divisor(spread, np.maximum(np.abs(low), np.abs(high))), fill, schema)
        with np.errstate(over="ignore", invalid="ignore"):
            total: Array = sum((x.sum(axis=0) for x in unscaled._encoded(part)), np.zeros(unscaled.inputs))
            mean = total / len(part)
            squares: Array = sum((((x - mean) ** 2).sum(axis=0) for x in unscaled._encoded(part)), np.zeros(len(mean)))
        _check(squares, schema)
        return cls(kind, mean, _divisor(np.sqrt(squares / len(part)), np.abs(mean)), fill, schema)

    def encode(self, x: Array) -> Array:
        """Raw rows (N, D) to rows (N, E) with categories one-hot, all zeros where it is -1, and holes filled."""
        if any(self.schema.categories):
            columns = [
                np.where(np.isnan(column), np.nan, column == np.arange(len(values))) if values else column
                for column, values in zip(x.T[:, :, None], self.schema.categories, strict=True)
            ]
            x = np.concatenate(columns, axis=1)
        if self.fill is not None:
            x = np.where(np.isnan(x), self.fill, x)
        return x

    def transform(self, x: Array) -> Array:
        """Raw rows (N, D) to float32 rows (N, E) in the model's units.

        Raises DataError for a value that is too far from those of the training rows to be a float32.
        """
        scaled = np.empty((len(x), self.inputs), np.float32)
        step = max(1, CHUNK_VALUES // self.inputs)  # bounds the temporary of float64
        for start in range(0, len(x), step):
            out = scaled[start : start + step]
            with np.errstate(over="ignore"):
                rows = self.encode(x[start : start + step])
                shifted = np.subtract(rows, self.shift, dtype=np.float64) if self.shift.any() else rows
                np.divide(shifted, self.scale, out=out, casting="same_kind")
            if max(out.max(initial=0), -out.min(initial=0)) > LARGEST:
                row, column = np.unravel_index(int(np.abs(out).argmax()), out.shape)
                of = int(np.searchsorted(np.cumsum(self.schema.widths), column, side="right"))
                raise DataError(
                    f"{x[start + row, of]:g}, in column {self.schema.names[of]!r}, is out of all proportion to the "
                    "training rows"
                )
        return scaled

    def inverse(self, x: Array) -> Array:
        """Rows (N, E) in the model's units to rows (N, D) in raw units.

        They are float32; float64 for columns of many kinds, and where float32 would round a column. A category becomes
        the likeliest.
        """
        raw = x * self.scale + self.shift
        if self.schema.all_numbers:
            return raw if self.fine.any() else raw.astype(np.float32)
        if not any(self.schema.categories):
            return raw
        groups = np.split(raw, np.cumsum(self.schema.widths)[:-1], axis=1)
        columns = [
            group.argmax(axis=1) if values else group[:, 0]
            for group, values in zip(groups, self.schema.categories, strict=True)
        ]
        return np.stack(columns, axis=1)

    @cached_property
    def fine(self) -> Array:
        """Whether float32 is too coarse for each of the D columns (D,): where it is, it steps by over 1e-4 scales."""
        with np.errstate(over="ignore", invalid="ignore"):
            steps = np.spacing(np.abs(self.shift).astype(np.float32))
            coarse = ~(steps <= 1e-4 * self.scale)  # too large for a float32 is coarse, too
        starts = np.cumsum((0, *self.schema.widths[:-1]))
        fine: Array = np.broadcast_to(coarse, self.inputs)[starts]
        return fine

    def _encoded(self, part: Part) -> Iterator[Array]:
        for x in part.chunks(CHUNK_VALUES):
            yield self.encode(x).astype(np.float64, copy=False)

    def _means(self, part: Part) -> Array:
        """Return the mean of what is no hole in each of the E inputs."""
        total, count = np.zeros(self.inputs), np.zeros(self.inputs)
        for x in self._encoded(part):
            total += np.nansum(x, axis=0)
            count += (~np.isnan(x)).sum(axis=0)
        if not count.all():
            column = self.schema.names[int(np.searchsorted(np.cumsum(self.schema.widths), count.argmin(), "right"))]
            raise DataError(f"column {column!r} is empty: it has no mean", hint=f"leave it out: --exclude {column!r}")
        return total / count


def _check(moments: Array, schema: Schema) -> None:
    """Raise DataError where a column's moment overflowed."""
    if not np.isfinite(moments).all():
        place = np.searchsorted(np.cumsum(schema.widths), np.isfinite(moments).argmin(), "right")
        raise DataError(
            f"column {schema.names[int(place)]!r} holds values too large to be scaled",
            hint="are they numbers of one unit?",
        )


def _divisor(spread: Array, magnitude: Array) -> Array:
    """Return the spread of each column, 1 where it is no more than rounding: the column is constant."""
    return np.where(spread > 1e-12 * magnitude, spread, 1.0)
