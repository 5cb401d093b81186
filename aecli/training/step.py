"""The forward and the backward pass of a training step, by hand.

Autograd takes memory anew at every step and runs over it more often: its step takes 1.4 times as long as the matrix
products in it, this one about 1.24 times. Shape letters as in `module.py`; B rows a batch.
Source: Rumelhart, Hinton and Williams 1986.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aecli.model.convolution import convolved, transposed, weight_gradient
from aecli.model.layers import Convolution, Layer, decoder_layers, encoder_layers
from aecli.model.module import Autoencoder

aten = torch.ops.aten
GELU_LINEAR = 2 * math.sqrt(2 / math.pi)  # GELU's tanh form is x sigmoid(GELU_LINEAR x + GELU_CUBIC x^3)
GELU_CUBIC = GELU_LINEAR * 0.044715
BLOCK = 1 << 17  # values
LINEAR, ONE = torch.tensor(GELU_LINEAR), torch.tensor(1.0)  # as tensors they are added in the same pass


@dataclass(slots=True)
class LayerBuffers:
    """A layer's parameters, and where its values and gradients for one batch lie. All are overwritten at each step.

    `pre` (B, out) is the affine map's result, or what the activation keeps there for its gradient; `out` what it makes
    of it: the same memory where its gradient takes `out` alone. `gradient` (B, out) is that of the loss by
    either of them. A convolution takes new memory for `pre`, and gives a new `gradient` to the layer below.
    `weight` and `bias` are the parameters in the precision that is multiplied in.
    """

    activation: "Activation"
    parameters: tuple[Tensor, Tensor]
    weight: Tensor
    bias: Tensor
    pre: Tensor
    out: Tensor
    gradient: Tensor
    kind: "Kind"
    convolution: Convolution | None

    @property
    def gradients(self) -> tuple[Tensor, ...]:
        """Where the parameters' gradients are to be written."""
        return tuple(map(_gradient, self.parameters))


class Backprop:
    """The mean squared error of an autoencoder's batches, and its gradients. With `bf16` it multiplies in that."""

    def __init__(self, model: Autoencoder, batch_size: int, *, bf16: bool = False) -> None:
        parameters: dict[str, Tensor] = dict(model.named_parameters())
        self._layers = [
            _buffers(parameters, layer, batch_size, torch.bfloat16 if bf16 else torch.float32)
            for layer in (*encoder_layers(model.config), *decoder_layers(model.config))
        ]

    @torch.no_grad()
    def __call__(self, x: Tensor, target: Tensor, counted: Tensor | None = None) -> Tensor:
        """Return the mean squared error of what the model makes of x (B, D) to the target (B, D), both float32.

        Only values that are `counted` (B, D) are in it. It writes the gradients into the parameters' `grad`.
        """
        layers, last = self._layers, self._layers[-1]
        h = inputs = x.to(last.pre.dtype)
        for layer in layers:
            for parameter, used in zip(layer.parameters, (layer.weight, layer.bias), strict=True):
                if used is not parameter:
                    used.copy_(parameter)
            layer.kind.forward(layer, h)  # (B, in) -> (B, out)
            layer.activation.forward(layer)
            h = layer.out
        error = torch.sub(h, target, out=last.gradient) if h.dtype == target.dtype else h.float().sub_(target)
        errors = error.view(-1)
        if counted is not None:
            error.mul_(counted)
        loss: Tensor = torch.dot(errors, errors).div_(len(errors))
        if counted is not None:  # a mean over all values becomes one over those counted
            of_counted = counted.numel() / counted.sum().clamp_(min=1)
            loss.mul_(of_counted)
            error.mul_(of_counted)
        scale = 2 / error.numel()  # of the gradients: left out on the way, so that nothing is multiplied by it in vain
        if error is not last.gradient:
            last.gradient.copy_(error)
        for i in reversed(range(len(layers))):
            layer, below = layers[i], layers[i - 1]
            layer.activation.backward(layer)
            layer.kind.backward(layer, below.out if i else inputs, below if i else None, scale)
        torch._foreach_mul_([layer.gradients[1] for layer in layers], scale)
        return loss


def _buffers(parameters: dict[str, Tensor], layer: Layer, batch_size: int, dtype: torch.dtype) -> LayerBuffers:
    weight, bias = parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]

    def buffer() -> Tensor:
        return torch.empty(batch_size, layer.out_dim, dtype=dtype, device=weight.device)

    fused = weight.device.type != "cpu"
    activation = ACTIVATIONS["fused gelu" if layer.activation == "gelu" and fused else layer.activation]
    pre = buffer()
    kind = DENSE if layer.convolution is None else CONVOLUTION
    return LayerBuffers(
        activation=activation,
        parameters=(weight, bias),
        weight=weight if weight.dtype == dtype else weight.to(dtype),
        bias=bias if bias.dtype == dtype else bias.to(dtype),
        pre=pre,
        out=buffer() if activation.needs_pre else pre,
        gradient=buffer(),
        kind=kind,
        convolution=layer.convolution,
    )


