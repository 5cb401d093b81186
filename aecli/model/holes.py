"""The values for a row's holes: what the model rebuilds there, corrected by its errors in the other cells.

The errors of a row's cells are correlated, the more so the narrower the bottleneck is. Let the errors e have a normal
distribution with precision P, the inverse of their covariance. Then the expected errors of the holes h, given those of
the other cells o, are -P_hh^-1 P_ho e_o. Shape letters: N rows, E inputs of the model.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
MAX_INPUTS = 512  # a model with more inputs gets no precision
RIDGE = 0.1  # share of each error's variance, added to it: few rows do not determine many correlations


def precision(products: Array, counts: Array) -> Array:
    """Return the precision of errors, float32 (E, E), from the sums of their products and the counts, (E, E)."""
    covariance = products / np.maximum(counts, 1)
    variance = np.diag(covariance)
    spread = np.sqrt(np.maximum(variance, max(1e-6 * float(variance.mean()), 1e-30)))  # a constant column has no error
    scale = np.outer(spread, spread)
    values, vectors = np.linalg.eigh(covariance / scale)
    inverse = vectors / (np.maximum(values, 0) + RIDGE) @ vectors.T  # pairs differ in their rows: may be below 0
    precise: Array = (inverse / scale).astype(np.float32)
    return precise


def fill(x: Array, recon: Array, holes: Array, precise: Array | None) -> Array:
    """Return `recon` (N, E) less the expected errors in the `holes` (N, E). `x` (N, E) has its holes filled."""
    out = recon.copy()
    if precise is None:
        return out
    with np.errstate(all="ignore"):
        errors = np.where(holes, 0, recon - x).astype(np.float64)
        pull = errors @ precise  # (N, E)
    for row in np.flatnonzero(holes.any(axis=1) & np.isfinite(pull).all(axis=1)):
        at = np.flatnonzero(holes[row])
        out[row, at] += np.linalg.solve(precise[np.ix_(at, at)].astype(np.float64), pull[row, at])
    return out
