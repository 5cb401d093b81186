"""Rows with their scores, and the strangest rows of a stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.data.source import Batch, joined

Array = np.ndarray[Any, Any]
LEAST_WAITING = 4096  # rows to sort together


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch of rows with their `score` (N,) and `p` (N,): see scoring.py."""

    batch: Batch
    score: Array
    p: Array

    def __getitem__(self, rows: Any) -> "Judged":
        """Return the rows chosen by a slice, a mask (N,) or indices."""
        return Judged(self.batch[rows], self.score[rows], self.p[rows])


def together(found: Sequence[Judged]) -> Judged:
    """Return several batches of rows as one."""
    batch = joined([each.batch for each in found])
    return Judged(batch, *(np.concatenate([getattr(each, name) for each in found]) for name in ("score", "p")))


class Strangest:
    """The `count` strangest of the added rows, in memory that does not grow with their number."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[Judged] = []
        self._waiting = 0
        self._least = -np.inf

    def add(self, rows: Judged) -> None:
        """Add later rows. Rows without a score are ignored."""
        rows = rows[rows.score > self._least]
        self._kept.append(rows)
        self._waiting += len(rows.p)
        if self._waiting >= max(LEAST_WAITING, self._count):
            self._kept, self._waiting = [self.rows()], 0

    def rows(self) -> Judged:
        """Return the strangest rows, the strangest first. Of equal ones the earlier comes first."""
        every = together(self._kept)
        found = every[np.argsort(-every.score, kind="stable")[: self._count]]
        if len(found.p) == self._count:
            self._least = found.score[-1]
        return found
