"""The rows that do not fit: how strange each row is, and why. `aecli score` writes it, `Model.anomalies` returns it.

Shape letters: N rows, D values per row, E inputs of the model.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.data.source import Batch
from aecli.errors import DataError, UsageError
from aecli.explaining import explain, shares
from aecli.model.checkpoint import smallest
from aecli.rebuilding import Carried, as_written, emptied, is_by_name, order, rebuilt_columns, without
from aecli.strangest import Judged, Strangest

if TYPE_CHECKING:
    from aecli.config import Column, Schema
    from aecli.data.source import Source
    from aecli.inference import Model, Scored

Array = np.ndarray[Any, Any]


def level(model: "Model", asked: float | None) -> float:
    """Return the highest p of an anomaly: the one `asked` for, or else the model's own.

    Raises DataError if the model gives no p so small, or if it has no score; UsageError if `asked` is above 1.
    """
    scoring = model.scoring
    if asked is None:
        return scoring.alpha
    if asked > 1:
        raise UsageError(f"alpha is {asked:g}, and a p is at most 1")
    if asked < scoring.least_p:
        least, rows = smallest(scoring.least_p), len(scoring.calibration)
        raise DataError(
            f"--alpha is {asked:g}, and {model.name} gives no p below {least}: {rows:,} training "
            f"row{'s' * (rows != 1)} calibrate its scores",
            hint=f"--alpha {least} is the smallest; a model trained on more rows allows a smaller one",
        )
    return asked


def judged(outputs: "Iterator[Scored]", top: int | None = None, most: float = np.inf) -> Iterator[Judged]:
    """Yield the scored rows as they arrive, or with `top` only the strangest, the strangest first, at the end.

    `most` is the highest p of the rows; with the default, rows without a score are included.
    """
    if top is not None and top < 1:
        raise UsageError(f"top is {top}, and must be at least 1")
    strangest = None if top is None else Strangest(top)
    for out in outputs:
        found = Judged(out.batch, out.score, out.p)
        if most < np.inf:
            found = found[found.p <= most]
        if strangest is None:
            yield found
        else:
            strangest.add(found)
    if strangest is not None:
        yield strangest.rows()


class Answers:
    """The columns that are written of scored rows: carried ones, the score, and the `reasons` for it.

    `reasons` is the number of reasons, at most D. With `numbered`, rows have their number in the source, from 1.
    """

    def __init__(
        self,
        model: "Model",
        source: "Source",
        level: float,
        reasons: int,
        keep: Sequence[str] = (),
        *,
        label: bool = False,
        numbered: bool = False,
    ) -> None:
        """Raise DataError if a carried column has a name that the output needs, UsageError for reasons below 0."""
        if reasons < 0:
            raise UsageError(f"top_features is {reasons}, and must be at least 0")
        self._model, self._source, self._level, self._numbered = model, source, level, numbered
        self._reasons = min(reasons, model.schema.inputs)
        names = [f"{what}{i + 1}" for i in range(self._reasons) for what in ("worst", "value", "expected", "share")]
        self._carried = Carried(
            source, keep, label=label, beside=[*["row"] * numbered, "score", "p", "anomaly", *names]
        )

    def of(self, found: Judged, *, nulls: bool = True, mixes: bool = False) -> dict[str, Any]:
        """Return the columns of rows by name. With `nulls`, rows that could not be read have empty cells.

        With `mixes`, a column of reasons may be a list of numbers and texts: see `reasons`.
        """
        batch, columns = found.batch, dict[str, Any]()
        if self._numbered and batch.numbers is not None:
            columns["row"] = batch.numbers + 1
        columns |= {"score": found.score, "p": found.p, "anomaly": (found.p <= self._level).astype("int64")}
        if self._reasons:
            columns |= reasons(batch.x, self._model, self._source, self._reasons, mixes=mixes)
        return self._carried.of(batch) | emptied(columns, batch.blank if nulls else None)


def reasons(x: Array, model: "Model", source: "Source", count: int, *, mixes: bool = False) -> dict[str, Any]:
    """Return what makes raw rows (N, D) strange: worst1, value1, expected1, share1, worst2, ...

    The values are in the units and kinds of the `source`. If not all of them are numbers, they are texts; with `mixes`,
    numbers stay numbers, and the column is a list.
    """
    amounts, expected = explain(model, x)
    if source.units is not None:
        x, expected = source.units.to_rows(x), source.units.to_rows(expected)
    own = [
        _own(values.astype(np.float64), column, tuple(source.unknown.get(i, ())))
        for i, (values, column) in enumerate(zip(x.T, model.schema.values, strict=True))
    ]
    usual = rebuilt_columns(_decoded(x, expected), model)
    named = worst(amounts, model.schema, count, order(model.schema, turned=source.turned))
    columns = dict[str, Any]()
    for i, found in enumerate(_largest(amounts, count)):
        rank = i + 1
        columns[f"worst{rank}"] = named[f"worst{rank}"]
        columns[f"value{rank}"] = _picked(own, found, mixes=mixes)
        columns[f"expected{rank}"] = _picked(usual, found, mixes=mixes)
        columns[f"share{rank}"] = named[f"share{rank}"]
    return columns


def _decoded(x: Array, recon: Array) -> Any:
    from aecli.inference import Decoded

    return Decoded(Batch(x), x, recon)


def _own(values: Array, column: "Column", unknown: Sequence[str]) -> Any:
    """Return raw numbers (N,) as cells, with the `unknown` texts of a category for -1, -2, ...: see `Source`."""
    if unknown:
        known = len(column.categories)
        column = dataclasses.replace(column, categories=(*column.categories, *unknown))
        values = np.where(values < 0, known - 1 - values, values)
    return as_written(values, column)


def worst(amounts: Array, schema: "Schema", count: int, places: Array | None = None) -> dict[str, Any]:
    """Return the columns with the largest shares (N, D) in each row, and these: worst1, share1, worst2, ...

    Columns without a name are numbered in the order of the `places`: see `rebuilding.order`.
    """
    names = np.array(schema.names)
    if places is not None and not is_by_name(schema):
        names = names[np.argsort(places)]
    columns: dict[str, Any] = {}
    for i, found in enumerate(_largest(amounts, count)):
        columns[f"worst{i + 1}"] = names[found]
        columns[f"share{i + 1}"] = np.take_along_axis(amounts, found[:, None], axis=1)[:, 0]
    return columns


def _largest(amounts: Array, count: int) -> list[Array]:
    """Return the positions (N,) of the largest shares (N, D) of each row, of the second largest, ..."""
    return list(np.argsort(-amounts, axis=1, kind="stable")[:, :count].T)


def by_squares(squares: Array, schema: "Schema") -> Array:
    """Return each column's share (N, D) of the squared errors (N, E) of a model's inputs; categories are summed."""
    return shares(np.add.reduceat(squares, np.cumsum((0, *schema.widths[:-1])), axis=1))


def _picked(columns: Sequence[Any], places: Array, *, mixes: bool) -> Any:
    """Return one cell of each row, from the column at its place (N,): numbers if all columns hold numbers."""
    if all(isinstance(column, np.ndarray) for column in columns):
        found = np.take_along_axis(np.stack(columns, axis=1), places[:, None], axis=1)[:, 0]
        return without(found, np.isnan(found))
    import pyarrow as pa

    cells = {place: _cells(columns[place], mixes=mixes) for place in set(places.tolist())}
    picked = [cells[place][row] for row, place in enumerate(places.tolist())]
    return picked if mixes else pa.array(picked, pa.string())


def _cells(column: Any, *, mixes: bool) -> Sequence[Any]:
    """Return the cells of a column as texts; if it holds numbers and `mixes`, as the numbers that the texts show."""
    from aecli.data.sinks import texts

    if not isinstance(column, np.ndarray):
        return texts(column)
    cells = texts(without(column, np.isnan(column)))
    return [None if cell is None else float(cell) for cell in cells] if mixes else cells
