"""The score of a row: how strange it is, by how the model rebuilds it and where its code lies. Fitted on training rows.

A row's score is the sum of three signs, in nats. The `distance` is the Mahalanobis distance of its code and its errors
from those of training rows. The `loneliness` is the distance of its code from the twentieth nearest of the stored
training codes. Both count by the share of unseen training rows that have as much or more, under a log-normal
distribution. The third sign is the value farthest `beyond` the range of its column in training: it counts by half the
squared excess, in standard deviations, because a narrow code ignores some columns, whose errors are large in every row.
A row's `p` is the share of unseen training rows that are as strange or stranger. Unseen rows are rows that the network
was not trained on, or, if there are many rows, that the score was not fitted to.

The errors of a row's values are correlated, and so are its latent values, so the distance uses their covariance. The
tenth of the rows that fit least is left out of the covariance, because they may be anomalies.
Sources: Mahalanobis 1936; Rousseeuw 1985 for leaving out the farthest; Ledoit and Wolf 2004 for the shrinkage;
Ramaswamy et al. 2000 for the k-th nearest neighbour; Vovk et al. 2005, and Barber et al. 2021 for the folds, for p.
Shape letters: N rows, E inputs of the model, K latent values, J = K + E, F axes, M stored codes, n calibration rows.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.model.checkpoint import SCORE, Scoring

Array = np.ndarray[Any, Any]
FITTED_ROWS, FITTED_VALUES = 4096, 1 << 24  # the most rows and values to fit a score to: bounds time and memory
CALIBRATION_ROWS = 20_000
STORED_VALUES = 1 << 17  # the most values of codes of training rows to store
NEIGHBOUR = 20  # the twentieth nearest: with 5, two or three similar anomalies would look normal
ALL_AXES, AXES = 360, 64  # with up to 360 latent values and inputs all axes are stored, otherwise 64
ROWS_AN_AXIS = 20  # with fewer rows per axis the axes would be random
TRIMMED, REFITS = 0.1, 3  # the share of the rows to leave out, those that fit least
FLOOR = 1e-3  # times the mean squared error, added to each, because a constant column has no error
LEAST = 1e-12  # smaller distances are 0
SAME = 1e-4  # relative to a latent value's magnitude: smaller variation is rounding
LARGEST = float(np.finfo(np.float32).max) / 4  # keeps the score of extreme values finite
LARGEST_LOG = math.log(np.finfo(np.float32).max)
LEAST_ROWS = 10  # a score needs at least so many
Signs = Array  # (N, 3): the logarithms of distance and loneliness, and the nats of the value farthest beyond its range


@dataclass(frozen=True, eq=False)
class Score:
    """A fitted score. It judges rows by their codes (N, K) and their errors (N, E), in the model's units.

    `code_scale` (K,) and `error_scale` (E,) scale these to similar sizes, and `centre` (J,) is the mean of both then.
    `axes` (F, J) have length 1. A row's squared position along each axis has the weight in `weights` (F,), the rest of
    its squared length the weight `rest`. `codes` (M, K) are scaled codes of training rows. `usual` (2, 2) are the means
    and the standard deviations of the logarithms of distance and loneliness, and `calibration` (n,) the scores in
    ascending order, both of unseen training rows. `mean`, `spread`, `low` and `high` (E,) describe the inputs.
    """

    code_scale: Array
    error_scale: Array
    centre: Array
    axes: Array
    weights: Array
    rest: float
    codes: Array
    usual: Array
    calibration: Array
    mean: Array
    spread: Array
    low: Array
    high: Array

    def tensors(self) -> dict[str, Array]:
        """Return float32 tensors by their names in a checkpoint; the codes are float16."""
        values: dict[str, Array] = {name: np.asarray(value, np.float32) for name, value in vars(self).items()}
        values["codes"] = self.codes.astype(np.float16)
        values["rest"] = values["rest"].reshape(1)
        return {f"{SCORE}{name}": np.ascontiguousarray(value) for name, value in values.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> "Score | None":
        """Return the score in a checkpoint's tensors, None if there is none."""
        if f"{SCORE}rest" not in tensors:
            return None
        own: dict[str, Any] = {
            field.name: tensors[f"{SCORE}{field.name}"].astype(np.float32) for field in dataclasses.fields(cls)
        }
        return cls(**own | {"rest": float(own["rest"][0])})

    @property
    def size(self) -> Scoring:
        """The numbers of axes, stored codes and calibration rows."""
        return Scoring(len(self.axes), len(self.codes), len(self.calibration))

    @property
    def least_p(self) -> float:
        """The smallest p that a row can have."""
        return self.size.least_p

    @property
    def alpha(self) -> float:
        """The default of the highest p of an anomaly."""
        return self.size.alpha

    @property
    def threshold(self) -> float:
        """The smallest score whose p is at most `alpha`, in nats, as a float32 number."""
        n = len(self.calibration)
        beyond = np.count_nonzero(np.arange(1, n + 1) / (n + 1) <= self.alpha)  # one more than may be as strange
        return float(np.nextafter(self.calibration[n - beyond], np.float32(np.inf))) if n else 0.0

    def distances(self, z: Array, errors: Array, there: Array | None = None) -> Array:
        """Return the squared Mahalanobis distances (N,), a mean over the values that are `there`.

        If a value is not `there` (N, E), its error counts as an average one.
        """
        with np.errstate(all="ignore"):
            off, count = self._off(z, errors, there)
            along = off @ self.axes.T  # (N, F)
            squares = np.square(along) @ self.weights
            if len(self.axes) < off.shape[1]:
                left = np.einsum("nj,nj->n", off, off) - np.einsum("nf,nf->n", along, along)
                squares += np.maximum(left, 0) * np.float32(self.rest)
            found: Array = squares / count
        found[np.isnan(found)] = np.inf
        return found

    def contributions(self, z: Array, errors: Array, there: Array | None = None) -> Array:
        """Return the part of `distances` that each error adds, (N, E), at least 0."""
        with np.errstate(all="ignore"):
            off, count = self._off(z, errors, there)
            along = off @ self.axes.T  # (N, F)
            pull = (along * self.weights) @ self.axes  # (N, J)
            if len(self.axes) < off.shape[1]:
                pull += (off - along @ self.axes) * np.float32(self.rest)
            found: Array = (off * pull)[:, z.shape[1] :] / np.reshape(count, (-1, 1))
        found[np.isnan(found)] = np.inf
        return np.maximum(found, 0)

    def _off(self, z: Array, errors: Array, there: Array | None) -> tuple[Array, Any]:
        """Return the offsets (N, J) of rows from the centre, and the numbers of their values."""
        off = np.concatenate([z / self.code_scale, errors / self.error_scale], axis=1) - self.centre  # (N, J)
        if there is None:
            return off, off.shape[1]
        off[:, z.shape[1] :][~there] = 0
        return off, z.shape[1] + there.sum(axis=1, dtype=np.float32)  # exact, and not float64 if a batch has holes

    def loneliness(self, z: Array) -> Array:
        """Return the distances (N,) of codes (N, K) from their twentieth nearest stored code, 1 if there is none."""
        if not len(self.codes):
            return np.ones(len(z), np.float32)
        with np.errstate(all="ignore"):
            codes = self.scaled(z)
            near = np.einsum("mk,mk->m", self.codes, self.codes) - 2 * (codes @ self.codes.T)  # (N, M)
            nth = min(NEIGHBOUR, len(self.codes)) - 1
            squares = np.partition(near, nth, axis=1)[:, nth] + np.einsum("nk,nk->n", codes, codes)
        found: Array = np.sqrt(np.where(np.isnan(squares), np.inf, np.maximum(squares, 0)))
        return found

    def scaled(self, z: Array) -> Array:
        """Return codes (N, K) scaled like the stored ones: minus their centre, divided by their scale."""
        codes: Array = z / self.code_scale - self.centre[: z.shape[1]]
        return codes

    def beyond(self, x: Array, there: Array | None = None) -> Array:
        """Return how far the farthest value of inputs (N, E) is beyond the training range, (N,), in nats."""
        with np.errstate(all="ignore"):
            scale = np.maximum(self.spread, np.sqrt(np.square(self.spread).mean()) / 2) + LEAST
            off = np.maximum(np.maximum(x - self.high, self.low - x), 0) / scale  # (N, E)
            if there is not None:
                off[~there] = 0
            found: Array = np.square(off.max(axis=1)) / 2
        return np.minimum(found, LARGEST)

    def signs(self, x: Array, z: Array, errors: Array, there: Array | None = None) -> Signs:
        """Return the logarithms of distance and loneliness, and the nats of the value beyond its range, (N, 3)."""
        both = np.stack([self.distances(z, errors, there), self.loneliness(z)], axis=1)
        logs = np.minimum(np.log(np.maximum(both, LEAST)), LARGEST_LOG)
        found: Array = np.concatenate([logs, self.beyond(x, there)[:, None]], axis=1)
        return found

    def scores(self, signs: Signs) -> Array:
        """Return the scores (N,), in nats, of signs (N, 3)."""
        mean, spread = self.usual
        found: Array = _surprise((signs[:, :2] - mean) / spread).sum(axis=1) + signs[:, 2]
        return found

    def p(self, scores: Array) -> Array:
        """Return the share (N,) of calibration rows that are as strange or stranger, counting the row itself as one."""
        n = len(self.calibration)
        beyond = n - np.searchsorted(self.calibration, scores.astype(np.float32), side="left")
        share: Array = (1 + beyond) / (n + 1)
        return share

    def calibrated(self, signs: Signs) -> "Score":
        """Return the score calibrated with the signs (n, 3) of rows that the model has not seen."""
        logs = signs[:, :2]
        usual = np.stack([logs.mean(axis=0), np.maximum(logs.std(axis=0), 1e-6)])
        own = dataclasses.replace(self, usual=usual.astype(np.float32))
        return dataclasses.replace(own, calibration=np.sort(own.scores(signs).astype(np.float32)))


