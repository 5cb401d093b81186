"""What stands in a row's holes: what the model rebuilds there, and what its errors in the other cells say of it.

The errors of a row's cells hang together, the more so the narrower the bottleneck is. Under a normal distribution of
errors e with precision P, the inverse of their covariance, those of the holes h are expected at -P_hh^-1 P_ho e_o given
those of the other cells o. Shape letters: N rows, E inputs of the model.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
MAX_INPUTS = 512  # of a model that gets one
RIDGE = 0.1  # of each error's variance, added to it: few rows do not tell how many errors hang together


def precision(products: Array, counts: Array) -> Array:
    """Return the precision of errors, float32 (E, E), from sums of their products and the numbers of these, (E, E)."""
    covariance = products / np.maximum(counts, 1)
    variance = np.diag(covariance)
    spread = np.sqrt(np.maximum(variance, max(1e-6 * float(variance.mean()), 1e-30)))  # a constant column has no error
    scale = np.outer(spread, spread)
    values, vectors = np.linalg.eigh(covariance / scale)
    inverse = vectors / (np.maximum(values, 0) + RIDGE) @ vectors.T  # of pairs, each of other rows: perhaps below 0
    precise: Array = (inverse / scale).astype(np.float32)
    return precise


def fill(x: Array, recon: Array, holes: Array, precise: Array | None) -> Array:
    """Return `recon` (N, E) with the errors that are expected in the `holes` (N, E) taken off. `x` (N, E) is filled."""
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
