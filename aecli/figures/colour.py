"""What colours the rows of a picture: their label, another column of the data, or a column of another file."""

import difflib
from typing import Any

import numpy as np

from aecli.data.beside import PATH, Beside, split
from aecli.data.source import Batch, Source
from aecli.errors import DataError

Array = np.ndarray[Any, Any]


class Colour:
    """What colours the rows of a source. Ask for it batch by batch, in their order, then `check`.

    `name` is what the column is called, `word` how it was asked for, None for the label.
    """

    def __init__(self, source: Source, word: str | None = None) -> None:
        """Take the label, or what the word names: a column of the source's, or FILE:COLUMN.

        Raises DataError where there is no such file or column.
        """
        self.word, self._source = word, source
        self.beside = Beside(word) if word is not None and split(word) else None
        if self.beside is not None:
            self.beside.meet(source.paths)
        label = source.schema.label or "label"
        self.name = self.beside.column if self.beside else word or label
        self.is_label = self.beside is None and self.name == label

    def of(self, batch: Batch) -> Array | None:
        """Return the values (N,) of a batch's rows, as numbers, texts or dates; None where there are none.

        Raises DataError where there is no such column.
        """
        if self.beside is not None:
            return self.beside.of(batch)
        if self.is_label and (batch.labels is not None or self.word is None):
            return None if batch.labels is None else as_values(batch.labels)
        if self.name in batch.kept:
            return as_values(batch.kept[self.name])
        known = [*[self._source.schema.label or "label"] * (batch.labels is not None), *batch.kept]
        near = difflib.get_close_matches(self.name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(map(repr, known))}" if known else None
        raise DataError(
            f"{self._source.name}: --colour {self.name!r} names no column",
            hint=hint or "a column of another file is named FILE:COLUMN",
        )

    def check(self) -> list[str]:
        """Check, when all rows were asked for, that another file has as many. Return sentences on what it lacks.

        Raises DataError where it has not.
        """
        if self.beside is None:
            return []
        self.beside.check(self._source.left_out)
        how = [] if self.beside.how == f"matched by {PATH}" else [f"colours: {self.word}, {self.beside.how}"]
        return [*how, *self.beside.notes()]


def as_values(column: Any) -> Array:
    """Return a column (N,) of NumPy's or Arrow's as an array whose items are hashable: lists and structs are texts."""
    if isinstance(column, np.ndarray):
        return column
    import pyarrow as pa

    if pa.types.is_temporal(column.type) and not pa.types.is_time(column.type):
        return np.asarray(column)
    values = np.empty(len(column), object)
    nested = pa.types.is_nested(column.type)
    values[:] = [str(cell) if nested and cell is not None else cell for cell in column.to_pylist()]
    return values
