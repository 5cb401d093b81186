"""Convolutions and transposed convolutions of rows that are images, in torch.

Both are the same linear map between a small image and a large one, or its transpose, with one weight (C of the small
image, C of the large image, kernel, kernel). The gradient by the input of one is the other, applied to the gradient by
its output.

Shape letters: B rows, h w the small image's height and width, H W the large one's, C channels, k kernel, s stride.
"""

import torch
from torch import Tensor

from aecli.model.layers import Convolution, Image

convolution, convolution_backward = torch.ops.aten.convolution, torch.ops.aten.convolution_backward
DILATION, GROUPS = [1, 1], 1


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, at: Convolution) -> Tensor:
    """Return the convolution of large images, (B, H W C) -> (B, h w C)."""
    return _rows(_convolve(_images(x, at.large), weight, bias, at.stride, at.padding))


def transposed(x: Tensor, weight: Tensor, bias: Tensor | None, at: Convolution) -> Tensor:
    """Return the transposed convolution of small images, (B, h w C) -> (B, H W C).

    One convolution with stride 1 computes all s x s pixels of a block at once; then the pixels are put side by side. On
    a CPU this is several times faster than PyTorch's own transposed convolution.
    Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?".
    """
    height, width, channels = at.large
    s, p, taps = at.stride, at.padding, at.kernel // at.stride
    split = weight.view(len(weight), channels, taps, s, taps, s).flip(2, 4)
    kernels = split.permute(3, 5, 1, 0, 2, 4).reshape(s * s * channels, len(weight), taps, taps)
    biases = None if bias is None else bias.repeat(s * s)
    blocks = _convolve(_images(x, at.small), kernels, biases, 1, taps - 1).permute(0, 2, 3, 1)  # (B, h+, w+, s s C)
    _, down, across, _ = blocks.shape
    pixels = (
        blocks.reshape(-1, down, across, s, s, channels).transpose(2, 3).reshape(-1, down * s, across * s, channels)
    )
    return pixels[:, p : p + height, p : p + width].flatten(1)


def weight_gradient(small: Tensor, large: Tensor, weight: Tensor, at: Convolution) -> Tensor:
    """Return the gradient by the weight of either map, from values on one side and gradients on the other.

    small (B, h w C), large (B, H W C).
    """
    images = _images(small, at.small), _images(large, at.large)
    stride, padding = [at.stride] * 2, [at.padding] * 2
    wanted = [False, True, False]
    found: tuple[Tensor, Tensor, Tensor] = convolution_backward(
        *images, weight, None, stride, padding, DILATION, False, [0, 0], GROUPS, wanted
    )
    return found[1]


def _convolve(images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    made: Tensor = convolution(images, weight, bias, [stride] * 2, [padding] * 2, DILATION, False, [0, 0], GROUPS)
    return made


def _images(rows: Tensor, shape: Image) -> Tensor:
    return rows.view(-1, *shape).permute(0, 3, 1, 2)  # (B, H W C) -> (B, C, H, W), channels last in memory


def _rows(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).flatten(1)  # (B, C, H, W) -> (B, H W C)
