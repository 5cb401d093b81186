"""The tables that embed, reconstruct and decode write."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aecli.cli import console, rows
from aecli.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from aecli.config import Schema
    from aecli.data.sinks import Sink
    from aecli.data.source import Batch, Source
    from aecli.inference import Decoded, Encoded, Model, Rebuilt

    Array = np.ndarray[Any, Any]

T = TypeVar("T")
LATEST = 253_402_300_800  # seconds from 1970 to the year 10000


@contextlib.contextmanager
def open_output(
    output: str | None, form: str | None, *, header: bool, inputs: Sequence[str], quiet: bool
) -> "Iterator[Sink]":
    """Open the sink that --output and --format mean: stdout, or a file that appears only when it is whole."""
    from aecli.data import sinks

    if output is None or output == "-":
        if form == "npy":
            raise UsageError("NPY is written to a file, not to stdout", hint="name one: -o rows.npy")
        with (
            console.results(or_file=True) as stream,
            sinks.to_stream(stream, form or "csv", header=header) as sink,
        ):
            yield sink
        return
    path = Path(output)
    chosen = sinks.format_of(path, form)
    rows.check_output(path, *inputs)
    rows.keep_checkpoint(path)
    existed = path.exists()
    with sinks.to_file(path, chosen, header=header) as sink:
        yield sink
    rows.say_written(path, replaced=existed, quiet=quiet)


class Carried:
    """The columns that are carried along: kept ones, then the label, where the data has one and it is wanted."""

    def __init__(self, source: "Source", keep: Sequence[str], *, label: bool, beside: Sequence[str]) -> None:
        """Raise DataError where a carried column bears one of the names `beside` it that the output needs."""
        self._label = source.schema.label if label else None
        for name in (*keep, *([self._label] if self._label else [])):
            if name in beside:
                raise DataError(
                    f"{source.name}: column {name!r} cannot be carried along, "
                    f"the output has a column {name!r} of its own",
                    hint="rename it first" if name in keep else "leave it out with --no-label, or rename it first",
                )

    def of(self, batch: "Batch") -> dict[str, Any]:
        """Return the carried columns of a batch by name."""
        columns = dict(batch.kept)
        if self._label is not None and batch.labels is not None:
            columns[self._label] = batch.labels
        return columns


def order(schema: "Schema", *, turned: bool) -> "Array | None":
    """Return the places (D,) of a model's values in the order of data whose channels came first; None elsewhere."""
    if not turned or schema.image_shape is None:
        return None
    from aecli.data.arrays import places

    return places(schema.image_shape)


def in_order(values: Sequence[T], places: "Array | None") -> Sequence[T]:
    """Return values (D,) in another order."""
    return values if places is None else [values[place] for place in places]


def is_by_name(schema: "Schema") -> bool:
    """Return whether each value is a column with a name, and so keeps it in another order."""
    return bool(schema.features) and len(schema.columns) == schema.inputs


def row_shape(schema: "Schema", *, turned: bool) -> "tuple[int, ...] | None":
    """Return the shape in which a rebuilt image goes to an array; None where rows are no images."""
    if schema.image_shape is None:
        return None
    height, width, *channels = schema.image_shape
    return (*channels, height, width) if turned else schema.image_shape


def filled_columns(out: "Rebuilt", rebuilt: Mapping[str, Any], source: "Source") -> dict[str, Any]:
    """Return a table's own columns, each cell as it was read, with what is rebuilt in the holes of its features.

    A hole of a column of integers gets the nearest integer, so that the others stay exactly what they are.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from aecli.data.sinks import to_table

    columns = dict(out.batch.kept)
    place = 0
    for name, column in zip(source.features, source.schema.columns, strict=True):
        holes = np.isnan(out.batch.x[:, place])
        if out.batch.blank is not None:
            holes &= ~out.batch.blank
        own = columns[name]
        if holes.any() and column.width == 1:
            values = to_table({name: rebuilt[column.name or name]}).column(0).combine_chunks()
            if pa.types.is_integer(own.type) and pa.types.is_floating(values.type):
                values = pc.round(values)
            values = values.cast(pa.string() if pa.types.is_dictionary(own.type) else own.type, safe=False)
            own = own.cast(values.type) if own.type != values.type else own
            columns[name] = pc.if_else(pa.array(holes), values, own)
        place += column.width
    return columns


def rebuilt_columns(out: "Decoded", model: "Model", *, blank: Any = None, holes_only: bool = False) -> list[Any]:
    """Return the columns of rebuilt rows (N, D) as their kinds have them: numbers, dates, texts.

    With `holes_only` the rows' own values stay, and what is rebuilt stands in their holes. Rows that are `blank` (N,)
    are empty, and so are dates out of all range.
    """
    import numpy as np

    from aecli.data.kinds import from_numbers

    schema = model.schema
    decimals, wide = model.scaler.decimals
    columns = []
    for i, column in enumerate(schema.values):
        values = out.recon[:, i]
        if column.kind == "number" and (wide[i] or holes_only):
            values = np.round(values.astype(np.float64), decimals[i])
        if holes_only:
            own = out.batch.x[:, i]
            values = np.where(np.isnan(own), values, own)
        if column.kind == "number":
            columns.append(values if wide[i] or holes_only else values.astype(np.float32, copy=False))
        else:
            lost = ~(np.abs(values) < LATEST)
            columns.append(_without(from_numbers(np.where(lost, 0, values), column), lost))
    return columns if blank is None else [_without(column, blank) for column in columns]


def blank_rows(out: "Encoded", sink: "Sink") -> Any:
    """Return which rows (N,) are to be empty cells: those that could not be read, where the sink has such cells."""
    return out.batch.blank if sink.has_nulls else None


def emptied(columns: Mapping[str, Any], blank: Any) -> dict[str, Any]:
    """Return columns with empty cells in the rows that are `blank` (N,), which could not be read; None for no row."""
    return dict(columns) if blank is None else {name: _without(column, blank) for name, column in columns.items()}


def _without(column: Any, rows: Any) -> Any:
    """Return a column with empty cells in some rows (N,)."""
    if not rows.any():
        return column
    import pyarrow as pa
    import pyarrow.compute as pc

    from aecli.data.sinks import to_table

    values = to_table({"": column}).column(0).combine_chunks()
    return pc.if_else(pa.array(~rows), values, pa.scalar(None, values.type))


def worst(squares: Any, schema: "Schema", count: int, places: "Array | None" = None) -> dict[str, Any]:
    """Return the names of the columns that were rebuilt worst, and their shares of each row's squared error.

    `squares` (N, E) are the squared errors of the model's inputs; a category's are summed up. Columns
    without a name are counted in the order that the `places` are: see `order`.
    """
    import numpy as np

    starts = np.cumsum((0, *schema.widths[:-1]))
    by_column = np.add.reduceat(squares, starts, axis=1)  # (N, D)
    names = np.array(schema.names)
    if places is not None and not is_by_name(schema):
        names = names[np.argsort(places)]
    order = np.argsort(-by_column, axis=1, kind="stable")[:, :count]
    endless = np.isinf(by_column)  # an error out of all proportion is all that counts
    by_column = np.where(endless.any(axis=1, keepdims=True), endless.astype(np.float32), by_column)
    total = np.maximum(by_column.sum(axis=1), np.finfo(np.float32).tiny)
    columns: dict[str, Any] = {}
    for i in range(count):
        columns[f"worst{i + 1}"] = names[order[:, i]]
        columns[f"share{i + 1}"] = np.take_along_axis(by_column, order[:, i : i + 1], axis=1)[:, 0] / total
    return columns
