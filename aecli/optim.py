"""The optimizers and the learning rate's schedule.

They are no `torch.optim.Optimizer`: building one imports PyTorch's compiler, which takes two seconds and 160 MB.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

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


def build(parameters: Iterable[Tensor], config: TrainConfig) -> "Adam | Muon":
    """Make the optimizer that a config names."""
    if config.optimizer == "muon":
        return Muon(parameters, weight_decay=config.weight_decay, bf16=config.precision == "bf16")
    return Adam(parameters)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Give the rate of step 0 <= `step` < `steps`: constant, or risen over the first tenth, then falling to near 0."""
    if config.schedule == "constant":
        return config.lr
    warmup = max(1, steps // 10)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * (steps - step) / (steps - warmup + 1)


class Adam:
    """Adam, fused. Source: Kingma and Ba 2015, arXiv:1412.6980."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    def state(self) -> list[Tensor]:
        """Give the tensors that the next step depends on, besides the parameters: to be read, or copied into."""
        return [*self.means, *self.squares, *self.steps]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take one step from the gradients, and clear them."""
        gradients = [_gradient(parameter) for parameter in self.parameters]
        adam(
            self.parameters,
            gradients,
            self.means,
            self.squares,
            [],
            self.steps,
            lr=lr,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
            fused=True,
        )


class Muon:
    """Muon on matrices, Adam on everything else, at one learning rate.

    A matrix's momentum M is replaced by nearly its polar factor, see `orthogonalise`; the update's scale is AdamW's.
    With `bf16` the polar factor is computed in that precision.
    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982, for the scale.
    """

    momentum = 0.95

    def __init__(self, parameters: Iterable[Tensor], *, weight_decay: float = 0.0, bf16: bool = False) -> None:
        self.weight_decay = weight_decay
        self.bf16 = bf16
        vectors, alike = [], dict[tuple[int, ...], list[Tensor]]()
        for parameter in parameters:
            if parameter.ndim == 2:
                alike.setdefault(tuple(sorted(parameter.shape)), []).append(parameter)
            else:
                vectors.append(parameter)
        self.adam = Adam(vectors)
        self.stacks = list(alike.values())  # an encoder's matrix and its mirror image, (m, n) and (n, m), m <= n
        self.momenta = [torch.stack([_wide(torch.zeros_like(m)) for m in matrices]) for matrices in self.stacks]

    def state(self) -> list[Tensor]:
        """Give the tensors that the next step depends on, besides the parameters: to be read, or copied into."""
        return [*self.momenta, *self.adam.state()]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take one step from the gradients, and clear them."""
        for matrices, momentum in zip(self.stacks, self.momenta, strict=True):
            gradients = torch.stack([_wide(_gradient(matrix)) for matrix in matrices])  # (B, m, n)
            momentum.lerp_(gradients, 1 - self.momentum)
            ahead = gradients.lerp_(momentum, self.momentum)  # Nesterov's
            updates = orthogonalise(ahead, bf16=self.bf16)
            rate = lr * 0.2 * momentum.shape[2] ** 0.5
            for matrix, update in zip(matrices, updates, strict=True):
                matrix.mul_(1 - lr * self.weight_decay)
                matrix.sub_(update if matrix.shape == update.shape else update.T, alpha=rate)
        self.adam.step(lr)


def orthogonalise(x: Tensor, *, bf16: bool = False) -> Tensor:
    """Give matrices with the singular vectors of x (B, m, n), m <= n, and singular values of about 1.

    The iteration runs on the Gram matrices (B, m, m), and multiplies x by what they have come to at the end: the same
    polynomial as on x itself, for less work. In bf16 it does so twice, because a Gram matrix loses the small singular
    values to rounding. Singular values above 0.001 of the Frobenius norm end between 0.4 and 1.6; smaller ones stay
    small, so that noise is not blown up.
    Source: Polar Express, Amsel et al. 2025, arXiv:2505.16932.
    """
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp_min(1e-30)
    for quintics in (QUINTICS[:2], QUINTICS[2:]) if bf16 else (QUINTICS,):
        x = x.bfloat16() if bf16 else x
        gram = torch.bmm(x, x.mT)  # (B, m, m)
        product = factor = _factor(gram, quintics[0])
        for quintic in quintics[1:]:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
            factor = _factor(gram, quintic)
            product = torch.bmm(factor, product)
        x = torch.bmm(product, x)
    return x.float()


def _factor(gram: Tensor, quintic: tuple[float, float, float]) -> Tensor:
    """Give a I + b G + c G G: what X is multiplied by in a X + b G X + c G G X."""
    a, b, c = quintic
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


def _gradient(parameter: Tensor) -> Tensor:
    gradient, parameter.grad = parameter.grad, None
    assert gradient is not None  # noqa: S101
    return gradient


def _wide(matrix: Tensor) -> Tensor:
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
