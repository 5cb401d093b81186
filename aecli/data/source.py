"""What every source of rows is: a schema, and batches in input order.

Shape letters, here and everywhere: N rows, D input values a row, K latent values a row.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aecli.config import Schema
from aecli.errors import DataError


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in the source's own units: `x` (N, D), `labels` (N,) where known, `kept` columns (N,) by name."""

    x: np.ndarray[Any, Any]
    labels: Any = None
    kept: Mapping[str, Any] = field(default_factory=dict)


class Source(ABC):
    """Rows from somewhere. `rows` is their number where that is known before they are read."""

    def __init__(self, name: str, schema: Schema, rows: int | None = None) -> None:
        self.name = name
        self.schema = schema
        self.rows = rows

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Yield the rows in input order, in batches of whatever size the source finds natural.

        Raises DataError where the data breaks off, or holds what is not a finite number.
        """

    def read(self) -> Batch:
        """Return all rows as one batch."""
        batches = list(self.batches())
        if len(batches) == 1:
            return batches[0]
        labels = None if batches[0].labels is None else np.concatenate([np.asarray(b.labels) for b in batches])
        kept = {name: np.concatenate([np.asarray(b.kept[name]) for b in batches]) for name in batches[0].kept}
        return Batch(np.concatenate([b.x for b in batches]), labels, kept)


class ArraySource(Source):
    """Rows of one array (N, ...), in memory or memory-mapped, with labels (N,) or without."""

    batch_size = 4096

    def __init__(self, name: str, array: np.ndarray[Any, Any], labels: Any = None, **schema: Any) -> None:
        if array.size == 0:
            raise DataError(f"{name}: no rows to read, the array's shape is {array.shape}")
        self.x = array.reshape(len(array), -1)  # (N, D)
        self.labels = labels
        super().__init__(name, Schema(self.x.shape[1], **schema), len(array))

    def batches(self) -> Iterator[Batch]:
        for start in range(0, len(self.x), self.batch_size):
            yield self._rows(slice(start, start + self.batch_size))

    def read(self) -> Batch:
        return self._rows(slice(None))

    def _rows(self, rows: slice) -> Batch:
        x = self.x[rows]
        check_finite(x, self.name, self.schema, first_row=rows.start or 0)
        return Batch(x, None if self.labels is None else self.labels[rows])


def check_finite(x: np.ndarray[Any, Any], name: str, schema: Schema, first_row: int) -> None:
    """Raise a DataError that names the row and the column of the first value of `x` (N, D) that is NaN or infinite.

    `first_row` is how many rows of the source came before these; rows are named counting from 1.
    """
    if not np.issubdtype(x.dtype, np.floating):
        return
    step = max(1, (1 << 22) // max(1, x.shape[1]))  # bounds the temporary that isfinite makes
    for start in range(0, len(x), step):
        finite = np.isfinite(x[start : start + step])
        if finite.all():
            continue
        row, column = np.unravel_index(int(finite.argmin()), finite.shape)
        found = x[start + row, column]
        what = "is empty or NaN" if np.isnan(found) else "is infinite"
        raise DataError(
            f"{name}: row {first_row + start + row + 1}, column {schema.names()[column]!r} {what}, "
            "and every value must be a finite number",
            hint="fill or drop such rows first"
            if schema.features is None
            else "fill such cells, drop such rows, or "
            f"leave the column out of training with --exclude {schema.features[column]!r}",
        )