def fit(x: Array, z: Array, errors: Array, there: Array | None, codes: int, seed: int) -> Score:
    """Return a score fitted to inputs (N, E), codes (N, K) and errors (N, E) of at least one training row.

    All are finite. `there` (N, E) is False for holes. At most `codes` codes are stored. It is not calibrated yet.
    """
    codes = min(codes, STORED_VALUES // z.shape[1])
    known = np.ones_like(errors, bool) if there is None else there
    count, is_known = np.maximum(1, known.sum(axis=0)), known.any(axis=0)
    mean = np.where(known, x, 0).sum(axis=0, dtype=np.float64) / count
    variance = np.where(known, np.square(x - mean), 0).sum(axis=0) / count
    middle_code, code_scale = z.mean(axis=0, dtype=np.float64), z.std(axis=0, dtype=np.float64)
    code_scale = np.maximum(code_scale, SAME * (np.abs(middle_code) + code_scale.max()))  # smaller values are rounding
    squares = np.where(known, np.square(errors, dtype=np.float64), 0).sum(axis=0) / count
    error_scale = np.sqrt(squares + FLOOR * squares.mean() + LEAST)
    code_scale = np.where(code_scale > LEAST, code_scale, 1)
    both = np.concatenate([z / code_scale, errors / error_scale], axis=1)
    if there is not None:
        middle = np.where(known, both[:, z.shape[1] :], 0).sum(axis=0) / count
        both[:, z.shape[1] :] = np.where(known, both[:, z.shape[1] :], middle)
    both = both.astype(np.float32)
    made = Score(
        code_scale.astype(np.float32),
        error_scale.astype(np.float32),
        *_fitted(both),
        np.zeros((0, z.shape[1]), np.float32),
        np.array([[0, 0], [1, 1]], np.float32),
        np.zeros(0, np.float32),
        mean.astype(np.float32),
        np.sqrt(variance).astype(np.float32),
        np.where(is_known, np.where(known, x, LARGEST).min(axis=0), -LARGEST).astype(np.float32),
        np.where(is_known, np.where(known, x, -LARGEST).max(axis=0), LARGEST).astype(np.float32),
    )
    for _ in range(REFITS if len(z) * TRIMMED >= 1 else 0):
        distances = made.distances(z, errors, there)
        kept = distances <= np.quantile(distances, 1 - TRIMMED)
        centre, axes, weights, rest = _fitted(both[kept])
        made = dataclasses.replace(made, centre=centre, axes=axes, weights=weights, rest=rest)
    stored = np.sort(np.random.default_rng(seed).permutation(len(z))[:codes])
    largest = np.finfo(np.float16).max
    halves = np.clip(made.scaled(z[stored]), -largest, largest).astype(np.float16)
    return dataclasses.replace(made, codes=halves.astype(np.float32))


def _fitted(u: Array) -> tuple[Array, Array, Array, float]:
    """Return `centre`, `axes`, `weights` and `rest` of rows (N, J): their mean, and the inverse of their covariance.

    The covariance is the estimate of Ledoit and Wolf. For wide rows it has only the axes of the largest variances, at
    most one per twenty rows, and one variance for all other directions. More axes would fit these rows by chance.
    """
    count, width = u.shape
    centre = u.mean(axis=0, dtype=np.float64)
    off = u - centre.astype(np.float32)
    if width <= ALL_AXES:
        covariance = (off.T @ off).astype(np.float64) / count
        share, mean = _shrinkage(off, covariance), float(np.trace(covariance)) / width
        variances, vectors = np.linalg.eigh((1 - share) * covariance + share * mean * np.eye(width))
        variances = np.maximum(variances, max(1e-6 * mean, LEAST))
        return _single(centre, vectors.T, 1 / variances, 0.0)
    most = min(AXES, max(1, count // ROWS_AN_AXIS))
    products = (off @ off.T if count < width else off.T @ off).astype(np.float64)
    total = float(np.einsum("nj,nj->", off, off, dtype=np.float64)) / count
    variances, vectors = np.linalg.eigh(products / count)
    variances, vectors = variances[::-1][:most], vectors[:, ::-1][:, :most]
    if count < width:
        vectors = off.T @ vectors / np.sqrt(np.maximum(variances * count, LEAST))
    rest = max((total - float(variances.sum())) / max(1, width - most), 1e-6)
    return _single(centre, vectors.T, 1 / np.maximum(variances, rest), 1 / rest)


def _single(centre: Array, axes: Array, weights: Array, rest: float) -> tuple[Array, Array, Array, float]:
    return centre.astype(np.float32), np.ascontiguousarray(axes, np.float32), weights.astype(np.float32), rest


def _shrinkage(off: Array, covariance: Array) -> float:
    """Return the shrinkage of Ledoit and Wolf for a covariance (J, J) to its mean variance, from 0 to 1.

    `off` (N, J) are the rows minus their mean.
    """
    count, width = off.shape
    mean = float(np.trace(covariance)) / width
    apart = float(np.square(covariance).sum()) - width * mean**2  # the distance from a multiple of the identity
    lengths = np.square(np.einsum("nj,nj->n", off, off, dtype=np.float64)).sum() / count
    noise = (lengths - float(np.square(covariance).sum())) / count
    return min(1.0, noise / apart) if apart > 0 else 1.0


def _surprise(x: Array) -> Array:
    """Return -ln Q(x), in nats, within 0.012. Q is the probability that a standard normal value is larger than x.

    Source: Börjesson and Sundberg 1979, "Simple Approximations of the Error Function Q(x)".
    """
    far = np.abs(x)
    with np.errstate(over="ignore", invalid="ignore"):
        a = 1 / math.pi
        nats = far**2 / 2 + np.log(math.sqrt(2 * math.pi) * ((1 - a) * far + a * np.sqrt(far**2 + 2 * math.pi)))
    return np.where(x > 0, nats, -np.log1p(-np.exp(-nats)))
