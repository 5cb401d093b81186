"""The optimizers and the schedule of the learning rate.

They are not of class `torch.optim.Optimizer`, because that imports PyTorch's compiler, which takes 2 s and 160 MB.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

from aecli.config import TrainConfig
from aecli.training.group import ALONE, Group

Polynomial = tuple[float, ...]  # a, b, c, ... of a X + b X^3 + c X^5 + ...
CONTRACTION = 1.01
DEALT = 512  # rows of matrices that processes deal out: two cores take 0.6 times as long for 1024, and longer for 256


def _contracted(*polynomials: Polynomial) -> tuple[Polynomial, ...]:
    """Return stretched polynomials in X, as in Polar Express, so that rounding keeps values in the next one's range."""
    return tuple(tuple(c / CONTRACTION ** (2 * i + 1) for i, c in enumerate(p)) for p in polynomials)


# Polynomials that together bring singular values between 0.001 and 1 closest to 1; each takes the range that the one
# before leaves. For fp32: two of degree 9 and one of 5, found by linear programming (11 m x m products; four quintics
# take 13, and train no better). For bf16, whose rounding is too coarse for these: the first four of Polar Express.
POLYNOMIALS = _contracted(
    (15.076015963924833, -148.0718093329201, 493.17833951938906, -634.1871880301942, 275.98956586383645),
    (7.155999921657694, -17.47096755872871, 14.67876169899307, -4.776704654480093, 0.5266926228162241),
    (3.4684157811345346, -2.5994266938899266, 0.5226282366884928),
)
QUINTICS = _contracted(
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
)


def build(parameters: Iterable[Tensor], config: TrainConfig, group: Group = ALONE) -> "Adam | Muon":
    """Return the optimizer that a config names."""
    if config.optimizer == "muon":
        return Muon(parameters, weight_decay=config.weight_decay, bf16=config.precision == "bf16", group=group)
    return Adam(parameters)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Return the learning rate of step 0 <= `step` < `steps`: constant, or rising for a tenth, then falling to 0."""
    if config.schedule == "constant":
        return config.lr
    warmup = max(1, steps // 10)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * (steps - step) / (steps - warmup + 1)


class Adam:
    """Adam, fused. It creates the `grad` of the parameters; gradients must be written into these tensors.

    Source: Kingma and Ba 2015, arXiv:1412.6980.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    @property
    def all_gradients(self) -> list[Tensor]:
        """The tensors in which all gradients lie."""
        return self.gradients

    def state(self) -> list[Tensor]:
        """Return the tensors that the next step depends on, besides the parameters: to be read, or copied into."""
        return [*self.means, *self.squares, *self.steps]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take one step from the gradients."""
        adam(
            self.parameters,
            self.gradients,
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
    """Muon on matrices and kernels, Adam on everything else, at one learning rate. A kernel is a matrix (a, b k k).

    The momentum M of a matrix is replaced by approximately its polar factor, see `orthogonalise`; the scale of the
    update is AdamW's. With `bf16` all but the last product of the polar factor is computed in bf16. The `grad` of a
    matrix becomes part of a stack of matrices; gradients must be written into it.
    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982, for the scale.
    """

    momentum = 0.95

    def __init__(
        self, parameters: Iterable[Tensor], *, weight_decay: float = 0.0, bf16: bool = False, group: Group = ALONE
    ) -> None:
        self.weight_decay = weight_decay
        self.bf16 = bf16
        self._group = group
        vectors, alike = [], dict[tuple[int, ...], list[Tensor]]()
        for parameter in parameters:
            if parameter.ndim > 1:
                alike.setdefault(tuple(sorted(_matrix(parameter).shape)), []).append(parameter)
            else:
                vectors.append(parameter)
        self.adam = Adam(vectors)
        stacks = list(alike.values())  # an encoder's matrix and its mirror image, (m, n) and (n, m), m <= n
        self.stacks = [[_matrix(parameter) for parameter in stack] for stack in stacks]
        self.gradients, self.momenta = (
            [torch.stack([torch.zeros_like(_wide(m)) for m in matrices]) for matrices in self.stacks] for _ in range(2)
        )
        for stack, gradients in zip(stacks, self.gradients, strict=True):
            for parameter, gradient in zip(stack, gradients, strict=True):
                matrix = gradient if _matrix(parameter).shape == gradient.shape else gradient.T
                parameter.grad = matrix.view(parameter.shape)

        self._own = self._shared_out()
        counts = [gradients.numel() if self._is_dealt(gradients) else 0 for gradients in self.gradients]
        self._flat = self.gradients[0].new_empty(sum(counts)) if self.gradients else torch.empty(0)
        self._updates = torch.split(self._flat, counts)

    def _shared_out(self) -> list[list[int]]:
        """Return which matrices of each stack are this process's: the largest first, each to the least busy process."""
        costs = [
            (min(stack[0].shape) * stack[0].numel(), i, j)
            for i, stack in enumerate(self.stacks)
            for j in range(len(stack) if self._is_dealt(self.gradients[i]) else 0)
        ]
        busy, own = [0] * self._group.count, list[list[int]]([] for _ in self.stacks)
        for cost, i, j in sorted(costs, reverse=True):
            rank = busy.index(min(busy))
            busy[rank] += cost
            if rank == self._group.rank:
                own[i].append(j)
        return own

    @property
    def all_gradients(self) -> list[Tensor]:
        """The tensors in which all gradients lie."""
        return [*self.gradients, *self.adam.gradients]

    def state(self) -> list[Tensor]:
        """Return the tensors that the next step depends on, besides the parameters: to be read, or copied into."""
        return [*self.momenta, *self.adam.state()]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take one step from the gradients, which it overwrites."""
        for matrices, gradients, momenta in zip(self.stacks, self.gradients, self.momenta, strict=True):  # (B, m, n)
            momenta.lerp_(gradients, 1 - self.momentum)
            ahead = gradients.lerp_(momenta, self.momentum)  # Nesterov's
            if not self._is_dealt(gradients):
                rate = self._rate(lr, momenta)
                for matrix, left, right in zip(matrices, *orthogonalise(ahead, bf16=self.bf16), strict=True):
                    _wide(matrix).addmm_(left, right, beta=1 - lr * self.weight_decay, alpha=-rate)
        if len(self._flat):
            self._step_together(lr)
        self.adam.step(lr)

    def _is_dealt(self, stack: Tensor) -> bool:
        """Return whether a stack (B, m, n) is dealt out: for small matrices, sending the updates takes longer."""
        return not self._group.is_alone and stack.shape[1] >= DEALT

    def _step_together(self, lr: float) -> None:
        """Orthogonalise this process's matrices of the stacks that are dealt out, and update all of them."""
        self._flat.zero_()
        for flat, ahead, own in zip(self._updates, self.gradients, self._own, strict=True):
            if own and len(flat):
                flat.view(ahead.shape)[own] = torch.bmm(*orthogonalise(ahead[own], bf16=self.bf16))
        self._group.sum_(self._flat)
        for matrices, momenta, flat in zip(self.stacks, self.momenta, self._updates, strict=True):
            for matrix, update in zip(matrices, flat.view(momenta.shape) if len(flat) else (), strict=False):
                _wide(matrix).mul_(1 - lr * self.weight_decay).add_(update, alpha=-self._rate(lr, momenta))

    @staticmethod
    def _rate(lr: float, momenta: Tensor) -> float:
        """Return the rate for a stack (B, m, n)."""
        return float(lr * 0.2 * momenta.shape[2] ** 0.5)


