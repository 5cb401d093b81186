"""A mixture of Gaussians over the codes of training rows. Draws from it are decoded to new rows.

The codes of a plain autoencoder are where training put them, and draws from N(0, I) decode to noise. The mixture is
fitted by expectation maximisation, with full covariances; Akaike's information criterion chooses the number of
Gaussians. For MNIST with 64 values it chooses ten, and other codes are likelier under these than under the five or six
that the Bayesian criterion chooses. Source: Ghosh et al. 2020, "From Variational to Deterministic Autoencoders",
section 4, which fits ten.
Shape letters: N codes, K latent values, M Gaussians.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.model.checkpoint import MIXTURE

Array = np.ndarray[Any, Any]
COMPONENTS = (10, 7, 5, 3, 2, 1)  # the numbers of Gaussians to try
MAX_CODES = 4096  # that a mixture is fitted to: more take longer and add little
MAX_LATENT = 512  # values of a code: above it, the covariances would be larger than the model
ONE_ABOVE = 128  # latent values, there is one Gaussian: the codes do not determine more parameters
CODES_A_VALUE = 6  # that a Gaussian needs per latent value: with fewer, its covariance is mostly chance
RIDGE = 1e-6  # share of each value's variance, added to it: some values may always be equal
LLOYD, EM = 5, 4  # most steps of k-means, then of expectation maximisation, which are repeated at the end
CONVERGED = 1e-2  # gain in log-likelihood per code, below which these end
PATIENCE = 2  # numbers of Gaussians that may be worse, one after another, before the search ends
ONE_THREAD = 1 << 18  # multiplications above which OpenBLAS starts threads, and busy-waits for them
DRAWN = 1024  # at once, so the first draws do not depend on how many are requested


@dataclass(frozen=True, eq=False)
class Mixture:
    """`weights` (M,), `means` (M, K) and lower Cholesky `factors` (M, K, K) of the covariances."""

    weights: Array
    means: Array
    factors: Array

    @classmethod
    def standard(cls, values: int) -> "Mixture":
        """Return N(0, I) of `values` latent values, which the codes of a variational model are kept near."""
        return cls(np.ones(1), np.zeros((1, values)), np.eye(values)[None])

    def __len__(self) -> int:
        return len(self.weights)

    def tensors(self) -> dict[str, Array]:
        """Return float32 tensors by the names they have in a checkpoint, the factors packed: (M, K (K + 1) / 2)."""
        rows, columns = np.tril_indices(self.means.shape[1])
        values = (self.weights, self.means, self.factors[:, rows, columns])
        return {name: value.astype(np.float32, order="C") for name, value in zip(MIXTURE, values, strict=True)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> "Mixture | None":
        """Read what `tensors` returned; None if a checkpoint holds none."""
        if MIXTURE[0] not in tensors:
            return None
        weights, means, packed = (tensors[name].astype(np.float64) for name in MIXTURE)
        factors = np.zeros((*means.shape, means.shape[1]))
        factors[:, *np.tril_indices(means.shape[1])] = packed
        return cls(weights / weights.sum(), means, factors)

    def draws(self, count: int, seed: int) -> Iterator[Array]:
        """Yield `count` codes, float32 (at most 1024, K) at a time. Equal seeds give equal draws."""
        rng = np.random.default_rng(seed)
        for start in range(0, count, DRAWN):
            which = rng.choice(len(self), DRAWN, p=self.weights)
            noise = rng.standard_normal((DRAWN, self.means.shape[1]))
            z = self.means[which]
            for i, factor in enumerate(self.factors):
                z[which == i] += _times(noise[which == i], factor.T)
            yield z[: count - start].astype(np.float32)


def fit(z: Array, seed: int) -> Mixture:
    """Return one to ten Gaussians fitted to finite codes (N, K), N ≥ 1. Equal codes and seeds give equal mixtures."""
    z = z.astype(np.float64)
    count, values = z.shape
    centre, spread = z.mean(axis=0), z.std(axis=0)
    scaled = (z - centre) / np.where(spread > 0, spread, 1)
    y = scaled.astype(np.float32)
    best, lowest, worse = np.ones((count, 1)), np.inf, 0  # each code's share of each Gaussian: (N, M)
    most = count // (CODES_A_VALUE * values) if values <= ONE_ABOVE else 1
    for components in (number for number in COMPONENTS if number <= most > 1):
        found = _improved(y, _clustered(y, components, np.random.default_rng((seed, components))))
        if found is None:
            continue
        shares, likelihood = found
        free = components * (1 + values + values * (values + 1) / 2) - 1
        criterion = 2 * (free - likelihood)
        if criterion < lowest:
            best, lowest, worse = shares, criterion, 0
        elif (worse := worse + 1) == PATIENCE:
            break
    best, _ = (_improved(y, best) if best.shape[1] > 1 else None) or (best, lowest)
    weights, means, factors = _maximised(scaled, best.astype(np.float64))
    return Mixture(weights, centre + means * spread, factors * spread[:, None])


def _improved(y: Array, shares: Array) -> tuple[Array, float] | None:
    """Return the codes' shares (N, M) of the Gaussians after more steps, and the log-likelihood of all codes.

    None if a Gaussian is left with too few codes.
    """
    likelihood = -np.inf
    for _ in range(EM):
        if shares.sum(axis=0).min() < min(len(y), y.shape[1] + 1):
            return None
        before = likelihood
        shares, likelihood = _expected(y, *_maximised(y, shares))
        if shares.shape[1] == 1 or likelihood - before < CONVERGED * len(y):
            break
    return shares, likelihood


def _maximised(y: Array, shares: Array) -> tuple[Array, Array, Array]:
    """Return the weights (M,), means (M, K) and lower factors (M, K, K) that fit codes with these shares best."""
    counts = shares.sum(axis=0)
    means = _sums(shares, y) / counts[:, None]
    covariances = []
    for i, mean in enumerate(means):
        off = y - mean
        covariances.append(_sums(off * shares[:, i : i + 1], off) / counts[i])
    return counts / counts.sum(), means, np.stack([_factor(each.astype(np.float64)) for each in covariances])


def _factor(covariance: Array) -> Array:
    """Return the lower Cholesky factor (K, K), with the smallest ridge in steps of ten for which it exists."""
    ridge = RIDGE
    while True:
        try:
            return np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
        except np.linalg.LinAlgError:  # sums in single precision may cause it
            ridge *= 10


def _expected(y: Array, weights: Array, means: Array, factors: Array) -> tuple[Array, float]:
    """Return the codes' shares (N, M) of these Gaussians, and the log-likelihood of all codes."""
    logs = np.empty((len(y), len(weights)))
    for i, (weight, mean, factor) in enumerate(zip(weights, means, factors, strict=True)):
        inverse = np.linalg.inv(factor).astype(y.dtype)
        white = _times(y - mean, inverse.T)  # (N, K)
        half = np.log(weight) - np.log(np.diag(factor)).sum() - y.shape[1] / 2 * np.log(2 * np.pi)
        logs[:, i] = half - 0.5 * np.einsum("nk,nk->n", white, white)
    top = logs.max(axis=1, keepdims=True)
    shares = np.exp(logs - top)
    total = shares.sum(axis=1, keepdims=True)
    whose: Array = (shares / total).astype(y.dtype)
    return whose, float((top + np.log(total)).sum())


