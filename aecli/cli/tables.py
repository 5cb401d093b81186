"""The tables that embed, reconstruct and decode write."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from aecli.cli import console, rows
from aecli.data.places import place
from aecli.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from aecli.config import Column, ModelConfig, Schema
    from aecli.data.sinks import Sink
    from aecli.data.source import Batch, Source
    from aecli.data.units import Units
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
    path = place(output)
    chosen = sinks.format_of(path, form)
    rows.check_output(path, *inputs)
    rows.keep_checkpoint(path)
    existed = path.exists()
    with sinks.to_file(path, chosen, header=header) as sink:
        yield sink
    rows.say_written(path, replaced=existed, quiet=quiet)


def check_has_types(output: str | None, form: str | None, said: str) -> None:
    """Refuse what was `said` of the types of values where the output is text."""
    from aecli.data import sinks

    chosen = form or ("csv" if output in (None, "-") else sinks.format_of(place(output or ""), None))
    if chosen in sinks.TEXTS:
        raise UsageError(
            f"{said} is for formats that have types, and {chosen} has none", hint="name a file of one: -o codes.parquet"
        )


def of_type(z: "Array", dtype: str, name: str) -> "Array":
    """Return latent rows (N, K) as numbers of this type. Raises DataError for a value that it cannot hold."""
    import numpy as np

    with np.errstate(over="ignore"):
        found = z.astype(dtype, copy=False)
    if dtype != "float32" and (lost := np.isinf(found) & np.isfinite(z)).any():
        raise DataError(
            f"{name}: a latent value is {z[lost][0]:g}, beyond what {dtype} holds", hint="leave --dtype out"
        )
    return found


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


def code_columns(z: "Array", model: "ModelConfig", sink: "Sink", as_vector: str | None) -> dict[str, Any]:
    """Return codes (N, K) as `codes.code_columns` does, but dense in an array. Raises UsageError for structs in CSV."""
    from aecli.data import codes
    from aecli.data.sinks import Delimited, Npy

    active = None if isinstance(sink, Npy) else model.active
    if active is not None and as_vector and isinstance(sink, Delimited):
        raise UsageError(
            "--as-vector makes structs of sparse codes, and CSV has none",
            hint="leave --as-vector out, or name a file of another format: -o codes.parquet",
        )
    return codes.code_columns(z, active, as_vector)


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
    """Return a table's own columns, each cell as it was read, with what is rebuilt in the holes of its features."""
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


def written_names(schema: "Schema", places: "Array | None") -> Sequence[str]:
    """Return the names of the columns that rebuilt rows are written in, a vector's one."""
    if any(column.kind == "vector" for column in schema.columns):
        return schema.column_names
    return in_order(schema.names, places) if is_by_name(schema) else schema.names


def rebuilt_table(
    out: "Decoded",
    model: "Model",
    names: Sequence[str],
    sink: "Sink",
    *,
    places: "Array | None" = None,
    types: Sequence[Any] = (),
    holes_only: bool = False,
) -> dict[str, Any]:
    """Return rebuilt rows as columns by their `written_names`, with empty cells in rows that could not be read.

    `types` are those of the data's columns, where it has some: a vector comes back as one. See `rebuilt_columns`.
    """
    blank, columns = blank_rows(out, sink), model.schema.columns
    if all(column.kind != "vector" for column in columns):
        values = rebuilt_columns(out, model, blank=blank, holes_only=holes_only)
        return dict(zip(names, in_order(values, places), strict=True))
    table, place = dict[str, Any](), 0
    for i, (name, column) in enumerate(zip(names, columns, strict=True)):
        if column.kind == "vector":
            vectors = _vectors(out, model, slice(place, place + column.width), holes_only=holes_only)
            vectors = vectors if places is None else vectors[:, places]
            table[name] = _as_lists(vectors, types[i] if types else None) if sink.has_nulls else vectors
        else:
            table[name] = _rebuilt(out, model, place, holes_only=holes_only)
        place += column.width
    return emptied(table, blank)


def _vectors(out: "Decoded", model: "Model", place: slice, *, holes_only: bool) -> "Array":
    """Return the values of a vector (N, width) in rebuilt rows: float64 where float32 would round them visibly."""
    import numpy as np

    vectors = out.recon[:, place].astype(np.float64 if any(model.scaler.decimals[1][place]) else np.float32, copy=False)
    return np.where(np.isnan(own := out.batch.x[:, place]), vectors, own) if holes_only else vectors