def _gradient(parameter: Tensor) -> Tensor:
    """Return a parameter's gradient to write into: where an optimizer has put it, else a new one."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of layer: `forward` fills a layer's `pre` from what comes in (B, in).

    `backward` writes the gradients of its parameters, that of the weight times a scale, and the `gradient` of the layer
    below, if there is one.
    """

    forward: Callable[[LayerBuffers, Tensor], object]
    backward: Callable[[LayerBuffers, Tensor, LayerBuffers | None, float], object]


def _dense(layer: LayerBuffers, h: Tensor) -> None:
    torch.addmm(layer.bias, h, layer.weight.T, out=layer.pre)


def _dense_backward(layer: LayerBuffers, h: Tensor, below: LayerBuffers | None, scale: float) -> None:
    g, (weight_gradient, bias_gradient) = layer.gradient, layer.gradients
    if g.dtype == weight_gradient.dtype:
        torch.addmm(weight_gradient, g.T, h, beta=0, alpha=scale, out=weight_gradient)  # (out, B) x (B, in)
    else:
        torch.mul(g.T @ h, scale, out=weight_gradient)
    torch.sum(g, 0, dtype=torch.float32, out=bias_gradient)
    if below is not None:
        torch.mm(g, layer.weight, out=below.gradient)  # (B, out) -> (B, in)


def _convolution(layer: LayerBuffers, h: Tensor) -> None:
    at = layer.convolution
    assert at is not None  # noqa: S101, for the type checker
    made = (transposed if at.transposed else convolved)(h, layer.weight, layer.bias, at)
    layer.out = made if layer.out is layer.pre else layer.out
    layer.pre = made


def _convolution_backward(layer: LayerBuffers, h: Tensor, below: LayerBuffers | None, scale: float) -> None:
    at, g, (for_weight, for_bias) = layer.convolution, layer.gradient, layer.gradients
    assert at is not None  # noqa: S101, for the type checker
    small, large = (h, g) if at.transposed else (g, h)
    torch.mul(weight_gradient(small, large, layer.weight, at), scale, out=for_weight)
    torch.sum(g.view(-1, len(for_bias)), 0, dtype=torch.float32, out=for_bias)
    if below is not None:
        below.gradient = (convolved if at.transposed else transposed)(g, layer.weight, None, at)


DENSE, CONVOLUTION = Kind(_dense, _dense_backward), Kind(_convolution, _convolution_backward)


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation: `forward` fills a layer's `out` from its `pre`, `backward` makes its `gradient` that by `pre`."""

    forward: Callable[[LayerBuffers], object]
    backward: Callable[[LayerBuffers], object]
    needs_pre: bool = False


def _gelu(layer: LayerBuffers) -> None:
    """Fill `out` with y = x s, s being the sigmoid of u, and `pre` with the slope.

    That is s + x s (1 - s) u' = s (1 + (x - y) u'). In fp32, in blocks that stay in the cache: on a CPU PyTorch's own
    kernels take nearly twice as long in bf16.
    """
    for pre, out in zip(*(torch.split(each.view(-1), BLOCK) for each in (layer.pre, layer.out)), strict=True):
        x = pre.float()
        square = x * x
        s = torch.add(LINEAR, square, alpha=GELU_CUBIC).mul_(x).sigmoid_()
        y = x * s
        out.copy_(y)
        slope = torch.add(LINEAR, square, alpha=3 * GELU_CUBIC, out=square)
        pre.copy_(torch.addcmul(ONE, x.sub_(y), slope, out=slope).mul_(s))


ACTIVATIONS = {
    "none": Activation(lambda _: None, lambda _: None),
    "gelu": Activation(_gelu, lambda at: at.gradient.mul_(at.pre), needs_pre=True),
    "fused gelu": Activation(
        lambda at: aten.gelu.out(at.pre, approximate="tanh", out=at.out),
        lambda at: aten.gelu_backward.grad_input(at.gradient, at.pre, approximate="tanh", grad_input=at.gradient),
        needs_pre=True,
    ),
    "silu": Activation(
        lambda at: aten.silu.out(at.pre, out=at.out),
        lambda at: aten.silu_backward.grad_input(at.gradient, at.pre, grad_input=at.gradient),
        needs_pre=True,
    ),
    "relu": Activation(
        lambda at: at.out.relu_(),
        lambda at: aten.threshold_backward.grad_input(at.gradient, at.out, 0, grad_input=at.gradient),
    ),
    "elu": Activation(
        lambda at: aten.elu_(at.out),
        lambda at: aten.elu_backward.grad_input(at.gradient, 1, 1, 1, True, at.out, grad_input=at.gradient),
    ),
    "tanh": Activation(
        lambda at: at.out.tanh_(),
        lambda at: aten.tanh_backward.grad_input(at.gradient, at.out, grad_input=at.gradient),
    ),
    "sigmoid": Activation(
        lambda at: at.out.sigmoid_(),
        lambda at: aten.sigmoid_backward.grad_input(at.gradient, at.out, grad_input=at.gradient),
    ),
}
