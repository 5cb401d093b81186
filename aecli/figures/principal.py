"""The principal directions of latent rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROUNDING = 1e-6  # of the largest code: smaller differences are rounding


@dataclass(frozen=True)
class Principal:
    """The mean (K,) of latent rows, and their P principal directions (P, K), the largest variance first.

    `shares` (P,) are the directions' shares of the total variance.
    """

    mean: Array
    directions: Array
    shares: Array

    def project(self, z: Array, count: int) -> Array:
        """Return the coordinates (N, count) of latent rows (N, K) on the first directions; the mean is at 0."""
        projected: Array = (z - self.mean) @ self.directions[:count].T
        return np.where(self.shares[:count] > 0, projected, 0)

    def name(self, place: int) -> str:
        """Return the name of a direction with its share of the variance: PC 1 (31%)."""
        share = self.shares[place]
        return f"PC {place + 1} ({'<1%' if 0 < share < 0.005 else f'{share:.0%}'})"


def principal(z: Array, most: int) -> Principal:
    """Return the principal directions of latent rows `z` (N, K), at most `most`. Source: Pearson 1901.

    A direction's sign is arbitrary: its largest component is made positive. Differences within rounding count as no
    variance.
    """
    mean = z.mean(axis=0, dtype=np.float64)
    centred = z - mean
    variances, vectors = np.linalg.eigh(centred.T @ centred)
    noise = len(z) * (ROUNDING * float(np.abs(z).max())) ** 2
    variances = np.where(variances > noise, variances, 0)[::-1]
    directions = vectors.T[::-1][:most]
    largest = np.abs(directions).argmax(axis=1)[:, None]
    directions = directions * np.where(np.take_along_axis(directions, largest, axis=1) < 0, -1, 1)
    return Principal(mean, directions, variances[:most] / max(float(variances.sum()), 1e-30))
