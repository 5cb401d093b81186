"""The optimizer and the learning rate's schedule."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from aecli.config import TrainConfig

# Zolotarev's type (7, 6) rational function on [0.001, 1]: a constant, then (weight, shift) of each pole.
ROOT_CONSTANT = 0.7535808261
ROOT_POLES = (
    (0.002694832377, 2.197001851e-06),
    (0.026382998130, 3.053345894e-04),
    (0.289361810366, 3.559275060e-02),
)


def build(parameters: Iterable[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    """Make the optimizer that a config names."""
    if config.optimizer == "muon":
        return Muon(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.Adam(parameters, lr=config.lr, fused=True)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Give the rate of step 0 <= `step` < `steps`: constant, or risen over the first tenth, then a cosine to near 0."""
    if config.schedule == "constant":
        return config.lr
    warmup = max(1, steps // 10)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2)


class Muon(torch.optim.Optimizer):
    """Muon on matrices, AdamW on everything else, at one learning rate.

    A matrix's momentum M is replaced by its polar factor (M M^T)^(-1/2) M. In place of Newton-Schulz steps on M the
    inverse root is a rational function of the Gram matrix, see `inverse_root`: closer to the polar factor, and cheaper
    where a batch is a few hundred rows. The update's scale matches AdamW's.
    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982, for the scale.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        *,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step from the gradients."""
        assert closure is None  # noqa: S101
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.ndim == 2:
                    alike.setdefault(tuple(sorted(parameter.shape)), []).append(parameter)
            for matrices in alike.values():
                self._muon(matrices, group)
            self._adamw([parameter for parameter in group["params"] if parameter.ndim != 2], group)

    def _muon(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """Step matrices (m, n) and (n, m) as one stack (B, m, n), m <= n."""
        updates = []
        for matrix in matrices:
            state, gradient = self.state[matrix], matrix.grad
            assert gradient is not None  # noqa: S101
            if not state:
                state["momentum"] = torch.zeros_like(matrix)
            momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
            updates.append(_wide(gradient.lerp(momentum, group["momentum"])))  # Nesterov's look ahead
        stack = torch.stack(updates)  # (B, m, n)
        stack = inverse_root(stack @ stack.mT) @ stack
        rate = group["lr"] * 0.2 * max(matrices[0].shape) ** 0.5
        for matrix, update in zip(matrices, stack, strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.sub_(update if matrix.shape == update.shape else update.T, alpha=rate)

    def _adamw(self, vectors: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        for vector in vectors:
            state, gradient = self.state[vector], vector.grad
            assert gradient is not None  # noqa: S101
            if not state:
                state.update(step=0, mean=torch.zeros_like(vector), square=torch.zeros_like(vector))
            state["step"] += 1
            state["mean"].lerp_(gradient, 1 - beta1)
            state["square"].lerp_(gradient.square(), 1 - beta2)
            size = (state["square"] / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
            vector.addcdiv_(state["mean"], size, value=-group["lr"] / (1 - beta1 ** state["step"]))


def inverse_root(gram: Tensor) -> Tensor:
    """Give nearly the inverse square roots of positive semidefinite matrices (B, m, m).

    Zolotarev's best rational function of its type, as a constant and three shifted inverses: the result is within 7% of
    the root for eigenvalues from 1e-6 to 1 times the trace, and bounded below, so that noise is not blown up.
    Source: Zolotarev 1877; Nakatsukasa and Freund 2016, doi:10.1137/140990334.
    """
    trace = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp_min(1e-30)
    gram = gram / trace
    root = torch.zeros_like(gram)
    root.diagonal(dim1=1, dim2=2).fill_(ROOT_CONSTANT)
    for weight, shift in ROOT_POLES:
        shifted = gram.clone()
        shifted.diagonal(dim1=1, dim2=2).add_(shift)
        factor, _ = torch.linalg.cholesky_ex(shifted)
        root.add_(torch.cholesky_inverse(factor), alpha=weight)
    return root * trace.rsqrt()


def _wide(matrix: Tensor) -> Tensor:
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
