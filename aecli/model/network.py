"""The autoencoder in NumPy: what uses a model on the CPU, without the second that torch takes to load.

Shape letters: N rows, D input values a row, K latent values a row.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aecli.config import ModelConfig
from aecli.model.layers import Layer, decoder_layers, encoder_layers

Array = np.ndarray[Any, Any]
ROOT, CUBIC = np.float32(np.sqrt(2 / np.pi)), np.float32(0.044715)


class Network:
    """A fully connected encoder and its mirrored decoder: what `model.Autoencoder` computes, within 1e-5 of it.

    `workers` is how many threads may usefully compute at once.
    """

    workers = min(8, os.cpu_count() or 1)  # each holds a batch, and all that it is scaled and multiplied to

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Array]) -> None:
        """Take the weights from a state dict of float32 arrays."""
        self._tensors = tensors
        self._encoder = encoder_layers(config)
        self._decoder = decoder_layers(config)

    def encode(self, x: Array) -> Array:
        """Return the latent rows of float32 rows."""
        return self._forward(self._encoder, x)  # (N, D) -> (N, K)

    def decode(self, z: Array) -> Array:
        """Return the rows that float32 latent rows stand for."""
        return self._forward(self._decoder, z)  # (N, K) -> (N, D)

    def _forward(self, layers: Sequence[Layer], x: Array) -> Array:
        with np.errstate(all="ignore"):  # what is too large becomes infinite or NaN, as in torch
            for layer in layers:
                x = x @ self._tensors[f"{layer.name}.weight"].T  # (N, in_dim) -> (N, out_dim)
                x += self._tensors[f"{layer.name}.bias"]
                x = ACTIVATIONS[layer.activation](x)
        return x


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
