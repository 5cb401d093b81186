"""What judges a model: PCA, the linear autoencoder with the least error."""

from typing import Any

import numpy as np

from aecli.scaler import Scaler

Array = np.ndarray[Any, Any]
PCA_MAX_INPUTS = 4096
CHUNK_VALUES = 1 << 20


def pca_mse(x: Array, x_test: Array, scaler: Scaler, components: int) -> float | None:
    """Mean squared error of PCA with this many components, fitted to raw rows `x` (N, D), on `x_test` (M, D).

    Both are scaled first, so that the error is in the model's units. None above PCA_MAX_INPUTS inputs: the covariance
    matrix would cost more than the model.
    Source: Pearson 1901; Bourlard and Kamp 1988 for its being the best linear autoencoder.
    """
    inputs = x.shape[1]
    if inputs > PCA_MAX_INPUTS:
        return None
    step = max(1, CHUNK_VALUES // inputs)
    total, products = np.zeros(inputs), np.zeros((inputs, inputs))
    for start in range(0, len(x), step):
        part = scaler.transform(x[start : start + step])
        total += part.sum(axis=0, dtype=np.float64)
        products += part.T @ part
    mean = total / len(x)
    _, vectors = np.linalg.eigh(products / len(x) - np.outer(mean, mean))
    basis = vectors[:, ::-1][:, :components]  # (D, K)
    error = 0.0
    for start in range(0, len(x_test), step):
        centred = scaler.transform(x_test[start : start + step]) - mean
        error += float(np.square(centred - centred @ basis @ basis.T).sum())
    return error / x_test.size
