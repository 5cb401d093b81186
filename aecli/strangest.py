"""Rows with their scores, and the strangest of as many as there may be."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.data.source import Batch, joined

Array = np.ndarray[Any, Any]
LEAST_WAITING = 4096  # rows that are put in order together


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch of rows with their `score` (N,) and `p` (N,): see scoring.py."""

    batch: Batch
    score: Array
    p: Array

    def __getitem__(self, rows: Any) -> "Judged":
        """Return the rows that a slice, a mask (N,) or places choose."""
        return Judged(self.batch[rows], self.score[rows], self.p[rows])


class Strangest:
    """The `count` strangest of the rows that are added, in memory that does not grow with these."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[Judged] = []
        self._waiting = 0
        self._least = -np.inf

    def add(self, rows: Judged) -> None:
        """Add rows that come after those before. Rows without a score are none."""
        rows = rows[rows.score > self._least]
        self._kept.append(rows)
        self._waiting += len(rows.p)
        if self._waiting >= max(LEAST_WAITING, self._count):
            self._kept, self._waiting = [self.rows()], 0

    def rows(self) -> Judged:
        """Return the strangest rows, the strangest first, and of equal ones the earlier one."""
        batch = joined([each.batch for each in self._kept])
        every = Judged(
            batch, *(np.concatenate([getattr(each, name) for each in self._kept]) for name in ("score", "p"))
        )
        found = every[np.argsort(-every.score, kind="stable")[: self._count]]
        if len(found.p) == self._count:
            self._least = found.score[-1]
        return found
