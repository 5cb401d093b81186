"""What training minimises: the error of the rebuilt rows, by one of these losses.

Shape letters as in `module.py`; B rows a batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Sums = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Loss:
    """An error of rebuilt values.

    `of` takes the rebuilt values (B, D), their targets, float32, which of them are counted (B, D) or None, and float32
    memory for a gradient or None. It returns the errors' sum, and its gradient by the rebuilt values over `scale`.
    So divided, errors are nats, but for a constant: half the squares are those of a Gaussian of unit variance.
    Where the loss is `of_logits`, it takes what is rebuilt before the sigmoid.
    """

    of: Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Sums]
    scale: float = 1.0
    of_logits: bool = False


def _squares(recon: Tensor, target: Tensor, counted: Tensor | None, out: Tensor | None) -> Sums:
    error = _error(recon, target, counted, out)
    errors = error.view(-1)
    return torch.dot(errors, errors), error


def _huber(recon: Tensor, target: Tensor, counted: Tensor | None, out: Tensor | None) -> Sums:
    """Sum half the squares of errors up to 1, and of larger ones their size less a half. Source: Huber 1964."""
    error = _error(recon, target, counted, out)
    near = error.clamp(-1, 1)
    total = torch.dot(near.view(-1), torch.sub(error, near, alpha=0.5).view(-1))
    return total, error.copy_(near)


def _cross_entropy(logits: Tensor, target: Tensor, counted: Tensor | None, out: Tensor | None) -> Sums:
    """Sum the nats of values in [0, 1] under a sigmoid's: from before it, where neither logarithm overflows."""
    logits = logits.float()
    weight = None if counted is None else counted.float()
    total = functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    error = torch.sigmoid(logits, out=out).sub_(target)
    return total, error if counted is None else error.mul_(counted)


def _error(recon: Tensor, target: Tensor, counted: Tensor | None, out: Tensor | None) -> Tensor:
    error = torch.sub(recon, target, out=out) if recon.dtype == target.dtype else recon.float().sub_(target)
    return error if counted is None else error.mul_(counted)


LOSSES: Mapping[str, Loss] = {
    "mse": Loss(_squares, scale=2.0),
    "bce": Loss(_cross_entropy, of_logits=True),
    "huber": Loss(_huber),
}
