"""The tables that embed, reconstruct and decode write."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aecli.cli import console, rows
from aecli.data.places import place
from aecli.errors import DataError, UsageError
from aecli.rebuilding import as_written, is_by_name, rebuilt_columns, without

if TYPE_CHECKING:
    import numpy as np

    from aecli.config import ModelConfig, Schema
    from aecli.data.sinks import Sink
    from aecli.data.source import Batch, Source
    from aecli.data.units import Units
    from aecli.inference import Encoded, Model

    Array = np.ndarray[Any, Any]


@contextlib.contextmanager
def open_output(
    output: str | None, form: str | None, *, header: bool, inputs: Sequence[str], quiet: bool
) -> "Iterator[Sink]":
    """Open the sink for --output and --format: stdout, or a file that appears only when it is complete."""
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
    """Refuse an option on the types of values, `said`, if the output is text."""
    from aecli.data import sinks

    chosen = form or ("csv" if output in (None, "-") else sinks.format_of(place(output or ""), None))
    if chosen in sinks.TEXTS:
        raise UsageError(
            f"{said} is for formats with types, and {chosen} has none",
            hint="name a file of another format: -o codes.parquet",
        )


def of_type(z: "Array", dtype: str, name: str) -> "Array":
    """Return latent rows (N, K) as numbers of this type. Raises DataError for a value beyond its range."""
    import numpy as np

    with np.errstate(over="ignore"):
        found = z.astype(dtype, copy=False)
    if dtype != "float32" and (lost := np.isinf(found) & np.isfinite(z)).any():
        raise DataError(
            f"{name}: a latent value is {z[lost][0]:g}, beyond the range of {dtype}", hint="leave --dtype out"
        )
    return found


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


def code_columns(z: "Array", model: "ModelConfig", sink: "Sink", as_vector: str | None) -> dict[str, Any]:
    """Return codes (N, K) as `codes.code_columns` does, but dense for NPY. Raises UsageError for structs in CSV."""
    from aecli.data import codes
    from aecli.data.sinks import Delimited, Npy

    active = None if isinstance(sink, Npy) else model.active
    if active is not None and as_vector and isinstance(sink, Delimited):
        raise UsageError(
            "--as-vector makes structs of sparse codes, and CSV has none",
            hint="leave --as-vector out, or name a file of another format: -o codes.parquet",
        )
    return codes.code_columns(z, active, as_vector)


def row_shape(schema: "Schema", *, turned: bool) -> "tuple[int, ...] | None":
    """Return the shape of a rebuilt image in an array, None if rows are not images."""
    if schema.image_shape is None:
        return None
    height, width, *channels = schema.image_shape
    return (*channels, height, width) if turned else schema.image_shape


def blank_rows(out: "Encoded", sink: "Sink") -> Any:
    """Return which rows (N,) could not be read and are written as empty cells; None if the sink has no empty cells."""
    return out.batch.blank if sink.has_nulls else None


def worst(shares: "Array", schema: "Schema", count: int, places: "Array | None" = None) -> dict[str, Any]:
    """Return the columns with the largest `shares` (N, D) in each row, and these: worst1, share1, worst2, ...

    Columns without a name are numbered in the order of the `places`: see `order`.
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
    """Return the positions (N,) of the largest shares (N, D) of each row, of the second largest, ..."""
    import numpy as np

    return list(np.argsort(-shares, axis=1, kind="stable")[:, :count].T)


def by_squares(squares: "Array", schema: "Schema") -> "Array":
    """Return each column's share (N, D) of the squared errors (N, E) of a model's inputs; categories are summed."""
    import numpy as np

    from aecli.explaining import shares

    return shares(np.add.reduceat(squares, np.cumsum((0, *schema.widths[:-1])), axis=1))


def reasons(x: "Array", model: "Model", count: int, places: "Array | None", units: "Units | None") -> dict[str, Any]:
    """Return what makes raw rows (N, D) strange: worst1, value1, expected1, share1, worst2, ...

    The values are in the data's own `units` and kinds, as text if not all of them are numbers.
    """
    import numpy as np

    from aecli.data.source import Batch
    from aecli.inference import Decoded

    shares, expected = model.explain(x)
    if units is not None:
        x, expected = units.to_rows(x), units.to_rows(expected)
    own = [
        as_written(values.astype(np.float64), column) for values, column in zip(x.T, model.schema.values, strict=True)
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
    """Return one cell of each row, from the column at its place (N,): numbers if all columns hold numbers."""
    import numpy as np

    from aecli.data.sinks import texts

    if all(isinstance(column, np.ndarray) for column in columns):
        found = np.take_along_axis(np.stack(columns, axis=1), places[:, None], axis=1)[:, 0]
        return without(found, np.isnan(found))
    import pyarrow as pa

    chosen = {place: columns[place] for place in set(places.tolist())}
    cells = {
        place: texts(without(column, np.isnan(column)) if isinstance(column, np.ndarray) else column)
        for place, column in chosen.items()
    }
    return pa.array([cells[place][row] for row, place in enumerate(places.tolist())], pa.string())
