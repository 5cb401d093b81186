"""Rebuilt rows as the columns of a table: their names, their kinds, their empty cells."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from aecli.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from aecli.config import Column, Schema
    from aecli.data.source import Batch, Source
    from aecli.inference import Decoded, Model

    Array = np.ndarray[Any, Any]

T = TypeVar("T")
LATEST = 253_402_300_800  # seconds from 1970 to the year 10000


def order(schema: "Schema", *, turned: bool) -> "Array | None":
    """Return the positions (D,) of a model's values in data with the channels first, None for other data."""
    if not turned or schema.image_shape is None:
        return None
    from aecli.data.arrays import places

    return places(schema.image_shape)


def in_order(values: Sequence[T], places: "Array | None") -> Sequence[T]:
    """Return values (D,) in another order."""
    return values if places is None else [values[place] for place in places]


def is_by_name(schema: "Schema") -> bool:
    """Return whether each value is a column with a name, which it keeps in another order."""
    return bool(schema.features) and len(schema.columns) == schema.inputs


def written_names(schema: "Schema", places: "Array | None") -> Sequence[str]:
    """Return the names of the columns of rebuilt rows. A vector is one column."""
    if any(column.kind == "vector" for column in schema.columns):
        return schema.column_names
    return in_order(schema.names, places) if is_by_name(schema) else schema.names


def rebuilt_table(
    out: "Decoded",
    model: "Model",
    names: Sequence[str],
    *,
    nulls: bool,
    places: "Array | None" = None,
    types: Sequence[Any] = (),
    holes_only: bool = False,
) -> dict[str, Any]:
    """Return rebuilt rows as columns by their `written_names`, with empty cells in rows that could not be read.

    `nulls` is True if the output can have empty cells. `types` are the types of the data's columns, if it has columns;
    a vector is written as a vector. See `rebuilt_columns`.
    """
    blank, columns = out.batch.blank if nulls else None, model.schema.columns
    if all(column.kind != "vector" for column in columns):
        values = rebuilt_columns(out, model, blank=blank, holes_only=holes_only)
        return dict(zip(names, in_order(values, places), strict=True))
    table, place = dict[str, Any](), 0
    for i, (name, column) in enumerate(zip(names, columns, strict=True)):
        if column.kind == "vector":
            vectors = _vectors(out, model, slice(place, place + column.width), holes_only=holes_only)
            vectors = vectors if places is None else vectors[:, places]
            table[name] = _as_lists(vectors, types[i] if types else None) if nulls else vectors
        else:
            table[name] = _rebuilt(out, model, place, holes_only=holes_only)
        place += column.width
    return emptied(table, blank)


def _vectors(out: "Decoded", model: "Model", place: slice, *, holes_only: bool) -> "Array":
    """Return the values of a vector (N, width) in rebuilt rows, as float64 if float32 would round them visibly."""
    import numpy as np

    vectors = out.recon[:, place].astype(np.float64 if any(model.scaler.decimals[1][place]) else np.float32, copy=False)
    return np.where(np.isnan(own := out.batch.x[:, place]), vectors, own) if holes_only else vectors


def _as_lists(vectors: "Array", kind: Any) -> Any:
    from aecli.data.sinks import as_lists

    return as_lists(vectors, kind)


def rebuilt_columns(out: "Decoded", model: "Model", *, blank: Any = None, holes_only: bool = False) -> list[Any]:
    """Return the columns of rebuilt rows (N, D) in their kinds: numbers, dates, texts.

    With `holes_only` the rows' own values stay, and only their holes get rebuilt values. Rows that are `blank` (N,) are
    empty, and so are dates out of range.
    """
    columns = [_rebuilt(out, model, i, holes_only=holes_only) for i in range(len(model.schema.values))]
    return columns if blank is None else [without(column, blank) for column in columns]


def _rebuilt(out: "Decoded", model: "Model", place: int, *, holes_only: bool) -> Any:
    """Return one of the columns of `rebuilt_columns`."""
    import numpy as np

    (decimals, wide), column = model.scaler.decimals, model.schema.values[place]
    values = out.recon[:, place]
    if column.kind == "number" and (wide[place] or holes_only):
        values = np.round(values.astype(np.float64), decimals[place])
    if holes_only:
        own = out.batch.x[:, place]
        values = np.where(np.isnan(own), values, own)
    is_coarse = column.kind == "number" and not (wide[place] or holes_only)
    return values.astype(np.float32, copy=False) if is_coarse else as_written(values, column)


