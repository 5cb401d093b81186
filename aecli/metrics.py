"""What judges a model: PCA, the linear autoencoder with the least error."""

import numpy as np

from aecli.data.part import Part
from aecli.scaler import Scaler

PCA_MAX_INPUTS = 4096
CHUNK_VALUES = 1 << 20


def pca_mse(part: Part, test_part: Part, scaler: Scaler, components: int) -> float | None:
    """Mean squared error of PCA with this many components, fitted to the raw rows of `part`, on those of `test_part`.

    Both are scaled first, so that the error is in the model's units. None above PCA_MAX_INPUTS inputs: the covariance
    matrix would cost more than the model.
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
    error = 0.0
    for chunk in test_part.chunks(CHUNK_VALUES):
        centred = scaler.transform(chunk) - mean
        error += float(np.square(centred - centred @ basis @ basis.T).sum())
    return error / (len(test_part) * inputs)
