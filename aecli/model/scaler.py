"""Conversion of raw units to the model's units and back."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from aecli.config import Schema
from aecli.data.part import Part
from aecli.errors import DataError
from aecli.model.checkpoint import KNOTS

KINDS = ("standard", "minmax", "robust", "quantile", "common", "none")
FULL_SCALE = "full-scale"
CHUNK_VALUES = 1 << 22
LARGEST = 1e18  # its square is still a float32
FARTHEST = 20.0  # the largest training value with `robust`, in its units
ROUNDING = 2.0**-48  # of a column's magnitude: a smaller spread is rounding, and the column counts as constant
NEAR = 1e-6  # of a column's magnitude: with a smaller spread, moments are taken about one of the column's values
MAX_SAMPLE_ROWS = 1 << 17  # the most rows that quantiles are taken from
MAX_SAMPLE_VALUES = 1 << 25

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Scaler:
    """The map of D raw values to the E inputs of a model: categories one-hot, then (x - shift) / scale.

    `shift` and `scale` are float64, (E,) or (1,). E equals D unless there are categories. `full-scale` maps black
    pixels to 0 and white ones to 1. `standard` gives mean 0 and variance 1, `minmax` the range [0, 1], `robust` median
    0 and an interquartile range of 1.349, as in a normal distribution. `common` divides all values by their root mean
    square; `none` leaves values unchanged. A constant column is divided by 1.
    With `robust`, training values beyond +-20 are clipped: otherwise training would learn only a single such value.
    `quantile` first maps each value to its rank among `knots` (E, KNOTS), see `_Ranks`, and then scales like
    `standard`.
    `fill` (E,) replaces holes, in raw units: the mean of the training rows, for `robust` and `quantile` the median. It
    is None if the rows were integer pixels, which cannot have holes, and in checkpoints of format 1 that were trained
    without holes.
    """

    kind: str
    shift: Array
    scale: Array
    fill: Array | None
    schema: Schema
    knots: Array | None = None

    @property
    def bounded(self) -> bool:
        """Whether all training rows are in [0, 1]."""
        return self.kind in (FULL_SCALE, "minmax")

    @property
    def inputs(self) -> int:
        """The number of values in a row in the model's units."""
        return sum(self.schema.widths)

    @property
    def farthest(self) -> float:
        """The distance from 0, in the model's units, to which training values are clipped."""
        return FARTHEST if self.kind == "robust" else math.inf

    @property
    def middle(self) -> str:
        """The word for what replaces a hole."""
        return "median" if self.kind in ("robust", "quantile") else "mean"

    @cached_property
    def filling(self) -> Array | None:
        """What replaces a hole in the model's units, float32 (E,); None if nothing can."""
        if self.fill is not None:
            filling: Array = self._scaled(self.fill[None])[0].astype(np.float32)
            return filling
        return np.zeros(self.inputs, np.float32) if self.kind == "standard" else None

    @classmethod
    def fit(cls, kind: str, part: Part, schema: Schema) -> "Scaler":
        """Return the scaler of the training rows. Its statistics ignore holes.

        If all values of images are within their full scale, they are divided by it, whatever kind is requested.
        Raises DataError if a column's values are too large to be scaled, or are all holes.
        """
        zero, one = np.zeros(1), np.ones(1)
        white = schema.full_scale
        plain = cls("none", zero, one, None, schema)
        black = schema.black
        if white is not None and all(_least(x) >= black and _most(x) <= white for x in part.chunks(CHUNK_VALUES)):
            may_have_holes = part.x.dtype.kind == "f" or schema.missing == "mean"
            fill = plain._means(part) if may_have_holes else None
            return cls(FULL_SCALE, np.array([black]), np.array([white - black]), fill, schema)
        fill = plain._means(part)
        if kind in ("none", "common"):
            size = 1.0 if kind == "none" else math.sqrt(plain._means(part, np.square).mean()) or 1.0
            return cls(kind, zero, np.array([size]), fill, schema)
        if kind == "minmax":
            low, high = plain._extremes(part)
            with np.errstate(over="ignore"):
                spread = high - low
            _check(spread, schema)
            return cls(kind, low, _divisor(spread, np.maximum(np.abs(low), np.abs(high))), fill, schema)
        if kind == "robust":
            low, middle, high = plain._quantiles(part, np.array([0.25, 0.5, 0.75]))
            with np.errstate(over="ignore"):
                spread = (high - low) / 1.349
            _check(spread, schema)
            flat = spread <= ROUNDING * np.abs(middle)
            if flat.any():
                spread = np.where(flat, plain._moments(part, fill)[1], spread)
            return cls(kind, middle, _divisor(spread, np.abs(middle)), middle, schema)
        if kind == "quantile":
            normal = NormalDist()
            scores = _Ranks.SCORES * normal.inv_cdf(1 - 0.5 / max(2, len(part)))
            knots = plain._quantiles(part, np.array([normal.cdf(score) for score in scores])).T  # (E, KNOTS)
            knots[:, 0], knots[:, -1] = plain._extremes(part)
            with np.errstate(over="ignore"):
                _check(knots[:, -1] - knots[:, 0], schema)
            ranked = cls("none", zero, one, None, schema, np.ascontiguousarray(knots))
            mean, spread = ranked._moments(part, ranked._means(part))
            median = plain._quantiles(part, np.array([0.5]))[0]
            return cls(kind, mean, _divisor(spread, np.abs(mean)), median, schema, ranked.knots)
        mean, spread = plain._moments(part, fill)
        return cls(kind, mean, _divisor(spread, np.abs(mean)), fill, schema)

    def encode(self, x: Array) -> Array:
        """Return raw rows (N, D) as rows (N, E), categories one-hot: all zeros for -1, all NaN for NaN."""
        if any(self.schema.categories):
            columns = [
                np.where(np.isnan(column), np.nan, column == np.arange(len(values))) if values else column
                for column, values in zip(x.T[:, :, None], self.schema.categories, strict=True)
            ]
            x = np.concatenate(columns, axis=1)
        return x

    def transform(self, x: Array, *, training: bool = False) -> Array:
        """Return raw rows (N, D) as float32 rows (N, E) in the model's units.

        Holes become the column's mean or median, and values beyond +-LARGEST are clipped. In `training`, holes stay
        NaN.
        Raises DataError for a hole if there is nothing to fill it with; in training, for a value beyond +-LARGEST.
        """
        scaled = np.empty((len(x), self.inputs), np.float32)
        step = max(1, CHUNK_VALUES // self.inputs)  # limits the size of the temporary float64 array
        for start in range(0, len(x), step):
            raw, out = x[start : start + step], scaled[start : start + step]
            with np.errstate(over="ignore", invalid="ignore"):  # infinity less a mean, or times a scale
                self._scaled(self.encode(raw), out)
            if training and math.isfinite(self.farthest):
                np.clip(out, -self.farthest, self.farthest, out=out)
            if max(out.max(initial=0), -out.min(initial=0)) <= LARGEST:  # false for NaN
                continue
            largest = np.fmax.reduce(np.abs(out), axis=None, initial=0)
            if training and largest > LARGEST:
                row, column = np.unravel_index(int(np.nanargmax(np.abs(out))), out.shape)
                of = int(np.searchsorted(np.cumsum(self.schema.widths), column, side="right"))
                raise DataError(
                    f"{raw[row, of]:g}, in column {self.schema.names[of]!r}, is far too large compared to the "
                    "other rows",
                    hint="correct or drop such rows first",
                )
            if not training:
                if self.filling is None and np.isnan(out).any():
                    raise DataError("a hole, and the model has no means to fill it with", hint="train it again")
                np.clip(out, -LARGEST, LARGEST, out=out)
                np.copyto(out, 0.0 if self.filling is None else self.filling, where=np.isnan(out))
        return scaled

    def holes(self, x: Array) -> Array | None:
        """Return a mask (N, E) of the inputs that are holes in raw rows (N, D); None if there are no holes."""
        if x.dtype.kind != "f":
            return None
        holes = np.isnan(x)
        if not holes.any():
            return None
        return np.repeat(holes, self.schema.widths, axis=1) if any(self.schema.categories) else holes

    def inverse(self, x: Array) -> Array:
        """Return rows (N, E) in the model's units as rows (N, D) in raw units.

        They are float32, or float64 if columns have several kinds, or if float32 would round a column. A one-hot
        category becomes the most likely one.
        """
        raw = x * self.scale + self.shift
        if self.knots is not None:
            raw = self.ranks.values(raw)
        if self.schema.all_numbers:
            return raw if any(self.decimals[1]) else raw.astype(np.float32)
        if not any(self.schema.categories):
            return raw
        groups = np.split(raw, np.cumsum(self.schema.widths)[:-1], axis=1)
        columns = [
            group.argmax(axis=1) if values else group[:, 0]
            for group, values in zip(groups, self.schema.categories, strict=True)
        ]
        return np.stack(columns, axis=1)

    @cached_property
    def decimals(self) -> tuple[list[int], list[bool]]:
        """The number of decimals for each of the D columns, and whether float32 would round them visibly.

        With this many decimals, a column's scale has seven digits. Rounding is visible from a ten thousandth of the
        scale on.
        """
        starts = np.cumsum((0, *self.schema.widths[:-1]))
        if self.knots is None:
            places, scale = np.abs(self.shift), self.scale
        else:
            quarter = self.knots[:, [KNOTS // 4, -KNOTS // 4]]
            places, scale = np.abs(quarter).max(axis=1), quarter[:, 1] - quarter[:, 0]
        places, scale = (np.broadcast_to(values, self.inputs)[starts] for values in (places, scale))
        known = np.where(scale > 0, scale, 1)
        decimals = np.clip(6 - np.floor(np.log10(known)), -100, 100).astype(int)
        return decimals.tolist(), (places * 2.0**-24 > 1e-4 * known).tolist()

    @cached_property
    def ranks(self) -> "_Ranks":
        """The map of values to their ranks among `knots`, and back."""
        assert self.knots is not None  # noqa: S101, for the type checker: it is used only if there are knots
        return _Ranks(self.knots)

    def _scaled(self, encoded: Array, out: Array | None = None) -> Array:
        """Return rows (N, E) scaled, written into `out` if it is given."""
        rows = encoded if self.knots is None else self.ranks.scores(encoded)
        shifted = np.subtract(rows, self.shift, dtype=np.float64) if self.shift.any() else rows
        scaled: Array = np.divide(shifted, self.scale, out=out, casting="same_kind")
        return scaled

    def _encoded(self, part: Part) -> Iterator[Array]:
        for x in part.chunks(CHUNK_VALUES):
            rows = self.encode(x).astype(np.float64, copy=False)
            yield rows if self.knots is None else self.ranks.scores(rows)

    def _means(self, part: Part, of: Callable[[Array], Array] = lambda x: x) -> Array:
        """Return the mean of `of` the values that are not holes, for each of the E inputs."""
        total, count = np.zeros(self.inputs), np.zeros(self.inputs, np.int64)
        with np.errstate(over="ignore", invalid="ignore"):
            for rows in self._encoded(part):
                x = of(rows)
                summed = x.sum(axis=0)
                holes = np.isnan(summed).any()
                total += np.nansum(x, axis=0) if holes else summed
                count += (~np.isnan(x)).sum(axis=0) if holes else len(x)
        if not count.all():
            place = int(np.searchsorted(np.cumsum(self.schema.widths), count.argmin(), "right"))
            column = self.schema.column_of(place)
            raise DataError(
                f"column {self.schema.names[place]!r} is empty: it has no mean",
                hint=None if column is None else f"leave it out: --exclude {column!r}",
            )
        _check(total, self.schema)
        return total / count

    def _moments(self, part: Part, mean: Array) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of each input, (E,), given the mean from `_means`.

        If the spread is small beside the mean, both are computed again about one value of the column, because a sum of
        large values loses the digits in which they differ.
        """
        spread = np.sqrt(self._means(part, lambda x: np.square(x - mean)))
        near = (spread <= NEAR * np.abs(mean)) & (mean != 0)
        if near.any():
            origin = np.where(near, self._first(part), 0.0)
            away = self._means(part, lambda x: x - origin)
            again = np.sqrt(self._means(part, lambda x: np.square((x - origin) - away)))
            mean, spread = np.where(near, origin + away, mean), np.where(near, again, spread)
        return mean, spread

    def _extremes(self, part: Part) -> tuple[Array, Array]:
        """Return the least and the greatest value of each input, (E,)."""
        extremes = [(np.fmin.reduce(x), np.fmax.reduce(x)) for x in self._encoded(part)]
        low, high = zip(*extremes, strict=True)
        return np.fmin.reduce(low), np.fmax.reduce(high)

    def _first(self, part: Part) -> Array:
        """Return the first value that is not a hole, for each of the E inputs."""
        found = np.full(self.inputs, np.nan)
        for x in self._encoded(part):
            found = np.where(np.isnan(found), x[(~np.isnan(x)).argmax(axis=0), np.arange(x.shape[1])], found)
            if not np.isnan(found).any():
                break
        return found

    def _quantiles(self, part: Part, levels: Array) -> Array:
        """Return the quantiles (levels, E) of the inputs, from all rows, or from an evenly spaced sample of them."""
        most = max(KNOTS, min(MAX_SAMPLE_ROWS, MAX_SAMPLE_VALUES // self.inputs))
        step = -(-len(part) // most)
        sample = np.concatenate([x[::step] for x in self._encoded(part)])
        for i in np.flatnonzero(np.isnan(sample).all(axis=0)).tolist():  # the sample missed its few values
            values = np.concatenate([x[~np.isnan(x[:, i]), i] for x in self._encoded(part)])
            sample[: len(values), i] = values[: len(sample)]
        quantiles: Array = np.stack([np.nanquantile(column, levels) for column in sample.T], axis=1)
        return quantiles


class _Ranks:
    """The rank of a value among the knots of its column: its normal score, as a share of the largest, in [-1, 1].

    The knots (E, KNOTS) are quantiles of the training rows, from the smallest value to the largest, at evenly spaced
    normal scores. Between two knots the map is linear; beyond them it has the slope of the whole range. Equal knots are
    merged, with their mean score.
    """

    SCORES = np.linspace(-1, 1, KNOTS)

    def __init__(self, knots: Array) -> None:
        self.columns: list[tuple[Array, Array, float]] = []
        for column in knots:
            values, members = np.unique(column, return_inverse=True)
            scores = np.bincount(members, self.SCORES) / np.bincount(members)
            spread = values[-1] - values[0]
            self.columns.append((values, scores, (scores[-1] - scores[0]) / spread if spread > 0 else 1.0))

    def scores(self, x: Array) -> Array:
        """Return the scores of raw values (N, E), NaN for NaN."""
        out = np.empty(x.shape)
        for i, (values, scores, slope) in enumerate(self.columns):
            within = np.clip(x[:, i], values[0], values[-1])
            out[:, i] = np.interp(within, values, scores) + (x[:, i] - within) * slope
        return out

    def values(self, x: Array) -> Array:
        """Return the raw values of scores (N, E)."""
        out = np.empty(x.shape)
        for i, (values, scores, slope) in enumerate(self.columns):
            within = np.clip(x[:, i], scores[0], scores[-1])
            out[:, i] = np.interp(within, scores, values) + (x[:, i] - within) / slope
        return out


def _least(x: Array) -> float:
    return float(np.fmin.reduce(x, axis=None))


def _most(x: Array) -> float:
    return float(np.fmax.reduce(x, axis=None))


def _check(moments: Array, schema: Schema) -> None:
    """Raise DataError if a column's moment overflowed."""
    if not np.isfinite(moments).all():
        place = np.searchsorted(np.cumsum(schema.widths), np.isfinite(moments).argmin(), "right")
        raise DataError(
            f"column {schema.names[int(place)]!r} holds values too large to be scaled",
            hint="check that they all have the same unit",
        )


def _divisor(spread: Array, magnitude: Array) -> Array:
    """Return the spread of each column, or 1 for a constant column, whose spread is only rounding."""
    return np.where(spread > ROUNDING * magnitude, spread, 1.0)
