"""The autoencoder in NumPy: what uses a model on the CPU, without the second that torch takes to load.

Shape letters: N rows, D input values a row, K latent values a row.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from aecli.config import ModelConfig
from aecli.model.layers import Convolution, Layer, decoder_layers, encoder_layers

Array = np.ndarray[Any, Any]
ROOT, CUBIC = np.float32(np.sqrt(2 / np.pi)), np.float32(0.044715)


class Network:
    """An encoder and its mirrored decoder: what `module.Autoencoder` computes, within 1e-5 of it.

    `workers` is how many threads may usefully compute at once.
    """

    workers = min(8, os.cpu_count() or 1)  # each holds a batch, and all that it is scaled and multiplied to

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Array]) -> None:
        """Take the weights from a state dict of float32 arrays."""
        self._tensors = tensors
        self._latent_dim, self._active = config.latent_dim, config.active
        self._encoder = encoder_layers(config)
        self._decoder = decoder_layers(config)

    def encode(self, x: Array) -> Array:
        """Return the latent rows of float32 rows."""
        z = self._forward(self._encoder, x)  # (N, D) -> (N, K), or (N, 2 K) with the logarithms of variances
        if self._active is not None:
            return sparse(z, self._active)
        return np.ascontiguousarray(z[:, : self._latent_dim])

    def decode(self, z: Array) -> Array:
        """Return the rows that float32 latent rows stand for."""
        return self._forward(self._decoder, z)  # (N, K) -> (N, D)

    def _forward(self, layers: Sequence[Layer], x: Array) -> Array:
        with np.errstate(all="ignore"):  # what is too large becomes infinite or NaN, as in torch
            for layer in layers:
                weight, bias = self._tensors[f"{layer.name}.weight"], self._tensors[f"{layer.name}.bias"]
                if (at := layer.convolution) is None:
                    x = _dense(x, weight, bias)  # (N, in_dim) -> (N, out_dim)
                else:
                    x = (_transposed if at.transposed else _convolved)(x, weight, bias, at)
                x = ACTIVATIONS[layer.activation](x)
        return x


def sparse(z: Array, active: int) -> Array:
    """Keep so many largest of each row's latent values (N, K), of equal ones the first; the others become 0."""
    place = z.shape[1] - active
    least = np.partition(z, place, axis=1)[:, place : place + 1]
    equal = z == least
    surplus = equal.cumsum(axis=1) > active - (z > least).sum(axis=1, keepdims=True)
    z[(z < least) | (equal & surplus)] = 0
    return z


def _dense(x: Array, weight: Array, bias: Array) -> Array:
    y = x @ weight.T  # (N, in) x (out, in)
    y += bias
    return y


def _convolved(x: Array, weight: Array, bias: Array, at: Convolution) -> Array:
    """Convolve rows (N, H W C) to (N, H' W' C'): all windows of them, times the kernels."""
    (height, width, before), (*size, after) = at.images
    p, s = at.padding, at.stride
    x = np.pad(x.reshape(-1, height, width, before), ((0, 0), (p, p), (p, p), (0, 0)))
    windows = sliding_window_view(x, (at.kernel, at.kernel), (1, 2))[:, ::s, ::s]  # (N, H', W', C, k, k)
    y = windows.reshape(-1, before * at.kernel**2) @ weight.reshape(after, -1).T  # (N H' W', C')
    y += bias
    return y.reshape(-1, math.prod(size) * after)


def _transposed(x: Array, weight: Array, bias: Array, at: Convolution) -> Array:
    """Convolve rows (N, H W C), transposed, to (N, H' W' C'): a pixel times the kernels, added up where they meet."""
    (height, width, before), (*size, after) = at.images
    k, p, s = at.kernel, at.padding, at.stride
    y = (x.reshape(-1, before) @ weight.reshape(before, -1)).reshape(-1, height, width, after, k, k)
    larger = [max(n + 2 * p, (m - 1) * s + k) for n, m in zip(size, (height, width), strict=True)]
    out = np.zeros((len(x), *larger, after), np.float32)
    for i, j in np.ndindex(k, k):
        out[:, i : i + s * height : s, j : j + s * width : s] += y[..., i, j]
    out = out[:, p : p + size[0], p : p + size[1]] + bias
    return out.reshape(len(x), -1)


def _gelu(x: Array) -> Array:
    """Source: Hendrycks and Gimpel 2016, section 2, with the tanh."""
    y = x * x
    y *= ROOT * CUBIC
    y += ROOT
    y *= x
    np.tanh(y, out=y)  # tanh(sqrt(2 / pi) (x + 0.044715 x^3))
    y += 1
    y *= x
    y *= np.float32(0.5)
    return y


def _sigmoid(x: Array) -> Array:
    np.negative(x, out=x)
    np.exp(x, out=x)
    x += 1
    return np.reciprocal(x, out=x)


def _silu(x: Array) -> Array:
    y = _sigmoid(x.copy())
    y *= x
    return y


def _elu(x: Array) -> Array:
    y = np.minimum(x, 0)
    np.exp(y, out=y)
    y -= 1
    y += np.maximum(x, 0, out=x)
    return y


# Each may write over its argument. In place, because a temporary costs as much as what is computed.
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "relu": lambda x: np.maximum(x, 0, out=x),
    "silu": _silu,
    "elu": _elu,
    "tanh": lambda x: np.tanh(x, out=x),
    "sigmoid": _sigmoid,
    "none": lambda x: x,
}
