import pytest
import torch
from torch import nn

from aecli.model.convolution import convolved, transposed, weight_gradient
from aecli.model.layers import Convolution

SIZES = [(8, 8), (9, 14), (2, 3), (33, 5)]


def images(rows, shape):
    return rows.view(len(rows), *shape).permute(0, 3, 1, 2)


def rows(images):
    return images.permute(0, 2, 3, 1).flatten(1)


def layers(size, large=3, small=5):
    """Give what goes from large images to small ones and back, in PyTorch's own modules and in ours."""
    height, width = size
    shapes = (height, width, large), (height // 2, width // 2, small)
    at = Convolution(shapes, transposed=False)
    own = nn.Conv2d(large, small, 4, 2, 1)
    back = nn.ConvTranspose2d(small, large, 4, 2, 1, output_padding=(height % 2, width % 2))
    return at, own, back


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_both_are_pytorchs_own(size):
    at, own, back = layers(size)
    x, z = torch.randn(7, size[0] * size[1] * 3), torch.randn(7, (size[0] // 2) * (size[1] // 2) * 5)
    torch.testing.assert_close(convolved(x, own.weight, own.bias, at), rows(own(images(x, at.large))))
    torch.testing.assert_close(transposed(z, back.weight, back.bias, at), rows(back(images(z, at.small))))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_each_is_the_others_gradient(size):
    at, own, back = layers(size)
    x = torch.randn(7, size[0] * size[1] * 3, requires_grad=True)
    z = torch.randn(7, (size[0] // 2) * (size[1] // 2) * 5, requires_grad=True)
    torch.sum(rows(own(images(x, at.large))) * z.detach()).backward()
    torch.testing.assert_close(transposed(z, own.weight, None, at), x.grad)
    torch.testing.assert_close(weight_gradient(z, x, own.weight, at), own.weight.grad)
    torch.sum(rows(back(images(z, at.small))) * x.detach()).backward()
    torch.testing.assert_close(convolved(x, back.weight, None, at), z.grad)
    torch.testing.assert_close(weight_gradient(z, x, back.weight, at), back.weight.grad)
