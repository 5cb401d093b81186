"""Metrics of a model and its embedding: PCA, the linear autoencoder with the least error; neighbours and distances."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.data.part import Part
from aecli.model.scaler import Scaler

Array = np.ndarray[Any, Any]
PCA_MAX = 4096  # inputs, or rows: the size of PCA's matrix
CHUNK_VALUES = 1 << 20
SAME = 1e-6  # relative to the distance from the middle: smaller distances are rounding
PAIRS = 5_000  # pairs of rows whose distances are compared
BLOCK_ROWS = 256  # rows whose distances from all others are in memory at once


class Pca:
    """PCA of scaled rows: the linear autoencoder with the least error. Holes are filled as a model fills them.

    `mean` (E,) and `basis` (E, K) are float64, for E scaled inputs. If it is not `centred`, the mean is 0, and of all
    linear codes its own keep the products of rows best (Eckart and Young 1936).
    Source: Pearson 1901; Bourlard and Kamp 1988 for the best linear autoencoder.
    """

    def __init__(self, part: Part, scaler: Scaler, components: int, *, centred: bool = True) -> None:
        """Fit PCA to raw rows. Raises ValueError if there are more than PCA_MAX rows and inputs.

        The mean of each chunk is subtracted before its products are taken, so that a mean far from 0 cancels no digits.
        Source of the update: Chan, Golub and LeVeque 1979.
        """
        self.scaler = scaler
        if is_too_large(len(part), scaler.inputs):
            raise ValueError(f"{len(part):,} rows of {scaler.inputs:,} inputs are too many for PCA")
        if len(part) < scaler.inputs:
            self.mean, self.basis = _of_few_rows(part, scaler, components, centred=centred)
            return
        count, self.mean = 0, np.zeros(scaler.inputs)
        products = np.zeros((scaler.inputs, scaler.inputs))
        for chunk in part.chunks(CHUNK_VALUES):
            x = scaled(chunk, scaler)
            mean = x.mean(axis=0, dtype=np.float64) * centred
            away, share = mean - self.mean, len(x) / (count + len(x))
            rest = np.empty((len(x) + 1, scaler.inputs), np.float32)  # and one row for the change of the mean
            np.subtract(x, mean, out=rest[:-1], casting="same_kind")
            rest[-1] = away * math.sqrt(count * share)
            products += rest.T @ rest
            self.mean += away * share
            count += len(x)
        _, vectors = np.linalg.eigh(products)
        self.basis = vectors[:, ::-1][:, :components]

    def encode(self, x: Array) -> Array:
        """Return the codes (N, K) of rows (N, E) in the model's units."""
        codes: Array = (x - self.mean) @ self.basis
        return codes

    def decode(self, codes: Array) -> Array:
        """Return the rows (N, E) decoded from codes (N, K), in the model's units."""
        x: Array = codes @ self.basis.T + self.mean
        return x

    def mse(self, part: Part) -> float:
        """Return the mean squared error on raw rows, in the model's units. Holes do not count."""
        error, count = 0.0, len(part) * self.scaler.inputs
        for chunk in part.chunks(CHUNK_VALUES):
            x = scaled(chunk, self.scaler)
            squares = np.square(x - self.decode(self.encode(x)))
            if (holes := self.scaler.holes(chunk)) is not None:
                squares[holes] = 0
                count -= int(holes.sum())
            error += float(squares.sum())
        return error / max(1, count)


def is_too_large(rows: int, inputs: int) -> bool:
    """Return whether PCA would cost more than the model. The size of its matrix is the smaller of both numbers."""
    return min(rows, inputs) > PCA_MAX


def bytes_taken(rows: int, inputs: int) -> int:
    """Return the memory for fitting PCA: its matrix and LAPACK's copies, and the rows if there are few."""
    if is_too_large(rows, inputs):
        return 0
    return 32 * min(rows, inputs) ** 2 + 4 * rows * inputs * (rows < inputs)


def _of_few_rows(part: Part, scaler: Scaler, components: int, *, centred: bool) -> tuple[Array, Array]:
    """Return mean (E,) and basis (E, K) from the Gram matrix (N, N). It has the eigenvalues of the covariance matrix.

    Components beyond the rows' rank are zero.
    """
    x, place = np.empty((len(part), scaler.inputs), np.float32), 0
    for chunk in part.chunks(CHUNK_VALUES):
        x[place : place + len(chunk)] = scaled(chunk, scaler)
        place += len(chunk)
    mean = x.mean(axis=0, dtype=np.float64) * centred
    for row in x:
        np.subtract(row, mean, out=row, casting="same_kind")
    values, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
    largest = np.flatnonzero(values > 1e-6 * values[-1])[::-1][:components]
    basis = np.zeros((scaler.inputs, components))
    basis[:, : len(largest)], _ = np.linalg.qr((x.T @ vectors[:, largest].astype(x.dtype)).astype(np.float64))
    return mean, basis


def pca(part: Part, scaler: Scaler, components: int, *, centred: bool = True) -> Pca | None:
    """Return PCA of raw rows, None if it would cost more than the model."""
    return None if is_too_large(len(part), scaler.inputs) else Pca(part, scaler, components, centred=centred)


