"""The forward and the backward pass of a training step, by hand.

Autograd allocates memory at every step and passes over it more often. Its step takes 1.4 times as long as the matrix
products in it, this one about 1.24 times. Shape letters as in `module.py`; B rows per batch.
Source: Rumelhart, Hinton and Williams 1986.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aecli.model.convolution import convolved, transposed, weight_gradient
from aecli.model.layers import Convolution, Layer, decoder_layers, encoder_layers
from aecli.model.module import Autoencoder
from aecli.training.group import ALONE, Group
from aecli.training.objectives import LOSSES, Bottleneck, Objective, Sums

aten = torch.ops.aten
GELU_LINEAR = 2 * math.sqrt(2 / math.pi)  # GELU's tanh form is x sigmoid(GELU_LINEAR x + GELU_CUBIC x^3)
GELU_CUBIC = GELU_LINEAR * 0.044715
BLOCK = 1 << 17  # values
LINEAR, ONE = torch.tensor(GELU_LINEAR), torch.tensor(1.0)  # as tensors, so that they are added in the same pass


@dataclass(slots=True)
class Values:
    """The values that the next layer reads, `out` (B, out), and the `gradient` (B, out) that it writes."""

    out: Tensor
    gradient: Tensor


@dataclass(slots=True)
class LayerBuffers(Values):
    """A layer's parameters, and the memory of its values and gradients for one batch, overwritten at each step.

    `pre` (B, out) is the result of the affine map, later the values that the activation keeps for its gradient. `out`
    is the activation's result; it is the same memory if its gradient needs only `out`. `gradient` (B, out) is the
    gradient of the loss by `out`, later by `pre`. A convolution allocates `pre`, and the `gradient` of the layer below.
    `weight` and `bias` are the parameters in the precision of the products.
    """

    activation: "Activation"
    parameters: tuple[Tensor, Tensor]
    weight: Tensor
    bias: Tensor
    pre: Tensor
    kind: "Kind"
    convolution: Convolution | None

    @property
    def gradients(self) -> tuple[Tensor, ...]:
        """The tensors to write the gradients of the parameters to."""
        return tuple(map(_gradient, self.parameters))


class Backprop:
    """The loss of an autoencoder's batches, and its gradients. With `bf16` the products are in bf16.

    An `objective` on the output of the encoder is minimised, too. With `pairs`, twice as many rows are encoded, and the
    first half is rebuilt. Each process of a `group` has its share of a batch of `batch_size` rows; its losses and
    gradients sum up to those of the batch over all processes.
    """

    def __init__(
        self,
        model: Autoencoder,
        batch_size: int,
        *,
        loss: str = "mse",
        bottleneck: Bottleneck | None = None,
        objective: Objective | None = None,
        pairs: bool = False,
        bf16: bool = False,
        group: Group = ALONE,
    ) -> None:
        parameters: dict[str, Tensor] = dict(model.named_parameters())
        self._group, self._shares = group, group.shares(batch_size)
        self._batch_size, batch_size = batch_size, self._shares[group.rank]
        self._encoder, self._decoder = (
            [_buffers(parameters, layer, rows, torch.bfloat16 if bf16 else torch.float32) for layer in layers]
            for layers, rows in (
                (encoder_layers(model.config), batch_size * (1 + pairs)),
                (decoder_layers(model.config), batch_size),
            )
        )
        self._layers = [*self._encoder, *self._decoder]
        self._bottleneck, self._objective = bottleneck, objective
        self._codes: Values = self._encoder[-1]
        if pairs:
            self._codes = Values(self._codes.out[:batch_size], self._codes.gradient[:batch_size])
        elif bottleneck is not None:
            codes = self._codes.out.new_empty(batch_size, model.config.latent_dim)
            self._codes = Values(codes, torch.empty_like(codes))
        self._loss, last = LOSSES[loss], self._layers[-1]
        if self._loss.of_logits:
            last.activation, last.out = ACTIVATIONS["none"], last.pre

    def begin(self, done: float) -> None:
        """Prepare for a step. `done` is the share of the steps that are done."""
        for each in (self._bottleneck, self._objective):
            if each is not None:
                each.begin(done)

    @torch.no_grad()
    def __call__(self, x: Tensor, target: Tensor, counted: Tensor | None = None) -> Tensor:
        """Return the loss of the rebuilt x (B, D) compared to the target (B, D), both float32: a mean over values.

        For pairs, x is (2 B, D). Only values that are `counted` (B, D) contribute. The gradients are written to the
        `grad` of the parameters.
        """
        last, codes, encoded = self._layers[-1], self._codes, self._encoder[-1]
        inputs = x.to(last.pre.dtype)
        h = _forward(self._encoder, inputs)
        if self._bottleneck is not None:
            codes.out = self._bottleneck.forward(h)
        h = _forward(self._decoder, codes.out)
        total, error = self._loss.of(h, target, counted, last.gradient if h.dtype == target.dtype else None)
        values = self._batch_size * error.shape[1]
        scale = self._loss.scale / values  # of the gradients; applied at the end, to save products
        loss = total.div_(values)
        if counted is not None:  # turns a mean over all values into one over the counted ones
            of_counted = values / self._group.sum_(counted.sum()).clamp_(min=1)
            loss.mul_(of_counted)
            error.mul_(of_counted)
        if error is not last.gradient:
            last.gradient.copy_(error)
        _backward(self._decoder, codes.out, codes, scale)
        if self._bottleneck is not None:
            encoded.gradient.copy_(self._bottleneck.backward(codes.gradient))
        encoded.gradient[len(target) :] = 0  # the neighbours are not rebuilt
        if self._objective is not None:
            nats, gradient = self._objected(self._objective, encoded.out, target)
            of_all = 1 if counted is None else of_counted
            loss.add_(nats * (scale * of_all))
            encoded.gradient.add_(gradient * of_all)
        _backward(self._encoder, inputs, None, scale)
        torch._foreach_mul_([layer.gradients[1] for layer in self._layers], scale)
        return loss

    def _objected(self, objective: Objective, h: Tensor, x: Tensor) -> Sums:
        """Return an objective's nats and gradient. If it compares rows, it gets the rows of all processes."""
        group, shares = self._group, self._shares
        if group.is_alone or not objective.compares:
            return objective(h, x)
        parts = torch.split(h.float(), len(x))  # for pairs, the codes of the rows and of their neighbours
        every = torch.cat([group.gathered(part, shares) for part in parts])
        nats, gradient = objective(every, group.gathered(x, shares))
        first = sum(shares[: group.rank])
        own = [part[first : first + len(x)] for part in torch.split(gradient, self._batch_size)]
        return nats / group.count, torch.cat(own)


