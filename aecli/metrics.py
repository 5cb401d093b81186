"""What judges a model: PCA, the linear autoencoder with the least error."""

import math
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
        x = _scaled(chunk, scaler)
        total += x.sum(axis=0, dtype=np.float64)
        products += x.T @ x
    mean = total / len(part)
    _, vectors = np.linalg.eigh(products / len(part) - np.outer(mean, mean))
    basis = vectors[:, ::-1][:, :components]  # (D, K)
    error, count = 0.0, len(test_part) * inputs
    for chunk in test_part.chunks(CHUNK_VALUES):
        centred = _scaled(chunk, scaler) - mean
        squares = np.square(centred - centred @ basis @ basis.T)
        if (holes := scaler.holes(chunk)) is not None:
            squares[holes] = 0
            count -= int(holes.sum())
        error += float(squares.sum())
    return error / max(1, count)


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
