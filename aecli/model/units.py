"""Pixels in other units than a model's: they are converted where that is certain, else refused."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.config import Schema
from aecli.errors import DataError

Array = np.ndarray[Any, Any]
MARGIN = 0.1  # of a model's range, outside of which a value lies far out
MOST = 0.25  # of all values, that may lie far out


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


def check(x: Array, schema: Schema, name: str) -> None:
    """Raise DataError for pixels (N, D) that are not in a model's units: of another type, or of another range."""
    white = schema.full_scale
    if schema.image_shape is None or white is None or not x.size:
        return
    dtype = np.dtype(schema.dtype or np.uint8)
    if x.dtype == dtype and dtype.kind != "f":
        return
    black, own = schema.black, x.dtype
    low, high = float(np.fmin.reduce(x, axis=None)), float(np.fmax.reduce(x, axis=None))
    narrow = dtype.kind in "ui" and own.kind in "ui" and np.iinfo(own).max < white
    small = white - black >= 15 and black <= 0 and 0 < high <= 1 and dtype.kind != "f"
    margin = MARGIN * (white - black)
    if not narrow and not small:
        outside = np.count_nonzero((x < black - margin) | (x > white + margin))
        if outside <= MOST * x.size:
            return
    raise DataError(
        f"{name}: pixels of {own} from {low:g} to {high:g}, and the model takes {dtype} from {black:g} to {white:g}",
        hint=f"say which values are black and white: --input-range {_guess(low, high, own)}",
    )


def _guess(low: float, high: float, dtype: np.dtype[Any]) -> str:
    if dtype == np.uint8:
        return "0,255"
    if high <= 1:
        return "-1,1" if low < 0 else "0,1"
    return f"{low:g},{high:g}" if low < 0 else f"0,{2 ** int(np.ceil(high)).bit_length() - 1}"
