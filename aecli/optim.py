"""The optimizer and the learning rate's schedule."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from aecli.config import TrainConfig

# The first four quintics a X + b X^3 + c X^5 of Polar Express, for singular values from 0.001 to 1: see orthogonalise.
# Contracted as its authors advise, so that rounding cannot push a value past the range of the next quintic.
CONTRACTION = 1.01
QUINTICS = tuple(
    (a / CONTRACTION, b / CONTRACTION**3, c / CONTRACTION**5)
    for a, b, c in (
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    )
)


def build(parameters: Iterable[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    """Make the optimizer that a config names."""
    if config.optimizer == "muon":
        return Muon(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.Adam(parameters, lr=config.lr, fused=True)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Give the rate of step 0 <= `step` < `steps`: constant, or risen over the first tenth, then falling to near 0."""
    if config.schedule == "constant":
        return config.lr
    warmup = max(1, steps // 10)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * (steps - step) / (steps - warmup + 1)


class Muon(torch.optim.Optimizer):
    """Muon on matrices, AdamW on everything else, at one learning rate.

    A matrix's momentum M is replaced by nearly its polar factor, see `orthogonalise`; the update's scale is AdamW's.
    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982, for the scale.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        *,
        momentum: float = 0.95,
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
        stack = orthogonalise(torch.stack(updates))  # (B, m, n)
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


def orthogonalise(x: Tensor) -> Tensor:
    """Give matrices with the singular vectors of x (B, m, n), m <= n, and singular values of about 1.

    The iteration runs on the Gram matrices (B, m, m), in float32, and x is multiplied once, at the end: the same
    polynomial as on x itself, for less work. Singular values above 0.001 of the Frobenius norm end between 0.4 and
    1.6; smaller ones stay small, so that noise is not blown up.
    Source: Polar Express, Amsel et al. 2025, arXiv:2505.16932.
    """
    gram = torch.bmm(x, x.mT)  # (B, m, m)
    bound = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp_min(1e-30)  # no eigenvalue is larger
    gram = gram / bound
    root: Tensor | None = None
    for a, b, c in QUINTICS:
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b G + c G G
        step.diagonal(dim1=1, dim2=2).add_(a)
        root = step if root is None else torch.bmm(root, step)
        gram = torch.bmm(step, torch.bmm(gram, step))
    assert root is not None  # noqa: S101
    return torch.bmm(root * bound.rsqrt(), x)


def _wide(matrix: Tensor) -> Tensor:
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
