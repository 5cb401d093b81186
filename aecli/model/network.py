"""The autoencoder in NumPy. Commands use it on the CPU, because torch takes a second to load.

Shape letters: N rows, D input values per row, K latent values per row.
"""

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
    """An encoder and its mirrored decoder. It agrees with `module.Autoencoder` within 1e-5.

    `workers` is the number of threads that may usefully compute at once.
    """

    workers = min(8, os.cpu_count() or 1)  # each holds a batch and its intermediate results

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Array]) -> None:
        """Use the weights of a state dict of float32 arrays."""
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
        """Return the rows decoded from float32 latent rows."""
        return self._forward(self._decoder, z)  # (N, K) -> (N, D)

    def _forward(self, layers: Sequence[Layer], x: Array) -> Array:
        with np.errstate(all="ignore"):  # overflow gives infinity or NaN, as in torch
            for layer in layers:
                weight, bias = self._tensors[f"{layer.name}.weight"], self._tensors[f"{layer.name}.bias"]
                if (at := layer.convolution) is None:
                    x = _dense(x, weight, bias)  # (N, in_dim) -> (N, out_dim)
                else:
                    x = (_transposed if at.transposed else _convolved)(x, weight, bias, at)
                x = ACTIVATIONS[layer.activation](x)
        return x


def sparse(z: Array, active: int) -> Array:
    """Return latent values (N, K) with all but each row's `active` largest set to 0, in place; first ones win ties."""
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
    """Return the convolution of large images (N, H W C) to small ones (N, h w c): all windows times the kernels."""
    (height, width, channels), k, p, s = at.large, at.kernel, at.padding, at.stride
    x = np.pad(x.reshape(-1, height, width, channels), ((0, 0), (p, p), (p, p), (0, 0)))
    windows = _windows(x, k)[:, ::s, ::s].reshape(-1, k * k * channels)  # (N h w, k k C)
    y = windows @ weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
    y += bias
    return y.reshape(len(x), -1)


def _transposed(x: Array, weight: Array, bias: Array, at: Convolution) -> Array:
    """Return the transposed convolution of small images (N, h w c) to large ones: see `convolution.transposed`."""
    (height, width, channels), p, s = at.large, at.padding, at.stride
    taps = at.kernel // s
    edge = (taps - 1, taps - 1)
    x = np.pad(x.reshape(-1, *at.small), ((0, 0), edge, edge, (0, 0)))
    windows = _windows(x, taps)
    kernels = weight.reshape(len(weight), channels, taps, s, taps, s)[:, :, ::-1, :, ::-1].transpose(2, 4, 0, 3, 5, 1)
    blocks = windows.reshape(-1, taps * taps * len(weight)) @ kernels.reshape(-1, s * s * channels)
    _, down, across, *_ = windows.shape
    pixels = blocks.reshape(-1, down, across, s, s, channels).swapaxes(2, 3).reshape(-1, down * s, across * s, channels)
    return (pixels[:, p : p + height, p : p + width] + bias).reshape(len(x), -1)


def _windows(images: Array, size: int) -> Array:
    """Return all square windows of images (N, H, W, C), as (N, H', W', size, size, C)."""
    return np.moveaxis(sliding_window_view(images, (size, size), (1, 2)), 3, 5)


def _gelu(x: Array) -> Array:
    """Return GELU in its tanh form. Source: Hendrycks and Gimpel 2016, section 2."""
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


# Each may overwrite its argument, because a temporary array costs as much as the computation.
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "relu": lambda x: np.maximum(x, 0, out=x),
    "silu": _silu,
    "elu": _elu,
    "tanh": lambda x: np.tanh(x, out=x),
    "sigmoid": _sigmoid,
    "none": lambda x: x,
}
