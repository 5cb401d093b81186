"""ModelConfig to the table of layers: the one description of the network that every backend interprets."""

from dataclasses import dataclass
from itertools import pairwise

from aecli.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Layer:
    """One affine map and the activation after it. `name` is its tensors' prefix in the state dict."""

    name: str
    in_dim: int
    out_dim: int
    activation: str


def encoder_layers(config: ModelConfig) -> tuple[Layer, ...]:
    """List the layers from x (N, D) to z (N, K)."""
    widths = (config.inputs, *config.hidden_dims, config.latent_dim)
    return _half("encoder", widths, config.activation, config.latent_activation)


def decoder_layers(config: ModelConfig) -> tuple[Layer, ...]:
    """List the layers from z (N, K) to recon (N, D): the encoder's widths, mirrored."""
    widths = (config.latent_dim, *reversed(config.hidden_dims), config.inputs)
    return _half("decoder", widths, config.activation, config.output_activation)


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in the model's state dict."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in (*encoder_layers(config), *decoder_layers(config)):
        shapes[f"{layer.name}.weight"] = (layer.out_dim, layer.in_dim)
        shapes[f"{layer.name}.bias"] = (layer.out_dim,)
    return shapes


def _half(half: str, widths: tuple[int, ...], between: str, last: str) -> tuple[Layer, ...]:
    """List the layers of one half; a layer's number counts activations too, as in a torch.nn.Sequential."""
    pairs = list(pairwise(widths))
    step = 1 if between == "none" else 2
    return tuple(
        Layer(f"{half}.{i * step}", a, b, last if i == len(pairs) - 1 else between) for i, (a, b) in enumerate(pairs)
    )