def scaled(x: Array, scaler: Scaler) -> Array:
    """Return raw rows scaled as in training, with holes filled."""
    out = scaler.transform(x)
    return out if math.isinf(scaler.farthest) else np.clip(out, -scaler.farthest, scaler.farthest)


class Moments:
    """The means and the variances of columns, gathered batch by batch. Source: Chan, Golub and LeVeque 1979."""

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self.counts = np.zeros(columns)
        self.mean = np.zeros(columns)
        self._squares = np.zeros(columns)

    @property
    def variance(self) -> Array:
        """The variance of each column, with as many degrees of freedom as values."""
        return self._squares / np.maximum(1, self.counts)

    def add(self, x: Array, there: Array | None = None) -> None:
        """Add rows (N, columns). Only values that are `there` (N, columns) count."""
        counted: Array | bool = True if there is None else there
        count = np.sum(np.broadcast_to(counted, x.shape), axis=0)
        mean = x.sum(axis=0, dtype=np.float64, where=counted) / np.maximum(1, count)
        away = mean - self.mean
        share = count / np.maximum(1, self.counts + count)
        self._squares += np.square(x - mean).sum(axis=0, where=counted) + np.square(away) * (self.counts * share)
        self.mean += away * share
        self.counts += count
        self.rows += len(x)


def variance_rebuilt(squares: Array, moments: Moments, widths: tuple[int, ...]) -> Array:
    """Return the share of each feature's variance that is rebuilt, (D,): 1 minus its error over its variance.

    `squares` (E,) is the mean squared error of each of the model's inputs, `moments` are their moments; `widths` are
    the numbers of inputs of the features. NaN for a constant feature.
    """
    starts = np.cumsum((0, *widths[:-1]))
    variance, error = np.add.reduceat(moments.variance, starts), np.add.reduceat(squares, starts)
    constant = variance <= 1e-12 * np.add.reduceat(np.square(moments.mean), starts)
    return np.where(constant, np.nan, 1 - error / np.where(constant, 1, variance))


def explained_variance(error: float, moments: Moments) -> float | None:
    """Return 1 minus the sum of squared errors of rows over the sum of squared distances from their mean.

    None if all rows are equal.
    """
    total = float((moments.variance * moments.counts).sum())
    rounding = 1e-12 * float((np.square(moments.mean) * moments.counts).sum())
    return 1 - error / total if total > rounding else None


def activity(z: Array) -> tuple[float, float]:
    """Return the mean number of active values per row of sparse codes (N, K), and the share of dead latents.

    A value is active if it is not 0. A latent is dead if it is active in none of the rows.
    Source: Gao et al. 2024, arXiv:2406.04093, section 2.
    """
    active = z != 0
    return float(active.sum(axis=1).mean()), 1 - float(active.any(axis=0).mean())