def orthogonalise(x: Tensor, *, bf16: bool = False) -> tuple[Tensor, Tensor]:
    """Return matrices with the singular vectors of x (B, m, n), m <= n, and singular values of about 1.

    They are returned as two factors, (B, m, m) and (B, m, n), so that the caller can multiply and add in one pass.
    The iteration runs on the Gram matrices (B, m, m), and multiplies x by their result at the end: the same polynomial
    as on x itself, with less work. In bf16 this is done twice, because a Gram matrix loses small singular values to
    rounding. Singular values above 0.001 of the Frobenius norm end between 0.35 and 1.65; smaller ones stay small, so
    that noise is not amplified.
    Source: Polar Express, Amsel et al. 2025, arXiv:2505.16932.
    """
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp_min(1e-20)  # squares below vanish
    x = x.bfloat16() if bf16 else x
    gram = torch.bmm(x, x.mT)
    # Over millions of values rounding makes the norm too small, and singular values above 1 would diverge.
    excess = gram.diagonal(dim1=1, dim2=2).float().sum(1).clamp_min(1)[:, None, None].sqrt()
    gram = (gram / excess**2).to(x.dtype)
    if not bf16:
        return _iterated(gram, POLYNOMIALS).div_(excess), x
    x = torch.bmm((_iterated(gram, QUINTICS[:2]) / excess).to(x.dtype), x)
    return _iterated(torch.bmm(x, x.mT), QUINTICS[2:]).float(), x.float()


def _iterated(gram: Tensor, polynomials: Sequence[Polynomial]) -> Tensor:
    """Return the product of the factors by which the polynomials multiply x, from x's Gram matrix."""
    product = factor = _factor(gram, polynomials[0])
    for polynomial in polynomials[1:]:
        gram = torch.bmm(torch.bmm(factor, gram), factor)
        factor = _factor(gram, polynomial)
        product = torch.bmm(factor, product)
    return product


def _factor(gram: Tensor, polynomial: Polynomial) -> Tensor:
    """Return a I + b G + c G^2 (+ d G^3 + e G^4), with one product, or two: Y times Y for Y = G^2 + (d / 2e) G."""
    a, b, c, *rest = polynomial
    if rest:
        d, e = rest
        half = d / (2 * e)
        c -= e * half**2
        y = torch.baddbmm(gram, gram, gram, beta=half)
        factor = torch.baddbmm(torch.add(y, gram, alpha=b / c - half), y, y, beta=c, alpha=e)
    else:
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


def _matrix(parameter: Tensor) -> Tensor:
    """Return a parameter's values as a matrix (m, n), in the same memory."""
    return parameter.detach().flatten(1)


def _wide(matrix: Tensor) -> Tensor:
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
