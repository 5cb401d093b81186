"""The tables that embed, reconstruct and decode write."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aecli.cli import console, rows
from aecli.data.places import place
from aecli.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from aecli.config import ModelConfig, Schema
    from aecli.data.sinks import Sink
    from aecli.inference import Encoded

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
