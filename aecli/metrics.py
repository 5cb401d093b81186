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
        """Fit it to raw rows. Raises ValueError where rows and inputs are both more than PCA_MAX.

        Each chunk's products are of what is left of its own mean, so that a mean far from 0 cancels no digits.
        Source of the update: Chan, Golub and LeVeque 1979.
        """
        self.scaler = scaler
        if is_too_large(len(part), scaler.inputs):
            raise ValueError(f"{len(part):,} rows of {scaler.inputs:,} inputs are too many for PCA")
        if len(part) < scaler.inputs:
            self.mean, self.basis = _of_few_rows(part, scaler, components)
            return
        count, self.mean = 0, np.zeros(scaler.inputs)
        products = np.zeros((scaler.inputs, scaler.inputs))
        for chunk in part.chunks(CHUNK_VALUES):
            x = _scaled(chunk, scaler)
            mean = x.mean(axis=0, dtype=np.float64)
            away, share = mean - self.mean, len(x) / (count + len(x))
            centred = np.empty((len(x) + 1, scaler.inputs), np.float32)  # and one row more, of the mean's own step
            np.subtract(x, mean, out=centred[:-1], casting="same_kind")
            centred[-1] = away * math.sqrt(count * share)
            products += centred.T @ centred
            self.mean += away * share
            count += len(x)
        _, vectors = np.linalg.eigh(products)
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


def is_too_large(rows: int, inputs: int) -> bool:
    """Return whether PCA would cost more than the model: its matrix has as many rows as the fewer of these."""
    return min(rows, inputs) > PCA_MAX


def bytes_taken(rows: int, inputs: int) -> int:
    """Return how much memory fitting PCA takes: its matrix and LAPACK's copies, and few rows themselves."""
    if is_too_large(rows, inputs):
        return 0
    return 32 * min(rows, inputs) ** 2 + 4 * rows * inputs * (rows < inputs)


def _of_few_rows(part: Part, scaler: Scaler, components: int) -> tuple[Array, Array]:
    """Return mean (E,) and basis (E, K) from the Gram matrix (N, N), whose eigenvalues are the covariance matrix's.

    Components beyond the rows' rank are zero.
    """
    x, place = np.empty((len(part), scaler.inputs), np.float32), 0
    for chunk in part.chunks(CHUNK_VALUES):
        x[place : place + len(chunk)] = _scaled(chunk, scaler)
        place += len(chunk)
    mean = x.mean(axis=0, dtype=np.float64)
    for row in x:
        np.subtract(row, mean, out=row, casting="same_kind")
    values, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
    largest = np.flatnonzero(values > 1e-6 * values[-1])[::-1][:components]
    basis = np.zeros((scaler.inputs, components))
    basis[:, : len(largest)], _ = np.linalg.qr((x.T @ vectors[:, largest].astype(x.dtype)).astype(np.float64))
    return mean, basis


def pca(part: Part, scaler: Scaler, components: int) -> Pca | None:
    """Return PCA of raw rows; None where it would cost more than the model."""
    return None if is_too_large(len(part), scaler.inputs) else Pca(part, scaler, components)


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
