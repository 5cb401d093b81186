"""The choice of rows to show as examples: from all labels and all errors, or the strangest."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from aecli.data.labels import as_values
from aecli.data.sample import Stratified
from aecli.inference import Rebuilt, Scored

Array = np.ndarray[Any, Any]
MAX_LABELS = 100  # labels that get a share of their own
MAX_ROWS = 2048
MAX_BYTES = 1 << 26
HELD_OUT, TRAINING = "held out", "training"


@dataclass(frozen=True)
class Chosen:
    """The examples `x` (n, D), and the number from each origin, in their order; "" is an unknown origin."""

    x: Array
    origins: tuple[tuple[str, int], ...]


class Examples:
    """Chooses `count` rows of a stream. Equal streams give equal rows, however they are batched.

    Up to 100 labels have the same number of rows in a random sample of up to 2,048 rows, or 64 MiB; the examples are
    drawn from it. Held-out rows come first, if they are known. Within each origin, the smallest error comes first.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._sample: Stratified | None = None
        self._labels: dict[Any, None] = {}
        self._rng = np.random.default_rng(0)

    def add(self, out: Rebuilt, held_out: Array | None) -> None:
        """Offer the rows of a batch; `held_out` (N,) is a mask of held-out rows, None if that is unknown."""
        room = min(MAX_ROWS, max(self._count, MAX_BYTES // max(1, out.batch.x[:1].nbytes)))
        if self._sample is None:
            self._sample = Stratified(room)
        rows, there = len(out.z), np.isfinite(out.mse)
        labels = [None] * rows if out.batch.labels is None else as_values(out.batch.labels).tolist()
        seen = [None] * rows if held_out is None else (~held_out).tolist()
        for label in labels:
            if len(self._labels) < min(MAX_LABELS, room // 2):
                self._labels[label] = None
        group = np.empty(rows, object)
        labels = [label if label in self._labels else None for label in labels]
        group[:] = list(zip(seen, labels, strict=True))
        columns = {"key": self._rng.random(rows), "x": out.batch.x, "mse": out.mse}
        self._sample.add({name: column[there] for name, column in columns.items()}, group[there])

    def chosen(self) -> Chosen | None:
        """Return the examples; None if there are none."""
        by_origin: dict[Any, list[dict[str, Array]]] = {}
        for (seen, _), rows in (self._sample.groups() if self._sample else {}).items():
            by_origin.setdefault(seen, []).append(rows)
        left = self._count
        parts: list[Array] = []
        origins: list[tuple[str, int]] = []
        for seen, name in ((None, ""), (False, HELD_OUT), (True, TRAINING)):
            picked = self._picked(by_origin.get(seen, []), left)
            if picked:
                parts += picked
                origins.append((name, len(picked)))
                left -= len(picked)
        return Chosen(np.stack(parts), tuple(origins)) if parts else None

    def _picked(self, groups: list[dict[str, Array]], wanted: int) -> list[Array]:
        """Return up to `wanted` rows (D,), equally many from each group, spread over the range of errors."""
        room = np.array([len(rows["mse"]) for rows in groups], int)
        shares, wanted = np.zeros(len(groups), int), min(wanted, int(room.sum()))
        while shares.sum() < wanted:
            shares[self._rng.permutation(np.flatnonzero(shares < room))[: wanted - shares.sum()]] += 1
        levels = np.split((self._rng.permutation(wanted) + 0.5) / max(1, wanted), np.cumsum(shares)[:-1])
        rows: list[Array] = []
        errors: list[float] = []
        for group, mine in zip(groups, levels, strict=False):
            count, turn = len(group["mse"]), np.arange(len(mine))
            places = np.maximum.accumulate((np.sort(mine) * count).astype(int) - turn) + turn  # no row twice
            chosen = np.argsort(group["mse"], kind="stable")[np.minimum(places, count - len(mine) + turn)]
            rows += list(group["x"][chosen])
            errors += group["mse"][chosen].tolist()
        return [rows[i] for i in np.argsort(errors, kind="stable")]


class Strangest:
    """Keeps the `count` images of a stream that have the highest scores, the strangest first.

    `x` and `squares` (n, H, W, C) are the images and their squared errors, `score` (n,) their scores, `row` (n,) their
    row numbers, counted from 0.
    """

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self._count, self._seen = count, 0
        self.x = self.squares = np.zeros((0, *(*shape, 1)[:3]), np.float32)
        self.score, self.row = np.zeros(0), np.zeros(0, int)

    def add(self, out: Scored) -> None:
        """Offer the images of a batch."""
        score = np.concatenate([self.score, out.score])
        kept = np.argsort(-score, kind="stable")[: self._count]
        shape = self.x.shape[1:]
        self.x = np.concatenate([self.x, out.batch.x.reshape(-1, *shape)])[kept]
        self.squares = np.concatenate([self.squares, out.squares.reshape(-1, *shape)])[kept]
        self.row = np.concatenate([self.row, self._seen + np.arange(len(out.score))])[kept]
        self.score = score[kept]
        self._seen += len(out.score)
