"""From ModelConfig to the table of layers, the one description of the network that every backend interprets."""

import math
from dataclasses import dataclass
from itertools import pairwise

from aecli.config import KERNEL, PADDING, STRIDE, ModelConfig

Image = tuple[int, int, int]  # (H, W, C)


@dataclass(frozen=True, slots=True)
class Convolution:
    """The geometry of a convolution, from images of one shape to images of another. A row is such an image, flattened.

    If `transposed`, it is PyTorch's ConvTranspose2d, otherwise its Conv2d. The weight of both is (C of the small image,
    C of the large image, kernel, kernel).
    """

    images: tuple[Image, Image]
    transposed: bool
    kernel: int = KERNEL
    stride: int = STRIDE
    padding: int = PADDING

    @property
    def small(self) -> Image:
        """The image that is `stride` times smaller."""
        return self.images[0 if self.transposed else 1]

    @property
    def large(self) -> Image:
        """The image that is `stride` times larger."""
        return self.images[1 if self.transposed else 0]


@dataclass(frozen=True, slots=True)
class Layer:
    """One affine map and the activation after it. `name` is its tensors' prefix in the state dict.

    Rows of `in_dim` values become rows of `out_dim`; with a `convolution` they are images, flattened.
    """

    name: str
    in_dim: int
    out_dim: int
    activation: str
    convolution: Convolution | None = None

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of weight and bias."""
        if self.convolution is None:
            return (self.out_dim, self.in_dim), (self.out_dim,)
        at = self.convolution
        return (at.small[2], at.large[2], at.kernel, at.kernel), (at.images[1][2],)

    @property
    def fan_in(self) -> int:
        """The number of values that each output sums, averaged over a transposed convolution's outputs."""
        at = self.convolution
        if at is None:
            return self.in_dim
        return at.images[0][2] * at.kernel**2 // (at.stride**2 if at.transposed else 1)


def encoder_layers(config: ModelConfig) -> tuple[Layer, ...]:
    """Return the layers from x (N, D) to the bottleneck's input: (N, K), or (N, 2 K) if it is variational."""
    widths = (math.prod(config.images[-1]), *config.hidden_dims, config.encoded_dim)
    convolutions = [Convolution(pair, transposed=False) for pair in pairwise(config.images)]
    return _half("encoder", [*convolutions, *pairwise(widths)], config.activation, config.latent_activation)


def decoder_layers(config: ModelConfig) -> tuple[Layer, ...]:
    """Return the layers from z (N, K) to recon (N, D): the encoder's, mirrored."""
    widths = (config.latent_dim, *reversed(config.hidden_dims), math.prod(config.images[-1]))
    convolutions = [Convolution(pair, transposed=True) for pair in pairwise(reversed(config.images))]
    return _half("decoder", [*pairwise(widths), *convolutions], config.activation, config.output_activation)


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in the model's state dict."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in (*encoder_layers(config), *decoder_layers(config)):
        shapes[f"{layer.name}.weight"], shapes[f"{layer.name}.bias"] = layer.shapes
    return shapes


def _half(half: str, maps: list[Convolution | tuple[int, int]], between: str, last: str) -> tuple[Layer, ...]:
    """Return the layers of one half; a layer's number counts activations too, as in a torch.nn.Sequential."""
    step = 1 if between == "none" else 2
    layers = []
    for i, each in enumerate(maps):
        name, activation = f"{half}.{i * step}", last if i == len(maps) - 1 else between
        if isinstance(each, Convolution):
            dims = tuple(map(math.prod, each.images))
            layers.append(Layer(name, dims[0], dims[1], activation, each))
        else:
            layers.append(Layer(name, *each, activation))
    return tuple(layers)