def as_written(values: "Array", column: "Column") -> Any:
    """Return raw numbers (N,) in the kind of a column. NaN and dates out of range become empty."""
    import numpy as np

    from aecli.data.kinds import from_numbers

    if column.kind == "number":
        return values
    lost = ~(np.abs(values) < LATEST) | ((column.kind == "category") & (values < 0))
    return without(from_numbers(np.where(lost, 0, values), column), lost)


class Carried:
    """The columns that are copied to the output: kept ones, then the label, if the data has one and it is wanted."""

    def __init__(self, source: "Source", keep: Sequence[str], *, label: bool, beside: Sequence[str]) -> None:
        """Raise DataError if a copied column has one of the names `beside`, which the output needs."""
        self._label = source.schema.label if label else None
        for name in (*keep, *([self._label] if self._label else [])):
            if name in beside:
                raise DataError(
                    f"{source.name}: column {name!r} cannot be copied to the output, "
                    f"which has a column {name!r} of its own",
                    hint="rename it first" if name in keep else "leave it out with --no-label, or rename it first",
                )

    def of(self, batch: "Batch") -> dict[str, Any]:
        """Return the copied columns of a batch by name."""
        columns = dict(batch.kept)
        if self._label is not None and batch.labels is not None:
            columns[self._label] = batch.labels
        return columns


def filled_columns(out: "Decoded", rebuilt: Mapping[str, Any], source: "Source") -> dict[str, Any]:
    """Return a table's own columns, each cell as it was read, and rebuilt values in the holes of its features."""
    import numpy as np

    from aecli.data.filling import filled
    from aecli.data.sinks import to_table

    columns = dict(out.batch.kept)
    place = 0
    for name, column in zip(source.features, source.schema.columns, strict=True):
        holes = np.asarray(np.isnan(out.batch.x[:, place : place + column.width]).any(axis=1))
        if out.batch.blank is not None:
            holes &= ~out.batch.blank
        if holes.any():
            values = to_table({name: rebuilt[column.name or name]}).column(0).combine_chunks()
            columns[name] = filled(columns[name], values, holes)
        place += column.width
    return columns


def source_columns(outputs: "Iterable[Decoded]", model: "Model", source: "Source | None" = None) -> dict[str, Any]:
    """Return all rebuilt rows of a source, or all decoded rows, as columns by name: see `rebuilt_table`."""
    return _source_columns(_together(outputs), model, source)


def holed_columns(outputs: "Iterable[Decoded]", model: "Model", source: "Source") -> dict[str, Any]:
    """Return the columns of a source that have holes, filled with rebuilt values: see `filled_columns`."""
    out = _together(outputs)
    filled = filled_columns(out, _source_columns(out, model, source, holes_only=True), source)
    return {name: column for name, column in filled.items() if column is not out.batch.kept.get(name)}


def _source_columns(
    out: "Decoded", model: "Model", source: "Source | None", *, holes_only: bool = False
) -> dict[str, Any]:
    schema, turned = model.schema, model.schema.channels_first
    if source is not None:
        schema = schema if schema.features or not source.schema.columns else source.schema
        turned = source.turned
    places = order(model.schema, turned=turned)
    types = () if source is None else source.types
    names = written_names(schema, places)
    return rebuilt_table(out, model, names, nulls=True, places=places, types=types, holes_only=holes_only)


def _together(outputs: "Iterable[Decoded]") -> "Decoded":
    """Return batches of rebuilt rows joined to one."""
    import numpy as np

    from aecli.data.source import joined
    from aecli.inference import Decoded

    batches, z, recon = zip(*((out.batch, out.z, out.recon) for out in outputs), strict=True)
    return Decoded(joined(batches), np.concatenate(z), np.concatenate(recon))


def emptied(columns: Mapping[str, Any], blank: Any) -> dict[str, Any]:
    """Return columns with empty cells in the rows that are `blank` (N,), which could not be read; None if all could."""
    return dict(columns) if blank is None else {name: without(column, blank) for name, column in columns.items()}


def without(column: Any, rows: Any) -> Any:
    """Return a column with empty cells in some rows (N,)."""
    if not rows.any():
        return column
    if isinstance(column, list):
        return [None if lost else cell for cell, lost in zip(column, rows.tolist(), strict=True)]
    import pyarrow as pa
    import pyarrow.compute as pc

    from aecli.data.sinks import to_table

    values = to_table({"": column}).column(0).combine_chunks()
    return pc.if_else(pa.array(~rows), values, pa.scalar(None, values.type))
