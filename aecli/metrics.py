"""What judges a model: PCA, the linear autoencoder with the least error."""

from typing import Any

import numpy as np

from aecli.data.part import Part
from aecli.model.scaler import Scaler

Array = np.ndarray[Any, Any]
PCA_MAX_INPUTS = 4096
CHUNK_VALUES = 1 << 20


def pca_mse(part: Part, test_part: Part, scaler: Scaler, components: int) -> float | None:
    """Mean squared error of PCA with this many components, fitted to the raw rows of `part`, on those of `test_part`.

    Both are scaled first, so that the error is in the model's units; their holes are filled with means, and are not in
    the error. None above PCA_MAX_INPUTS inputs: the covariance matrix would cost more than the model.
    Source: Pearson 1901; Bourlard and Kamp 1988 for its being the best linear autoencoder.
    """
    inputs = scaler.inputs
    if inputs > PCA_MAX_INPUTS:
        return None
    total, products = np.zeros(inputs), np.zeros((inputs, inputs))
    for chunk in part.chunks(CHUNK_VALUES):
        x = scaler.transform(chunk)
        total += x.sum(axis=0, dtype=np.float64)
        products += x.T @ x
    mean = total / len(part)
    _, vectors = np.linalg.eigh(products / len(part) - np.outer(mean, mean))
    basis = vectors[:, ::-1][:, :components]  # (D, K)
    error, count = 0.0, len(test_part) * inputs
    for chunk in test_part.chunks(CHUNK_VALUES):
        centred = scaler.transform(chunk) - mean
        squares = np.square(centred - centred @ basis @ basis.T)
        if (holes := scaler.holes(chunk)) is not None:
            squares[holes] = 0
            count -= int(holes.sum())
        error += float(squares.sum())
    return error / max(1, count)


class Moments:
    """The means and the variances of columns, gathered batch by batch. Source: Chan, Golub and LeVeque 1979."""

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self.mean = np.zeros(columns)
        self._squares = np.zeros(columns)

    @property
    def variance(self) -> Array:
        """The variance of each column, of as many degrees of freedom as rows."""
        return self._squares / max(1, self.rows)

    def add(self, x: Array) -> None:
        """Take in rows (N, columns)."""
        rows = self.rows + len(x)
        mean = x.mean(axis=0, dtype=np.float64)
        away = mean - self.mean
        self._squares += np.square(x - mean).sum(axis=0) + np.square(away) * (self.rows * len(x) / rows)
        self.mean += away * (len(x) / rows)
        self.rows = rows


def variance_rebuilt(squares: Array, moments: Moments, widths: tuple[int, ...]) -> Array:
    """Return which share of each feature's variance is rebuilt, (D,): 1 minus its error over its variance.

    `squares` (E,) is the mean squared error of each of the model's inputs, `moments` are theirs; a feature takes as
    many of them as `widths` says. NaN for a feature that is constant.
    """
    starts = np.cumsum((0, *widths[:-1]))
    variance, error = np.add.reduceat(moments.variance, starts), np.add.reduceat(squares, starts)
    constant = variance <= 1e-12 * np.add.reduceat(np.square(moments.mean), starts)
    return np.where(constant, np.nan, 1 - error / np.where(constant, 1, variance))
