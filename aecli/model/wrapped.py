"""The autoencoder in torch with its scaling: raw units in, raw units out.

Shape letters: N rows, E input values a row with categories one-hot, K latent values a row, J knots of a column.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aecli.config import ModelConfig
from aecli.errors import DataError
from aecli.model.module import Autoencoder
from aecli.model.scaler import LARGEST, Scaler

Array = np.ndarray[Any, Any]
PRECISE = 1e-5  # of a column's scale: a larger rounding by float32 makes the raw values float64


class WrappedAutoencoder(nn.Module):
    """A trained autoencoder as a module of its own, which needs nothing else: rows go in and come out in raw units.

    `encode` takes rows (N, E) to latent rows (N, K), `decode` takes these to rows (N, E), and `forward` does both. All
    are differentiable. Filling, scaling and the network are what `inference.Model` computes, within 1e-5.
    E is the number of columns, but a category has one input for each of its values, in the order of the schema: 1 for
    its own value and 0 for the others. `decode` gives their rebuilt values, of which the largest is the likeliest.
    NaN is a hole: the column's mean or median over the training rows is taken in its place. Pixels of whole numbers
    have no such mean, and NaN stays NaN.
    Images may also be (N, H, W), (N, H, W, C) or (N, C, H, W), and come out of `forward` as they went in. Flat rows of
    them are as `Model.embed` takes them and `Model.decode` gives them.
    Raw values are float32, or float64 where float32 would round a column, such as seconds since 1970.
    """

    shift: Tensor  # (E,) or (1,), as scale
    scale: Tensor
    fill: Tensor  # (E,)

    def __init__(self, config: ModelConfig, weights: Mapping[str, Array], scaler: Scaler) -> None:
        """Take the weights from a state dict of float32 arrays, and the scaling from a scaler."""
        super().__init__()
        height, width, channels = (*(scaler.schema.image_shape or (1, config.inputs)), 1)[:3]
        self._image, self._channels_first = (height, width, channels), scaler.schema.channels_first
        self._is_image = scaler.schema.image_shape is not None
        self.network = Autoencoder(config)
        self.network.load_state_dict({name: torch.tensor(tensor) for name, tensor in weights.items()})
        dtype = _dtype(scaler)
        self.register_buffer("shift", torch.tensor(scaler.shift, dtype=dtype))
        self.register_buffer("scale", torch.tensor(scaler.scale, dtype=dtype))
        self.register_buffer("fill", torch.tensor(_fill(scaler), dtype=dtype))
        self.ranks = None if scaler.knots is None else _Ranks(scaler.knots, dtype)
        self.eval()

    def encode(self, x: Tensor) -> Tensor:
        """Return the latent rows of raw rows. Raises DataError for rows of another shape."""
        x = self._flat(x)  # (N, E)
        x = torch.where(torch.isnan(x), self.fill, x)
        if self.ranks is not None:
            x = self.ranks.scores(x)
        scaled = torch.clamp((x - self.shift) / self.scale, -LARGEST, LARGEST)
        return self.network.encode(scaled.to(next(self.network.parameters()).dtype))  # (N, E) -> (N, K)

    def decode(self, z: Tensor) -> Tensor:
        """Return the raw rows (N, E) that latent rows stand for; images as flat rows of (H, W, C)."""
        raw = self.network.decode(z) * self.scale + self.shift  # (N, K) -> (N, E)
        return raw if self.ranks is None else self.ranks.values(raw)

    def forward(self, x: Tensor) -> Tensor:
        """Rebuild raw rows from their latent rows, in their own shape. Raises DataError as `encode` does."""
        recon = self.decode(self.encode(x))
        if not self._is_turned(x):
            return recon.reshape(x.shape)
        return recon.reshape(-1, *self._image).permute(0, 3, 1, 2).reshape(x.shape)  # (N, H, W, C) -> (N, C, H, W)

    def _flat(self, x: Tensor) -> Tensor:
        """Return rows or images as flat rows, images as (H, W, C)."""
        height, width, channels = self._image
        row = tuple(x.shape[1:])
        fitting: list[tuple[int, ...]] = [(height * width * channels,)]
        if self._is_image:
            fitting += [(height, width)] if channels == 1 else []
            fitting += dict.fromkeys([self._image, (channels, height, width)])
        if row not in fitting:
            ways = " or ".join(f"(N, {', '.join(map(str, each))})" for each in fitting)
            raise DataError(f"rows of shape {tuple(x.shape)}, and {ways} were expected")
        if self._is_turned(x):
            x = x.reshape(-1, channels, height, width).permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
        return x.reshape(-1, math.prod(self._image))

    def _is_turned(self, x: Tensor) -> bool:
        """Return whether rows are images whose channels come first."""
        height, width, channels = self._image
        row = tuple(x.shape[1:])
        if channels == 1 or row == self._image:
            return False
        return self._channels_first if len(row) == 1 else row == (channels, height, width)


class _Ranks(nn.Module):
    """What `scaler._Ranks` computes: the place of a value among the knots of its column, and back.

    Each column is a line through its knots, prolonged on both sides with the slope of the whole. Of two sorted tables
    (J, E) the place in one is found by halving, and the line from there leads to the other.
    """

    knots: Tensor
    scores_at: Tensor
    up: Tensor
    down: Tensor
    last: Tensor
    slope: Tensor

    def __init__(self, knots: Array, dtype: torch.dtype) -> None:
        super().__init__()
        count = knots.shape[1]
        self._halves = [1 << i for i in reversed(range((count - 1).bit_length()))]
        evenly = np.linspace(-1, 1, count)
        columns = []
        for column in knots:
            values, members = np.unique(column, return_inverse=True)
            scores = np.bincount(members, evenly) / np.bincount(members)
            spread = values[-1] - values[0]
            columns.append((values, scores, (scores[-1] - scores[0]) / spread if spread > 0 else 1.0))
        size = 2 * self._halves[0]
        self._table("knots", [_padded(values, size, np.inf) for values, _, _ in columns], dtype)
        self._table("scores_at", [_padded(scores, size, np.inf) for _, scores, _ in columns], dtype)
        self._table("up", [_padded(np.diff(s) / np.diff(v), size, 0) for v, s, _ in columns], dtype)
        self._table("down", [_padded(np.diff(v) / np.diff(s), size, 0) for v, s, _ in columns], dtype)
        self.register_buffer("last", torch.tensor([len(values) - 1 for values, _, _ in columns]))
        self.register_buffer("slope", torch.tensor([slope for *_, slope in columns], dtype=dtype))

    def _table(self, name: str, columns: list[Array], dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.tensor(np.stack(columns, axis=1), dtype=dtype))  # (J, E)

    def scores(self, x: Tensor) -> Tensor:
        """Return the scores of raw values (N, E)."""
        within, at = self._place(x, self.knots)
        start = self.knots.gather(0, at)
        return self.scores_at.gather(0, at) + (within - start) * self.up.gather(0, at) + (x - within) * self.slope

    def values(self, x: Tensor) -> Tensor:
        """Return the raw values of scores (N, E)."""
        within, at = self._place(x, self.scores_at)
        start = self.scores_at.gather(0, at)
        return self.knots.gather(0, at) + (within - start) * self.down.gather(0, at) + (x - within) / self.slope

    def _place(self, x: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values within the table, and the row of the table that each of them is at or after, (N, E)."""
        within = torch.minimum(torch.maximum(x, table[0]), table.gather(0, self.last[None])[0])
        at = torch.zeros_like(within, dtype=torch.int64)
        for half in self._halves:
            at = at + half * (within >= table.gather(0, at + half)).to(torch.int64)
        return within, at


def _padded(values: Array, size: int, rest: float) -> Array:
    return np.concatenate([values, np.full(size - len(values), rest)])


def _fill(scaler: Scaler) -> Array:
    """Return what holes become in raw units, (E,): NaN where nothing is known."""
    if scaler.fill is not None:
        return scaler.fill
    return np.broadcast_to(scaler.shift if scaler.kind == "standard" else np.nan, scaler.inputs).copy()


def _dtype(scaler: Scaler) -> torch.dtype:
    """Return the type that raw values need: float32, or float64 where that rounds a column or cannot hold it."""
    if scaler.knots is None:
        places, scale = np.abs(scaler.shift), scaler.scale
    else:
        places = np.abs(scaler.knots).max(axis=1)
        steps = np.diff(scaler.knots, axis=1)
        scale = np.where(steps > 0, steps, np.inf).min(axis=1)
    rounded = places * 2.0**-24 > PRECISE * scale
    limits = np.finfo(np.float32)
    held = (scale > limits.tiny) & (places + scale < limits.max) if scaler.knots is None else places < limits.max
    return torch.float64 if rounded.any() or not held.all() else torch.float32
