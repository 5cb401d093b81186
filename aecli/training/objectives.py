"""What training minimises: the loss of the rebuilt rows, and objectives on the output of the encoder.

The bottlenecks between encoder and decoder are here, too. Shape letters as in `module.py`; B rows per batch, and M
outputs of the encoder per row: K, or 2 K for a variational bottleneck.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from aecli.config import ModelConfig, TrainConfig, prefixes
from aecli.model.module import inactive

WARMUP = 0.1  # the share of the steps over which a restriction of codes grows: at full strength it would empty them
PULL = 1.5  # the attraction of neighbours; 1 separates clusters less
RISE = 0.4  # the share of the steps over which the weight of the map's loss grows
FAR = 0.05  # the relative weight of distances between far rows; on MNIST, 1 costs a hundredth of k-NN accuracy
TINY = 1e-6  # small compared to distances
TEMPERATURE = 0.02  # of cosines: the lower, the more weight the nearest rows have
ACTIVE = 0.01  # nats; a latent value with a larger divergence is active
Sums = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss of rebuilt values.

    `of` takes the rebuilt values (B, D), their targets in float32, a mask (B, D) of the counted values or None, and
    float32 memory for the gradient or None. It returns the sum of the errors, and its gradient divided by `scale`.
    Errors divided by `scale` are nats up to a constant: half the squares are those of a Gaussian of unit variance.
    If the loss is `of_logits`, the rebuilt values are those before the sigmoid.
    """

    of: Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Sums]
    scale: float = 1.0
    of_logits: bool = False


def _squares(recon: Tensor, target: Tensor, counted: Tensor | None, out: Tensor | None) -> Sums:
    error = _error(recon, target, counted, out)
    errors = error.view(-1)
    return torch.dot(errors, errors), error


def _huber(recon: Tensor, target: Tensor, counted: Tensor | None, out: Tensor | None) -> Sums:
    """Return the Huber loss: half the square of an error up to 1, else its size minus a half. Source: Huber 1964."""
    error = _error(recon, target, counted, out)
    near = error.clamp(-1, 1)
    total = torch.dot(near.view(-1), torch.sub(error, near, alpha=0.5).view(-1))
    return total, error.copy_(near)


def _cross_entropy(logits: Tensor, target: Tensor, counted: Tensor | None, out: Tensor | None) -> Sums:
    """Return the cross-entropy of values in [0, 1] in nats, from logits, so that no logarithm overflows."""
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


class Bottleneck(Protocol):
    """A function between encoder and decoder."""

    def begin(self, done: float) -> None:
        """Prepare for a step. `done` is the share of the steps that are done."""
        ...

    def forward(self, h: Tensor) -> Tensor:
        """Return codes (B, K), from the output of the encoder (B, M)."""
        ...

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient (B, M) of the last input, from the gradient (B, K) of its codes, which is overwritten."""
        ...


class Objective(Protocol):
    """A function to minimise in addition to the loss. It may compare the rows of a batch with one another."""

    compares: bool  # whether it compares rows

    def __call__(self, h: Tensor, x: Tensor, /) -> Sums:
        """Return the nats of the encoder's output (B, M), summed over the batch, and their gradient (B, M).

        `x` (B, D) are the rows without noise, in the model's units.
        """
        ...

    def begin(self, done: float) -> None:
        """Prepare for a step. `done` is the share of the steps that are done."""
        ...


class Variational:
    """Draws codes from a Gaussian for each row. The input (B, 2 K) holds its means and the logarithms of its variances.

    Source: Kingma and Welling 2013, arXiv:1312.6114.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def begin(self, done: float) -> None:
        pass

    def forward(self, h: Tensor) -> Tensor:
        mean, logarithm = h.float().chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=self._generator, device=h.device)
        self._off = noise.mul_(logarithm.div(2).exp_())
        return (mean + self._off).to(h.dtype)

    def backward(self, gradient: Tensor) -> Tensor:
        return torch.cat([gradient, gradient * self._off / 2], dim=1)


