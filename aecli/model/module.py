"""The autoencoder in torch.

Shape letters: N rows, D input values per row, K latent values per row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aecli.config import ModelConfig
from aecli.model.convolution import convolved, transposed
from aecli.model.layers import Convolution, Layer, decoder_layers, encoder_layers

Array = np.ndarray[Any, Any]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Autoencoder(nn.Module):
    """An encoder of dense layers, after convolutions if rows are images, and its mirrored decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _sequential(encoder_layers(config))
        self.decoder = _sequential(decoder_layers(config))

    def encode(self, x: Tensor) -> Tensor:
        """Return the latent rows of x."""
        h: Tensor = self.encoder(x)  # (N, D) -> (N, K), or (N, 2 K) with the logarithms of variances
        if self.config.active is not None:
            return h.masked_fill(inactive(h, self.config.active), 0)
        return h[:, : self.config.latent_dim]

    def decode(self, z: Tensor) -> Tensor:
        """Return the rows decoded from latent rows."""
        recon: Tensor = self.decoder(z)  # (N, K) -> (N, D)
        return recon

    def forward(self, x: Tensor) -> Tensor:
        """Return x, rebuilt from its latent rows."""
        return self.decode(self.encode(x))  # (N, D) -> (N, K) -> (N, D)


def inactive(z: Tensor, active: int) -> Tensor:
    """Return a mask of latent values (N, K) not among the `active` largest of their row; the first ones win ties."""
    least = z.topk(active, dim=1).values[:, -1:]
    equal = z == least
    surplus = equal.cumsum(1, dtype=torch.int32) > active - (z > least).sum(1, keepdim=True)
    return (z < least) | (equal & surplus)


class OnDevice:
    """A trained autoencoder on a device, with NumPy arrays in and out; `network.Network` is the same in NumPy."""

    workers = 1

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Array], device: torch.device) -> None:
        """Load the weights from a state dict of float32 arrays."""
        self._device = device
        self._model = Autoencoder(config)
        self._model.load_state_dict({name: torch.tensor(tensor) for name, tensor in tensors.items()})
        self._model.to(device).eval()

    @torch.inference_mode()
    def encode(self, x: Array) -> Array:
        """Return the latent rows of float32 rows."""
        z: Array = self._model.encode(torch.tensor(x, device=self._device)).cpu().numpy()
        return z

    @torch.inference_mode()
    def decode(self, z: Array) -> Array:
        """Return the rows decoded from float32 latent rows."""
        recon: Array = self._model.decode(torch.tensor(z, device=self._device)).cpu().numpy()
        return recon


class ConvolvedRows(nn.Module):
    """A convolution of rows that are images, flattened: (N, H W C) -> (N, H' W' C')."""

    def __init__(self, layer: Layer, at: Convolution) -> None:
        super().__init__()
        self.at = at
        bound = layer.fan_in**-0.5  # as PyTorch's own layers do
        self.weight, self.bias = (nn.Parameter(torch.empty(shape).uniform_(-bound, bound)) for shape in layer.shapes)

    def forward(self, x: Tensor) -> Tensor:
        return (transposed if self.at.transposed else convolved)(x, self.weight, self.bias, self.at)


def _sequential(layers: Sequence[Layer]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for layer in layers:
        if layer.convolution is not None:
            modules.append(ConvolvedRows(layer, layer.convolution))
        else:
            modules.append(nn.Linear(layer.in_dim, layer.out_dim))  # weight (out_dim, in_dim), bias (out_dim,)
        if layer.activation == "gelu":
            modules.append(nn.GELU(approximate="tanh"))
        elif layer.activation != "none":
            modules.append(ACTIVATIONS[layer.activation]())
    return nn.Sequential(*modules)


def initialise(model: Autoencoder, config: ModelConfig, init: str, mean: Tensor, generator: torch.Generator) -> None:
    """Draw all weights and biases in place: "normal", from N(0, 1); "fan-in", uniform within 1/sqrt(fan-in) of 0.

    "fan-in" is PyTorch's default for linear layers. With it, the output starts at the `mean` row (D,) instead of at
    noise, so the error falls further in the same number of steps. With "normal", the variances of a variational
    bottleneck start at 1, because with such weights they would overflow.
    """
    with torch.no_grad():
        parameters = dict(model.named_parameters())
        layers = (*encoder_layers(config), *decoder_layers(config))
        for layer in layers:
            for parameter in (parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]):
                if init == "normal":
                    parameter.normal_(generator=generator)
                else:
                    bound = layer.fan_in**-0.5
                    parameter.uniform_(-bound, bound, generator=generator)
        if init == "normal" and config.bottleneck == "variational":
            for kind in ("weight", "bias"):
                parameters[f"{encoder_layers(config)[-1].name}.{kind}"][config.latent_dim :] = 0
        if init == "fan-in":
            bias = parameters[f"{layers[-1].name}.bias"]
            mean = mean.view(-1, len(bias)).mean(dim=0)  # the mean per channel, if all pixels share one bias
            bias.copy_(torch.logit(mean, eps=1 / 256) if config.output_activation == "sigmoid" else mean)
