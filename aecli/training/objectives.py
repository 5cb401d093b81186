"""What training minimises: the error of the rebuilt rows by a loss, and objectives on what the encoder gives.

And what a bottleneck does between encoder and decoder. Shape letters as in `module.py`; B rows a batch, and M values
that the encoder gives for each: K, or 2 K where the bottleneck is variational.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from aecli.config import ModelConfig, TrainConfig, prefixes
from aecli.model.module import inactive

WARMUP = 0.1  # of the steps, over which what makes codes poor gets its strength: at once, it would leave them empty
PULL = 1.5  # at which neighbours are held together; 1 holds clusters less apart
RISE = 0.4  # of the steps, over which that gets its strength
FAR = 0.05  # weight of far rows lying far apart beside that; on MNIST, 1 costs a hundredth of k-NN accuracy
TINY = 1e-6  # beside distances
TEMPERATURE = 0.02  # of cosines: the lower, the more the nearest rows weigh
ACTIVE = 0.01  # nats, above which a latent value tells something
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


class Bottleneck(Protocol):
    """What happens between encoder and decoder."""

    def begin(self, done: float) -> None:
        """Get ready for a step, after this share of all."""
        ...

    def forward(self, h: Tensor) -> Tensor:
        """Make codes (B, K) of what the encoder gives (B, M)."""
        ...

    def backward(self, gradient: Tensor) -> Tensor:
        """Make of the gradient by the last codes (B, K), which it may overwrite, that by what they were made of."""
        ...


class Objective(Protocol):
    """What is minimised besides the error of the rebuilt rows. It may compare the rows of a batch with one another."""

    compares: bool  # or takes each row alone

    def __call__(self, h: Tensor, x: Tensor, /) -> Sums:
        """Return the nats of what the encoder gives (B, M), summed over the batch, and their gradient (B, M).

        `x` (B, D) are the rows without noise, in the model's units.
        """
        ...

    def begin(self, done: float) -> None:
        """Get ready for a step, after this share of all."""
        ...


class Variational:
    """Draws codes from a Gaussian for each row: (B, 2 K) are its means and the logarithms of its variances.

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
    """Keeps so many largest values of a code; in the first steps more, so that each value gets to be of use.

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
    """Keeps the first values of each code: in equal parts of a batch all of them, the half, and the quarter.

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

    The gradient's weight rises to `beta` over the first steps; the nats are those of `beta` at once, so that they can
    be compared. Source: Higgins et al. 2017 for beta; Bowman et al. 2016, arXiv:1511.06349, for the rise.
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
    """Holds the codes of neighbours together and all others apart: the two-way InfoNC-t-SNE loss, times `weight`.

    What the encoder gives (2 B, K) are the codes of B rows, and of a neighbour of each of them. With d of row i and
    neighbour j their squared distance and q_ij = 1/(1 + d), a pair's loss is -PULL ln q_ii + (ln sum_j q_ij + ln sum_j
    q_ji)/2. Its weight rises over the first steps, so that codes lie as those that rebuild rows best before islands
    form. It counts in no loss that is reported: it grows with the batch, and tells nothing of rows without neighbours.
    Beside it, at FAR times the weight, codes are drawn to where their distances go with those of the rows: the loss of
    a batch is minus B times the correlation of both, over pairs of rows as they come.
    Source: Damrich et al. 2022, arXiv:2206.01816; PULL is what van der Maaten and Hinton 2008 call exaggeration.
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
    """Return the gradient (B, K) of minus B times the correlation of distances: those of codes (B, K), and of rows x.

    Each row's is that from the next row. x (B, D) are in the model's units.
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
    """Return by how much others push codes away, (B, K): `squares` (B, B) are those of q, its sums are (B, 1)."""
    weighted = torch.cat([others, torch.ones_like(sums)], dim=1)
    total, count, shared, share = torch.split(
        squares @ torch.cat([weighted, weighted / sums_of_others], dim=1), [codes.shape[1], 1] * 2, dim=1
    )
    pushed: Tensor = (count * codes - total) / sums + share * codes - shared
    return pushed


class Likeness:
    """Holds those codes most alike by cosine whose rows are: what a search by cosine then finds.

    With p_ij the softmax over the other rows j of a batch of cos(x_i, x_j)/TEMPERATURE, and q_ij that of the codes, a
    row's loss is the KL divergence of q_i from p_i, for the first values of a code by each of several `widths`, a mean
    over these. It weighs as half the mean squared length of a row does, which is as much as rebuilding rows. It counts
    in no loss that is reported: it grows with the batch. A code of length 0 has no direction, and no gradient.
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
    """Return the softmax (B, B) of the cosines of rows (B, D) of unit length, over all others of a row."""
    return (unit @ unit.T).div_(TEMPERATURE).fill_diagonal_(-torch.inf).softmax(1)


def divergence(h: Tensor) -> Tensor:
    """Return the nats (B, K) from N(0, 1) of Gaussians of these means and logarithms of variances (B, 2 K)."""
    mean, logarithm = h.float().chunk(2, dim=1)
    return (mean.square() + logarithm.exp() - 1 - logarithm) / 2


def bottleneck(model: ModelConfig, generator: torch.Generator) -> Bottleneck | None:
    """Return what the bottleneck of a model is in training, None where it does nothing."""
    if model.bottleneck == "variational":
        return Variational(generator)
    return None if model.active is None else Sparse(model.active)


def objective(model: ModelConfig, config: TrainConfig, variance: float = 0.0) -> Objective | None:
    """Return what is minimised besides the error of the rebuilt rows, and counts in what is reported; None for nothing.

    Where neighbours are held together, that takes pairs of rows, and their `variance`: the sum of the values'. Without
    it None is returned. With the mean squared error, a pair's loss weighs as much as rebuilding rows as their mean.
    """
    if model.bottleneck == "variational":
        return Divergence(config.beta)
    return Neighbours(variance / 2) if config.neighbours and variance else None