class Sparse:
    """Keeps the largest values of a code. In the first steps it keeps more, so that all values come into use.

    Source: Makhzani and Frey 2013, arXiv:1312.5663, section 4.2.1 for the first steps.
    """

    def __init__(self, active: int) -> None:
        self._active, self._more = active, 0.0

    def begin(self, done: float) -> None:
        self._more = max(0.0, 1 - done / WARMUP)

    def forward(self, h: Tensor) -> Tensor:
        active = self._active + round(self._more * (h.shape[1] - self._active))
        self._inactive = inactive(h, active)
        return h.masked_fill(self._inactive, 0)

    def backward(self, gradient: Tensor) -> Tensor:
        return gradient.masked_fill_(self._inactive, 0)


class Nested:
    """Keeps the first values of each code: all, half or a quarter of them, in equal parts of a batch.

    Source: Rippel et al. 2014, arXiv:1402.0915; Kusupati et al. 2022, arXiv:2205.13147, for the widths.
    """

    def __init__(self, latent_dim: int) -> None:
        self._widths = latent_dim, *prefixes(latent_dim)

    def begin(self, done: float) -> None:
        pass

    def forward(self, h: Tensor) -> Tensor:
        return self.backward(h.clone())

    def backward(self, gradient: Tensor) -> Tensor:
        for part, width in zip(gradient.tensor_split(len(self._widths)), self._widths, strict=True):
            part[:, width:] = 0
        return gradient


class Divergence:
    """The KL divergence of each row's Gaussian from N(0, I), times `beta`.

    The weight of the gradient rises to `beta` over the first steps. The nats always have the full `beta`, so that they
    can be compared. Source: Higgins et al. 2017 for beta; Bowman et al. 2016, arXiv:1511.06349, for the rise.
    """

    compares = False

    def __init__(self, beta: float) -> None:
        self._beta = self._weight = beta

    def begin(self, done: float) -> None:
        self._weight = self._beta * min(1.0, done / WARMUP)

    def __call__(self, h: Tensor, _x: Tensor, /) -> Sums:
        mean, logarithm = h.float().chunk(2, dim=1)
        gradient = torch.cat([mean, logarithm.exp().sub_(1).div_(2)], dim=1)
        return divergence(h).sum() * self._beta, gradient.mul_(self._weight)