def _clustered(y: Array, clusters: int, rng: np.random.Generator) -> Array:
    """Return the codes' shares (N, M) of clusters, 1 for their own: k-means from a k-means++ start."""
    squares = np.einsum("nk,nk->n", y, y)

    def distances(centres: Array) -> Array:
        found = squares[:, None] - 2 * _times(y, centres.T) + np.einsum("mk,mk->m", centres, centres)
        positive: Array = np.maximum(found, 0)
        return positive

    centres = y[rng.integers(len(y), size=1)]
    nearest = distances(centres)[:, 0].astype(np.float64)
    while len(centres) < clusters:
        total = nearest.sum()
        chosen = rng.choice(len(y), p=nearest / total) if total > 0 else rng.integers(len(y))
        centres = np.concatenate([centres, y[chosen : chosen + 1]])
        nearest = np.minimum(nearest, distances(centres[-1:])[:, 0])
    own = np.full(len(y), -1)
    for _ in range(LLOYD):
        before, own = own, distances(centres).argmin(axis=1)
        if (before == own).all():
            break
        shares = np.eye(clusters, dtype=y.dtype)[own]
        counts = shares.sum(axis=0)
        centres = np.where(counts[:, None] > 0, _sums(shares, y) / np.maximum(counts, 1)[:, None], centres)
    one_hot: Array = np.eye(clusters, dtype=y.dtype)[own]
    return one_hot


def _times(a: Array, b: Array) -> Array:
    """Return a (N, J) times b (J, L), in pieces small enough for one thread."""
    size = _rows_of_a_piece(b.size, len(a))
    whole = len(a) // size * size
    out: Array = np.empty((len(a), b.shape[1]), a.dtype)
    np.matmul(a[:whole].reshape(-1, size, a.shape[1]), b, out=out[:whole].reshape(-1, size, b.shape[1]))
    out[whole:] = a[whole:] @ b
    return out


def _sums(a: Array, b: Array) -> Array:
    """Return the sums (J, L) of products of the columns of a (N, J) and b (N, L), in pieces as in `_times`."""
    size = _rows_of_a_piece(a.shape[1] * b.shape[1], len(a))
    out: Array = np.zeros((a.shape[1], b.shape[1]), a.dtype)
    for start in range(0, len(a), size):
        out += a[start : start + size].T @ b[start : start + size]
    return out


def _rows_of_a_piece(values: int, rows: int) -> int:
    """Return how many rows one thread multiplies by so many values; all rows if several threads pay off."""
    return ONE_THREAD // values if values * 8 <= ONE_THREAD else max(1, rows)
