"""Detect whether rows as a whole differ from the training rows of a model, and in which columns the most.

Among rows like the training rows, the share of anomalies is alpha. If there are more than chance allows, the rows
differ. A column differs by the distance of its mean from that of the training rows, in standard errors.
Shape letters: N rows, E inputs of the model.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.scoring import FITTED_ROWS

if TYPE_CHECKING:
    from aecli.inference import Model

Array = np.ndarray[Any, Any]
LEAST_ROWS = 20  # fewer rows are not judged
CHANCE = 1e-4  # rows differ if so many anomalies are less likely than this
FAR, NAMED = 5.0, 3  # columns are named from so many standard errors on; the most that are named
FLAT = 1e-6  # the spread of a column that was constant in training, relative to its magnitude


@dataclass(frozen=True)
class Verdict:
    """The probability `p` of so many anomalies among rows like the training rows; the `columns` that differ most."""

    p: float
    columns: tuple[str, ...]


class Drift:
    """Counts rows and their anomalies as they arrive, and sums their inputs."""

    def __init__(self, model: "Model", alpha: float) -> None:
        self._model, self.alpha = model, alpha
        self.rows = self.anomalies = 0
        inputs = model.scaler.inputs
        self._sums, self._counts = np.zeros(inputs), np.zeros(inputs, np.int64)
        self._has_columns = model.schema.image_shape is None

    def add(self, x: Array, p: Array) -> None:
        """Count raw rows (N, D). Rows with a `p` (N,) of NaN have no score."""
        scored = ~np.isnan(p)
        self.rows += int(scored.sum())
        self.anomalies += int((p <= self.alpha).sum())
        if self._has_columns:
            raw = x[scored]
            inputs, empty = self._model.scaler.transform(raw), self._model.scaler.holes(raw)
            self._sums += (inputs if empty is None else np.where(empty, 0, inputs)).sum(axis=0, dtype=np.float64)
            self._counts += len(raw) if empty is None else (~empty).sum(axis=0)

    @property
    def expected(self) -> float:
        """The expected number of anomalies among rows like the training rows."""
        return self.alpha * self.rows

    def verdict(self) -> Verdict | None:
        """Return how the rows differ from the training rows; None if chance explains it, or there are too few rows."""
        if self.rows < LEAST_ROWS or self.anomalies <= self.expected:
            return None
        n = len(self._model.scoring.calibration)
        p = at_least(self.anomalies, self.rows, n, max(1, int(self.alpha * (n + 1) + 1e-9)))
        return Verdict(p, self._farthest()) if p < CHANCE else None

    def _farthest(self) -> tuple[str, ...]:
        """Return the names of the columns whose means are farthest from those of the training rows."""
        if not self._has_columns:
            return ()
        score, schema = self._model.scoring, self._model.schema
        known = min(
            FITTED_ROWS, max(1, self._model.checkpoint.results.rows // 2)
        )  # the number of rows of the training means
        spread = np.maximum(score.spread, FLAT * (1 + np.abs(score.mean)))
        counts = np.maximum(1, self._counts)
        off = np.abs(self._sums / counts - score.mean) / (spread * np.sqrt(1 / counts + 1 / known))  # (E,)
        off[self._counts == 0] = 0
        by_column = np.maximum.reduceat(off, np.cumsum((0, *schema.widths[:-1])))  # (D,)
        order = np.argsort(-by_column, kind="stable")[:NAMED]
        return tuple(schema.names[i] for i in order if by_column[i] > FAR)


def at_least(count: int, rows: int, n: int, k: int) -> float:
    """Return how likely `count` or more of `rows` rows are as strange as the `k` strangest of `n` calibration rows.

    The share of such rows is not exactly k/(n + 1). It depends on which calibration rows were drawn, and has a beta
    distribution with k and n + 1 - k. So the number of such rows has a beta-binomial distribution. The sum runs over
    falling terms, so `count` must be above the expected number. `k` is at most n + 1.
    """
    if k > n:
        return 1.0
    a, b, gamma = k, n + 1 - k, math.lgamma
    logs = gamma(rows + 1) - gamma(count + 1) - gamma(rows - count + 1) + gamma(a + b) - gamma(a) - gamma(b)
    logs += gamma(count + a) + gamma(rows - count + b) - gamma(rows + a + b)
    term, total = math.exp(logs), 0.0
    while count <= rows and term > total * 1e-12:
        total += term
        term *= (rows - count) / (count + 1) * (count + a) / (rows - count + b - 1) if count < rows else 0
        count += 1
    return min(1.0, total)