@dataclass(frozen=True)
class Quality:
    """How good the codes of rows are. A metric is None if it cannot be computed.

    `mse` is the mean squared error of the rebuilt rows, in the model's units, without holes. `explained_variance` is 1
    minus that error over the variance of the rows. For sparse codes `active_values` is the mean number of values that
    are not 0 in a row, and `dead_latents` the share of latents that are 0 in all rows. See `compare` for the others.
    """

    mse: float | None = None
    explained_variance: float | None = None
    active_values: float | None = None
    dead_latents: float | None = None
    trustworthiness: float | None = None
    continuity: float | None = None
    knn_recall: float | None = None
    rank_correlation: float | None = None
    knn_accuracy: float | None = None
    silhouette: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Return the metrics by name, with None for infinity and NaN. One metric also has its earlier name."""
        named = vars(self) | {"variance_rebuilt": self.explained_variance}
        return {name: value if value is not None and math.isfinite(value) else None for name, value in named.items()}


class Points:
    """Rows (N, D) as points, and their distances, a block of rows at a time."""

    def __init__(self, x: Array) -> None:
        self._x = x.astype(np.float64)
        self._x -= np.median(
            self._x, axis=0
        )  # a mean would follow one far row, and distances of all others would be rounded
        self._norms = np.square(self._x).sum(axis=1)

    def __len__(self) -> int:
        return len(self._x)

    def squares(self, rows: slice) -> Array:
        """Return the squared distances (B, N) of a block of rows from all rows, infinity for a row from itself."""
        norms = self._norms[rows, None] + self._norms
        squares: Array = norms - 2 * (self._x[rows] @ self._x.T)
        squares[squares < SAME**2 * norms] = 0
        squares[np.arange(len(squares)), np.arange(len(self))[rows]] = np.inf
        return squares

    def between(self, first: Array, second: Array) -> Array:
        """Return the distances (P,) of pairs of rows, given by their indices."""
        return np.sqrt([np.square(self._x[i] - self._x[j]).sum() for i, j in zip(first, second, strict=True)])


def compare(rows: Points, spaces: Sequence[Points], k: int, labels: Array) -> list[Quality]:
    """Return how good each of several spaces of codes is for rows, and last the rows themselves.

    `labels` (N,) count from 0, and are -1 for a row without a label, which neither votes nor is judged.
    trustworthiness: whether the k nearest codes are near rows, 1 where all are among the k nearest rows; continuity:
    whether the k nearest rows are near codes. knn_recall: the share of the k nearest rows that are among the k nearest
    codes. Equal distances share the best rank. All three are None for the rows themselves, and below 2 k + 1 rows.
    rank_correlation: Spearman's, of the distances of pairs of rows and of their codes; None below three rows.
    knn_accuracy: the share of rows whose label most of the k nearest others have; None below 2 k + 1 rows.
    silhouette: how much farther the nearest other label is than the own one, -1 to 1. Both need two labels.
    Sources: Venna and Kaski 2001; Rousseeuw 1987.
    """
    count, every = len(rows), [*spaces, rows]
    enough, labelled = count > 2 * k, labels >= 0
    torn, rates = np.zeros((len(every), 3)), np.zeros((len(every), 2))
    order = np.flatnonzero(labelled)[np.argsort(labels[labelled], kind="stable")]
    classes, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    for start in range(0, count, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        far = rows.squares(block)
        near = np.argpartition(far, k, axis=1)[:, :k] if enough else None
        for i, space in enumerate(every):
            squares = far if space is rows else space.squares(block)
            own = near
            if near is not None and space is not rows:
                own = np.argpartition(squares, k, axis=1)[:, :k]
                theirs, ours = _ranks(far, own), _ranks(squares, near)
                torn[i] += np.maximum(0, theirs + 1 - k).sum(), np.maximum(0, ours + 1 - k).sum(), (theirs < k).sum()
            if len(classes) > 1:
                mine = labels[block]
                if own is not None:
                    rates[i, 0] += (_voted(labels[own], len(classes)) == mine)[mine >= 0].sum()
                if len(classes) < len(order):
                    rates[i, 1] += _silhouettes(squares[:, order], mine, starts, sizes).sum()
    worst = count * k * (2 * count - 3 * k - 1) / 2
    found = []
    for space, (false, missed, right), (voted, apart) in zip(every, torn, rates, strict=True):
        judged = enough and space is not rows
        found.append(
            Quality(
                trustworthiness=float(1 - false / worst) if judged else None,
                continuity=float(1 - missed / worst) if judged else None,
                knn_recall=float(right / (count * k)) if judged else None,
                rank_correlation=rank_correlation(rows, space) if count > 2 and space is not rows else None,
                knn_accuracy=float(voted / len(order)) if enough and len(classes) > 1 else None,
                silhouette=float(apart / len(order)) if 1 < len(classes) < len(order) else None,
            )
        )
    return found


def rank_correlation(rows: Points, codes: Points) -> float:
    """Return Spearman's correlation of the distances of random pairs of rows, and of their codes.

    It is NaN if all distances are equal. The 5,000 pairs are the same for equal numbers of rows.
    """
    rng = np.random.default_rng(0)
    first = rng.integers(len(rows), size=PAIRS)
    second = (first + rng.integers(1, len(rows), size=PAIRS)) % len(rows)
    of_rows, of_codes = (_places(space.between(first, second)) for space in (rows, codes))
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(of_rows, of_codes)[0, 1])


def _places(values: Array) -> Array:
    """Return the rank of each value (N,). Equal values share their mean rank."""
    _, of, counts = np.unique(values, return_inverse=True, return_counts=True)
    places: Array = (np.cumsum(counts) - (counts - 1) / 2)[of]
    return places


def _ranks(squares: Array, of: Array) -> Array:
    """Return how many points are nearer than each of the points `of` (B, k), (B, k), from squared distances (B, N)."""
    limits = np.take_along_axis(squares, of, axis=1)
    return np.stack([np.count_nonzero(squares < limit[:, None], axis=1) for limit in limits.T], axis=1)


def _voted(labels: Array, classes: int) -> Array:
    """Return the label (B,) of most of the k neighbours (B, k), the first in a tie, -2 if no neighbour has one."""
    votes = np.zeros((len(labels), classes + 1), int)
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), 1)  # -1 is the last column
    return np.where(votes[:, :-1].any(axis=1), votes[:, :-1].argmax(axis=1), -2)


def _silhouettes(squares: Array, mine: Array, starts: Array, sizes: Array) -> Array:
    """Return the silhouettes (B,) of rows with labels `mine` (B,), from squared distances (B, M) sorted by label.

    `starts` (C,) and `sizes` (C,) are the first row and the number of rows of each label. A row that is alone with its
    label, or has none, has 0.
    """
    sums = np.add.reduceat(np.sqrt(np.where(np.isinf(squares), 0, squares)), starts, axis=1)  # (B, C)
    judged = np.flatnonzero((mine >= 0) & (sizes[mine] > 1))
    at = np.arange(len(judged)), mine[judged]
    sums = sums[judged]
    own = sums[at] / (sizes[at[1]] - 1)
    others = sums / sizes
    others[at] = np.inf
    other = others.min(axis=1)
    larger = np.maximum(own, other)
    return np.where(larger > 0, (other - own) / np.where(larger > 0, larger, 1), 0)