def _as_lists(vectors: "Array", kind: Any) -> Any:
    from aecli.data.sinks import as_lists

    return as_lists(vectors, kind)


def rebuilt_columns(out: "Decoded", model: "Model", *, blank: Any = None, holes_only: bool = False) -> list[Any]:
    """Return the columns of rebuilt rows (N, D) as their kinds have them: numbers, dates, texts.

    With `holes_only` the rows' own values stay, and what is rebuilt stands in their holes. Rows that are `blank` (N,)
    are empty, and so are dates out of all range.
    """
    columns = [_rebuilt(out, model, i, holes_only=holes_only) for i in range(len(model.schema.values))]
    return columns if blank is None else [_without(column, blank) for column in columns]


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
    return values.astype(np.float32, copy=False) if is_coarse else _as_written(values, column)


def _as_written(values: "Array", column: "Column") -> Any:
    """Return raw numbers (N,) as a column's kind has them; what is none, and dates out of all range, are empty."""
    import numpy as np

    from aecli.data.kinds import from_numbers

    if column.kind == "number":
        return values
    lost = ~(np.abs(values) < LATEST) | ((column.kind == "category") & (values < 0))
    return _without(from_numbers(np.where(lost, 0, values), column), lost)


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


def worst(shares: "Array", schema: "Schema", count: int, places: "Array | None" = None) -> dict[str, Any]:
    """Return the columns that count the most in each row, and their `shares` (N, D): worst1, share1, worst2, ...

    Columns without a name are counted in the order that the `places` are: see `order`.
    """
    import numpy as np

    names = np.array(schema.names)
    if places is not None and not is_by_name(schema):
        names = names[np.argsort(places)]
    columns: dict[str, Any] = {}
    for i, found in enumerate(_largest(shares, count)):
        columns[f"worst{i + 1}"] = names[found]
        columns[f"share{i + 1}"] = np.take_along_axis(shares, found[:, None], axis=1)[:, 0]
    return columns


def _largest(shares: "Array", count: int) -> "list[Array]":
    """Return the places (N,) of the largest shares (N, D) of each row, of the second largest, ..."""
    import numpy as np

    return list(np.argsort(-shares, axis=1, kind="stable")[:, :count].T)


def by_squares(squares: "Array", schema: "Schema") -> "Array":
    """Return the shares (N, D) of the squared errors (N, E) of a model's inputs; a category's are summed up."""
    import numpy as np

    from aecli.explaining import shares

    return shares(np.add.reduceat(squares, np.cumsum((0, *schema.widths[:-1])), axis=1))


def reasons(x: "Array", model: "Model", count: int, places: "Array | None", units: "Units | None") -> dict[str, Any]:
    """Return what makes raw rows (N, D) strange: worst1, value1, expected1, share1, worst2, ...

    The values are in the data's own `units` and kinds; as texts, where these are not all numbers.
    """
    import numpy as np

    from aecli.data.source import Batch
    from aecli.inference import Decoded

    shares, expected = model.explain(x)
    if units is not None:
        x, expected = units.to_rows(x), units.to_rows(expected)
    own = [
        _as_written(values.astype(np.float64), column) for values, column in zip(x.T, model.schema.values, strict=True)
    ]
    usual = rebuilt_columns(Decoded(Batch(x), x, expected), model)
    named, columns = worst(shares, model.schema, count, places), dict[str, Any]()
    for i, found in enumerate(_largest(shares, count)):
        rank = i + 1
        columns[f"worst{rank}"] = named[f"worst{rank}"]
        columns[f"value{rank}"], columns[f"expected{rank}"] = _picked(own, found), _picked(usual, found)
        columns[f"share{rank}"] = named[f"share{rank}"]
    return columns


def _picked(columns: Sequence[Any], places: "Array") -> Any:
    """Return one cell of each row, from the column at its place (N,): a number where all columns hold numbers."""
    import numpy as np

    from aecli.data.sinks import texts

    if all(isinstance(column, np.ndarray) for column in columns):
        found = np.take_along_axis(np.stack(columns, axis=1), places[:, None], axis=1)[:, 0]
        return _without(found, np.isnan(found))
    import pyarrow as pa

    chosen = {place: columns[place] for place in set(places.tolist())}
    cells = {
        place: texts(_without(column, np.isnan(column)) if isinstance(column, np.ndarray) else column)
        for place, column in chosen.items()
    }
    return pa.array([cells[place][row] for row, place in enumerate(places.tolist())], pa.string())
