"""What judges a model: PCA, the linear autoencoder with the least error."""

import math
from typing import Any

import numpy as np

from aecli.data.part import Part
from aecli.model.scaler import Scaler

Array = np.ndarray[Any, Any]
PCA_MAX = 4096  # inputs, or rows: its matrix has so many rows and columns
CHUNK_VALUES = 1 << 20


class Pca:
    """PCA of scaled rows: the linear autoencoder with the least error. Holes are filled as a model fills them.

    `mean` (E,) and `basis` (E, K) are float64, where E are the scaled inputs.
    Source: Pearson 1901; Bourlard and Kamp 1988 for its being the best linear autoencoder.
    """

    def __init__(self, part: Part, scaler: Scaler, components: int) -> None:
        """Fit it to raw rows. Raises ValueError where rows and inputs are both more than PCA_MAX."""
        self.scaler = scaler
        if min(scaler.inputs, len(part)) > PCA_MAX:
            raise ValueError(f"{len(part):,} rows of {scaler.inputs:,} inputs are too many for PCA")
        if len(part) < scaler.inputs:
            self.mean, self.basis = _of_few_rows(part, scaler, components)
            return
        total, products = np.zeros(scaler.inputs), np.zeros((scaler.inputs, scaler.inputs))
        for chunk in part.chunks(CHUNK_VALUES):
            x = _scaled(chunk, scaler)
            total += x.sum(axis=0, dtype=np.float64)
            products += x.T @ x
        self.mean = total / len(part)
        _, vectors = np.linalg.eigh(products / len(part) - np.outer(self.mean, self.mean))
        self.basis = vectors[:, ::-1][:, :components]

    def mse(self, part: Part) -> float:
        """Return the mean squared error on raw rows, in the model's units. Holes are not in it."""
        error, count = 0.0, len(part) * self.scaler.inputs
        for chunk in part.chunks(CHUNK_VALUES):
            centred = _scaled(chunk, self.scaler) - self.mean
            squares = np.square(centred - centred @ self.basis @ self.basis.T)
            if (holes := self.scaler.holes(chunk)) is not None:
                squares[holes] = 0
                count -= int(holes.sum())
            error += float(squares.sum())
        return error / max(1, count)


def _of_few_rows(part: Part, scaler: Scaler, components: int) -> tuple[Array, Array]:
    """Return mean (E,) and basis (E, K) from the Gram matrix (N, N), whose eigenvalues are the covariance matrix's.

    Components beyond the rows' rank are zero.
    """
    x = np.concatenate([_scaled(chunk, scaler) for chunk in part.chunks(CHUNK_VALUES)])
    mean = x.mean(axis=0, dtype=np.float64)
    x -= mean.astype(x.dtype)
    values, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
    kept = np.flatnonzero(values > 1e-6 * values[-1])[::-1][:components]
    basis = np.zeros((scaler.inputs, components))
    basis[:, : len(kept)], _ = np.linalg.qr(x.T @ vectors[:, kept])
    return mean, basis


def pca(part: Part, scaler: Scaler, components: int) -> Pca | None:
    """Return PCA of raw rows; None where it would cost more than the model."""
    try:
        return Pca(part, scaler, components)
    except ValueError:
        return None


def _scaled(x: Array, scaler: Scaler) -> Array:
    """Scale raw rows as those that a model is trained on, holes filled."""
    scaled = scaler.transform(x)
    return scaled if math.isinf(scaler.farthest) else np.clip(scaled, -scaler.farthest, scaler.farthest)


class Moments:
    """The means and the variances of columns, gathered batch by batch. Source: Chan, Golub and LeVeque 1979."""

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self.counts = np.zeros(columns)
        self.mean = np.zeros(columns)
        self._squares = np.zeros(columns)

    @property
    def variance(self) -> Array:
        """The variance of each column, of as many degrees of freedom as values."""
        return self._squares / np.maximum(1, self.counts)

    def add(self, x: Array, there: Array | None = None) -> None:
        """Take in rows (N, columns), of their values those that are `there` (N, columns)."""
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
    """Return which share of each feature's variance is rebuilt, (D,): 1 minus its error over its variance.

    `squares` (E,) is the mean squared error of each of the model's inputs, `moments` are theirs; a feature takes as
    many of them as `widths` says. NaN for a feature that is constant.
    """
    starts = np.cumsum((0, *widths[:-1]))
    variance, error = np.add.reduceat(moments.variance, starts), np.add.reduceat(squares, starts)
    constant = variance <= 1e-12 * np.add.reduceat(np.square(moments.mean), starts)
    return np.where(constant, np.nan, 1 - error / np.where(constant, 1, variance))