class Neighbours:
    """Keeps the codes of neighbours together and all others apart: the two-way InfoNC-t-SNE loss, times `weight`.

    The encoder's output (2 B, K) holds the codes of B rows, and of one neighbour of each row. With d the squared
    distance of row i and neighbour j, and q_ij = 1/(1 + d), a pair's loss is -PULL ln q_ii + (ln sum_j q_ij + ln sum_j
    q_ji)/2. Its weight rises over the first steps, so that codes first learn to rebuild rows, before clusters form. It
    is not part of a reported loss, because it grows with the batch, and is undefined for rows without neighbours.
    A second loss, with FAR times the weight, makes the distances of codes correlate with those of rows: for a batch it
    is minus B times the correlation of both, over consecutive rows of the batch.
    Source: Damrich et al. 2022, arXiv:2206.01816; PULL is the exaggeration of van der Maaten and Hinton 2008.
    """

    compares = True

    def __init__(self, weight: float) -> None:
        self._weight = self._risen = weight

    def begin(self, done: float) -> None:
        self._risen = self._weight * min(1.0, done / RISE)

    def __call__(self, h: Tensor, x: Tensor, /) -> Sums:
        a, b = h.float().chunk(2)
        apart = a - b
        near = 1 / (1 + torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist").square_())  # (B, B)
        rows, columns = near.sum(1, keepdim=True), near.sum(0)[:, None]
        pull = apart * (2 * PULL / (1 + apart.square().sum(1, keepdim=True)))
        squares = near.square_()
        of_a = pull - _pushed(a, b, squares, rows, columns)
        of_b = -pull - _pushed(b, a, squares.T, columns, rows)
        of_a += _together(a, x).mul_(FAR)
        return torch.zeros((), device=h.device), torch.cat([of_a, of_b]).mul_(self._risen)


def _together(codes: Tensor, x: Tensor) -> Tensor:
    """Return the gradient (B, K) of minus B times the correlation of the distances of codes (B, K) and of rows x.

    The distances are those of each row from the next row. x (B, D) is in the model's units.
    """
    apart = codes - codes.roll(1, 0)
    near = torch.linalg.vector_norm(apart, dim=1).clamp_min_(TINY)
    far = torch.linalg.vector_norm(x - x.roll(1, 0), dim=1)
    spread, near_off, far_off = near.std(correction=0) + TINY, near - near.mean(), far - far.mean()
    near_off, far_off = near_off / spread, far_off / (far.std(correction=0) + TINY)
    correlation = (near_off * far_off).mean()
    gradient = apart * ((correlation * near_off - far_off) / (spread * near))[:, None]
    of_both: Tensor = gradient - gradient.roll(-1, 0)
    return of_both


def _pushed(codes: Tensor, others: Tensor, squares: Tensor, sums: Tensor, sums_of_others: Tensor) -> Tensor:
    """Return the repulsion of codes by all others, (B, K), from the `squares` (B, B) of q, and its sums (B, 1)."""
    weighted = torch.cat([others, torch.ones_like(sums)], dim=1)
    total, count, shared, share = torch.split(
        squares @ torch.cat([weighted, weighted / sums_of_others], dim=1), [codes.shape[1], 1] * 2, dim=1
    )
    pushed: Tensor = (count * codes - total) / sums + share * codes - shared
    return pushed


class Likeness:
    """Makes codes similar by cosine if their rows are, so that a search by cosine finds the same rows.

    With p_ij the softmax over the other rows j of a batch of cos(x_i, x_j)/TEMPERATURE, and q_ij the same for codes, a
    row's loss is the KL divergence of q_i from p_i. It is a mean over several `widths`, the numbers of first values of
    a code. Its weight is half the mean squared length of a row, so that it counts as much as rebuilding rows. It is not
    part of a reported loss, because it grows with the batch. A code of length 0 has no direction, and no gradient.
    Source: Hinton and Roweis 2002; Sablayrolles et al. 2019, arXiv:1806.03198, for codes of vectors.
    """

    compares = True

    def __init__(self, widths: tuple[int, ...]) -> None:
        self._widths = widths

    def begin(self, done: float) -> None:
        pass

    def __call__(self, h: Tensor, x: Tensor, /) -> Sums:
        codes, gradient = h.float(), torch.zeros(h.shape, device=h.device)
        p = _likeness(functional.normalize(x, dim=1))
        for width in self._widths:
            z = codes[:, :width]
            length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
            length.masked_fill_(length < TINY, torch.inf)
            unit = z / length
            apart = _likeness(unit).sub_(p)  # (B, B)
            by_unit = (apart + apart.T) @ unit
            gradient[:, :width] += (by_unit - (by_unit * unit).sum(1, keepdim=True) * unit) / length
        weight = x.square().sum() / (2 * len(x) * TEMPERATURE * len(self._widths))
        return torch.zeros((), device=h.device), gradient.mul_(weight)


def _likeness(unit: Tensor) -> Tensor:
    """Return the softmax (B, B) of the cosines of rows (B, D) of unit length, over all other rows."""
    return (unit @ unit.T).div_(TEMPERATURE).fill_diagonal_(-torch.inf).softmax(1)


def divergence(h: Tensor) -> Tensor:
    """Return the KL divergence (B, K) from N(0, 1), in nats, of Gaussians with means and log variances (B, 2 K)."""
    mean, logarithm = h.float().chunk(2, dim=1)
    return (mean.square() + logarithm.exp() - 1 - logarithm) / 2


def bottleneck(model: ModelConfig, generator: torch.Generator) -> Bottleneck | None:
    """Return the bottleneck of a model in training, None if it does nothing."""
    if model.bottleneck == "variational":
        return Variational(generator)
    return None if model.active is None else Sparse(model.active)


def objective(model: ModelConfig, config: TrainConfig, variance: float = 0.0) -> Objective | None:
    """Return the objective in addition to the loss, None if there is none.

    The objective of a map needs pairs of rows, and their `variance`, the sum over the values. Without it None is
    returned. With the mean squared error, the loss of a pair has the weight of rebuilding all rows as their mean.
    """
    if model.bottleneck == "variational":
        return Divergence(config.beta)
    return Neighbours(variance / 2) if config.neighbours and variance else None