def _forward(layers: Sequence[LayerBuffers], h: Tensor) -> Tensor:
    """Compute the values of the layers from the input, and return those of the last layer."""
    for layer in layers:
        for parameter, used in zip(layer.parameters, (layer.weight, layer.bias), strict=True):
            if used is not parameter:
                used.copy_(parameter)
        layer.kind.forward(layer, h)  # (B, in) -> (B, out)
        layer.activation.forward(layer)
        h = layer.out
    return h


def _backward(layers: Sequence[LayerBuffers], came_in: Tensor, below: Values | None, scale: float) -> None:
    """Write the gradients of the layers' parameters, and of the input if there are values `below`."""
    for i in reversed(range(len(layers))):
        layer = layers[i]
        layer.activation.backward(layer)
        layer.kind.backward(layer, layers[i - 1].out if i else came_in, layers[i - 1] if i else below, scale)


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
    """Return the gradient of a parameter to write to: the one that the optimizer created, else a new one."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of layer: `forward` fills a layer's `pre` from its input (B, in).

    `backward` writes the gradients of its parameters, the weight's times a scale, and the `gradient` of the layer
    below, if there is one.
    """

    forward: Callable[[LayerBuffers, Tensor], object]
    backward: Callable[[LayerBuffers, Tensor, Values | None, float], object]


def _dense(layer: LayerBuffers, h: Tensor) -> None:
    torch.addmm(layer.bias, h, layer.weight.T, out=layer.pre)


def _dense_backward(layer: LayerBuffers, h: Tensor, below: Values | None, scale: float) -> None:
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


def _convolution_backward(layer: LayerBuffers, h: Tensor, below: Values | None, scale: float) -> None:
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
    """An activation. `forward` fills a layer's `out` from its `pre`; `backward` makes its `gradient` that by `pre`."""

    forward: Callable[[LayerBuffers], object]
    backward: Callable[[LayerBuffers], object]
    needs_pre: bool = False


def _gelu(layer: LayerBuffers) -> None:
    """Write y = x s to `out`, where s is the sigmoid of u, and the slope to `pre`.

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
