"""The training of a dictionary: a sparse code between two linear layers, usually wider than a row.

The decoder's columns are its atoms; a row is rebuilt as a weighted sum of a few atoms. Shape letters as in `module.py`;
B rows per batch, M dead latents.
Source: Gao et al. 2024, arXiv:2406.04093, section 2 and appendix A, with two differences. Their atoms start at random,
and rebuild less after some hundred steps; and they revive dead latents with an auxiliary loss, which leaves a tenth of
them dead in runs of this length.
"""

import numpy as np
import torch
from torch import Tensor, nn

from aecli.model.module import Autoencoder
from aecli.training.group import ALONE, Group
from aecli.training.objectives import Sparse
from aecli.training.rows import Rows

DEAD_ROWS = 10_000  # a latent that is active on none of so many rows is dead
START_ROWS = 4096  # rows that set the scale of the first codes
NOISE = 0.3  # the length of the noise in a first atom, relative to the row
BEYOND = 0.01  # a dead latent rises above the least active value of a row by this share of it
TINY = 1e-12


class Dictionary(Sparse):
    """The sparse bottleneck, which revives dead latents, and keeps the atoms at their initial lengths.

    `idle` (K,) counts the rows since each latent was last active. The bias of a dead latent is raised until it is
    active on one row of the batch and learns from it. A batch is the whole batch of all processes of the `group`.
    """

    def __init__(self, model: Autoencoder, rows: int, group: Group = ALONE) -> None:
        super().__init__(model.config.active or 1)
        encoder, decoder = _layers(model)
        self._bias, self._weight = encoder.bias, decoder.weight  # (K,), (D, K)
        self._lengths = torch.linalg.vector_norm(decoder.weight.detach(), dim=0)
        self._dead, self._group = min(rows, DEAD_ROWS), group
        self.idle = torch.zeros(model.config.latent_dim, dtype=torch.int64, device=encoder.bias.device)

    def begin(self, done: float) -> None:
        """Do nothing: if the first steps kept more values, all atoms would turn to what most rows have in common."""

    def forward(self, h: Tensor) -> Tensor:
        codes = super().forward(h)
        seen = torch.cat([(codes != 0).any(0), self.idle.new_tensor([len(codes)])])  # (K + 1,)
        self._group.sum_(seen)
        self.idle += seen[-1]
        self.idle.masked_fill_(seen[:-1] > 0, 0)
        dead = torch.nonzero(self.idle >= self._dead).flatten()
        if len(dead):
            least = codes.masked_fill(codes == 0, torch.inf).amin(1, keepdim=True).float()  # (B, 1)
            rise = (least + BEYOND * least.abs() - h[:, dead]).amin(0)  # (M,)
            self._group.least_(rise)
            self._bias.detach().index_add_(0, dead, rise.clamp_min(0).nan_to_num(posinf=0))
        return codes

    def keep_gradient_across(self) -> None:
        """Remove the part of the atoms' gradient that would change their lengths, so that a step only turns them."""
        gradient, weight = self._weight.grad, self._weight.detach()
        assert gradient is not None  # noqa: S101, for the type checker
        along = (gradient * weight).sum(0) / self._lengths.square().clamp_min(TINY)
        gradient.addcmul_(weight, along, value=-1)

    def restore_lengths(self) -> None:
        """Restore the atoms' lengths after a step: longer atoms with smaller values would rebuild the same rows."""
        weight = self._weight.detach()
        weight.mul_(self._lengths / torch.linalg.vector_norm(weight, dim=0).clamp_min_(TINY))


def first_atoms(model: Autoencoder, training: Rows, mean: Tensor, seed: int) -> None:
    """Set the initial weights of a dictionary: atoms of length 1 near random rows minus the `mean` (D,).

    The encoder is tied to the atoms, and scaled so that the first codes rebuild rows best. Its bias subtracts the mean.
    """
    rng, latent_dim = np.random.default_rng(seed), model.config.latent_dim
    encoder, decoder = _layers(model)
    with torch.no_grad():
        off = training.sample(max(START_ROWS, latent_dim), rng).cpu() - mean  # (N, D)
        order = torch.from_numpy(rng.permutation(len(off)))
        some = off[order[torch.arange(latent_dim) % len(off)]]
        noise = torch.from_numpy(rng.normal(size=some.shape).astype(np.float32))
        atoms = _of_length_1(_of_length_1(some) + NOISE * _of_length_1(noise))  # (K, D)
        decoder.weight.copy_(atoms.T)
        encoder.weight.copy_(atoms)
        encoder.bias.copy_(-atoms @ mean)
        few = off[order[:START_ROWS]]
        rebuilt = decoder(model.encode(few + mean)) - decoder.bias
        fitting = float((rebuilt * few).sum() / rebuilt.square().sum().clamp_min(TINY))
        if fitting > 0:
            encoder.weight.mul_(fitting)
            encoder.bias.mul_(fitting)


def _layers(model: Autoencoder) -> tuple[nn.Linear, nn.Linear]:
    encoder, decoder = model.encoder[0], model.decoder[0]
    assert isinstance(encoder, nn.Linear) and isinstance(decoder, nn.Linear)  # noqa: S101, PT018, for the type checker
    return encoder, decoder


def _of_length_1(vectors: Tensor) -> Tensor:
    """Return vectors (K, D) scaled to length 1; vectors of length 0 stay."""
    found: Tensor = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(TINY)
    return found
