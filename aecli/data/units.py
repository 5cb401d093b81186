"""Pixels in other units than a model's. They are converted if the user says how, and refused otherwise."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.config import Schema
from aecli.errors import DataError

Array = np.ndarray[Any, Any]
MARGIN = 0.1  # of a model's range: a value further outside is in other units
MOST = 0.25  # of all values may be outside: a few strange images do not refuse all
FAINT = 0.02  # of a model's range: if all pixels are so near to black, the units may differ
FAINT_BYTES = 25
LEVELS = 15  # with so many grey levels, an image is not only 0 and 1


@dataclass(frozen=True)
class Units:
    """The values of black and white in some rows of pixels, and in a model."""

    rows: tuple[float, float]
    model: tuple[float, float]

    def to_model(self, x: Array) -> Array:
        """Return rows (N, D) in the model's units, float32."""
        return _mapped(x, self.rows, self.model)

    def to_rows(self, x: Array) -> Array:
        """Return rows (N, D) of the model in the units that the rows came in, float32."""
        return _mapped(x, self.model, self.rows)


def _mapped(x: Array, here: tuple[float, float], there: tuple[float, float]) -> Array:
    if here == there:
        return x
    scale = (there[1] - there[0]) / (here[1] - here[0])
    mapped: Array = ((x.astype(np.float64) - here[0]) * scale + there[0]).astype(np.float32)
    return mapped


def check(x: Array, schema: Schema, name: str) -> tuple[float, float] | None:
    """Return the extremes of pixels (N, D); None if they say nothing about the units.

    Raises DataError for pixels that are not in a model's units: of a smaller type, or of another range.
    """
    white, black = schema.full_scale, schema.black
    if schema.image_shape is None or white is None or not x.size:
        return None
    if x.dtype == np.uint8 and (black, white) == (0, 255):
        return None
    low, high = float(np.fmin.reduce(x, axis=None)), float(np.fmax.reduce(x, axis=None))
    margin = MARGIN * (white - black)
    outside = np.count_nonzero((x < black - margin) | (x > white + margin))
    if outside <= MOST * x.size and not _is_narrow(x, schema, white) and not _is_small(x, schema, low, high):
        return low, high
    takes = f"{schema.dtype} from" if schema.dtype else "values from"
    raise DataError(
        f"{name}: pixels of {x.dtype} from {low:g} to {high:g}, and the model takes {takes} {black:g} to {white:g}",
        hint=f"say which values are black and white: --input-range {guess(low, high, x.dtype)}",
    )


def doubt(low: float, high: float, schema: Schema) -> str | None:
    """Return a warning for accepted pixels from `low` to `high`, if they may be in other units; else None."""
    black, white = schema.black, schema.full_scale
    if white is None or not low <= high:
        return None
    spread = white - black
    dark = black <= low and high - black <= FAINT * spread and spread >= LEVELS
    if not dark and black - spread <= low and high <= white + spread:
        return None
    told = f"{min(0.0, low):g},{high if high > min(0.0, low) else 1:g}"
    return (
        f"the pixels are from {low:g} to {high:g}, and the model was trained on {black:g} to {white:g}: "
        f"if black and white have other values here, say which, such as --input-range {told}"
    )


def faint(x_high: float) -> str | None:
    """Return a note on bytes that use little of their range, because the brightest is dark; else None."""
    if not 0 < x_high <= FAINT_BYTES:
        return None
    return f"the pixels are from 0 to {x_high:g} of 255; --input-range 0,{x_high:g} stretches them to the full range"


def _is_narrow(x: Array, schema: Schema, white: float) -> bool:
    """Return whether integers have a type that cannot hold the white of a model of integers."""
    whole = schema.dtype is not None and np.dtype(schema.dtype).kind in "ui"
    return whole and x.dtype.kind in "ui" and np.iinfo(x.dtype).max < white


def _is_small(x: Array, schema: Schema, low: float, high: float) -> bool:
    """Return whether pixels for a model with many grey levels are all in [0, 1] or [-1, 1], as other programs do.

    A table's rows may come one by one, and a dark row may hold only 0 and 1. So for tables, only fractions count.
    """
    levels = (schema.full_scale or 0) - schema.black
    if levels < LEVELS or not (0 < high <= 1 and low >= -1) or str(x.dtype) == schema.dtype:
        return False
    if schema.dtype is not None:
        return np.dtype(schema.dtype).kind in "ui"
    return x.dtype.kind == "f" and bool((x != np.rint(x)).any())


def guess(low: float, high: float, dtype: np.dtype[Any]) -> str:
    """Return the probable black and white of pixels from `low` to `high`, as a value for --input-range."""
    if dtype == np.uint8:
        return f"0,{high:g}" if 0 < high <= FAINT_BYTES else "0,255"
    if high <= 1:
        return "-1,1" if low < 0 else "0,1"
    return f"{low:g},{high:g}" if low < 0 else f"0,{2 ** int(np.ceil(high)).bit_length() - 1}"
