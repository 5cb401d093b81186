"""Random samples of a stream of rows, in bounded memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Sample:
    """Up to `count` rows of a stream, those with the smallest random keys, in input order."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: list[dict[str, Array]] = []
        self._waiting = 0
        self._below = 1.0  # larger keys are dropped

    def add(self, columns: Mapping[str, Array]) -> None:
        """Offer rows to the sample; `columns` has their random keys in [0, 1) as "key"."""
        fits = columns["key"] < self._below
        if fits.any():
            self._parts.append({name: column[fits] for name, column in columns.items()})
            self._waiting += int(fits.sum())
        if self._waiting > 2 * self._count:
            self._prune()

    def shrink(self, count: int) -> None:
        """Keep fewer rows from now on."""
        if count < self._count:
            self._count = count
            self._prune()

    def rows(self) -> dict[str, Array]:
        """Return the sampled rows."""
        self._prune()
        return self._parts[0] if self._parts else {}

    def _prune(self) -> None:
        if not self._parts:
            return
        whole = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        if len(whole["key"]) > self._count:
            smallest = np.sort(np.argpartition(whole["key"], self._count)[: self._count])
            whole = {name: column[smallest] for name, column in whole.items()}
            self._below = float(whole["key"].max())
        self._parts, self._waiting = [whole], len(whole["key"])


class Stratified:
    """A sample of up to `count` rows of a stream, in which each group gets the same share.

    Each group has at least one row, even if that is more than `count` in all.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._samples: dict[Any, Sample] = {}

    def add(self, columns: Mapping[str, Array], group: Array) -> None:
        """Offer rows as in `Sample.add`; `group` (N,) are their groups."""
        places: dict[Any, list[int]] = {}
        for i, name in enumerate(group.tolist()):
            places.setdefault(name, []).append(i)
        for name, mine in places.items():
            if name not in self._samples:
                self._samples[name] = Sample(self._count)
                for sample in self._samples.values():
                    sample.shrink(max(1, self._count // len(self._samples)))
            self._samples[name].add({column: values[mine] for column, values in columns.items()})

    def groups(self) -> dict[Any, dict[str, Array]]:
        """Return the rows of each group, in input order."""
        return {name: sample.rows() for name, sample in self._samples.items()}
