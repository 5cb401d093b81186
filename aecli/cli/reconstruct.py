"""aecli reconstruct."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

import aecli
from aecli import rebuilding
from aecli.cli import console, flags, images, options, parts, progress, rows, tables
from aecli.data.places import Where, place
from aecli.errors import DataError, UsageError
from aecli.options import Applying, Reading

if TYPE_CHECKING:
    from aecli.cli.parts import Shown
    from aecli.data.sinks import Sink
    from aecli.data.source import Source
    from aecli.inference import Rebuilt


@flags.spread
def reconstruct(
    ctx: typer.Context,
    model: options.Model,
    reading: Reading,
    applying: Applying,
    data: options.Data = None,
    output: options.OutputOrParts = None,
    form: options.Format = None,
    header: options.Header = True,
    error: options.Error = False,
    top_features: options.TopFeatures = None,
    fill_holes: options.FillHoles = False,
    line_buffered: options.LineBuffered = False,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    force: options.ReplaceParts = False,
    shard: options.Shard = None,
    quiet: options.Quiet = False,
) -> None:
    """Rebuild rows from their latent values, in the data's own columns and units: CSV on stdout.

    $ aecli reconstruct digits.safetensors digits --error > rebuilt.csv

    $ aecli reconstruct table.safetensors table.csv --fill-holes > filled.csv

    $ aecli reconstruct faces.safetensors face.png -o rebuilt.png

    An output that ends in / is a folder. An image model writes images to it.
    Other models, or --format parquet, write one Parquet file per input file.
    """
    if top_features is not None and not error:
        raise UsageError("--top-features names the columns of the error, and needs --error", hint="add --error")
    as_parts = parts.are_wanted(ctx)
    rows.check_data(model, data)
    from aecli.data.sinks import Npy

    loaded = aecli.load(model, device=device)
    applying = dataclasses.replace(applying, keep_all=fill_holes, line_buffered=line_buffered)
    as_parts = as_parts and (form is not None or loaded.schema.image_shape is None)

    def answer(source: "Source", sink: "Sink", shown: "Shown") -> None:
        source.fills = fill_holes
        schema = loaded.schema if loaded.schema.features or not source.schema.columns else source.schema
        order = rebuilding.order(loaded.schema, turned=source.turned)
        names = rebuilding.written_names(schema, order)
        top = min(top_features or 0, schema.inputs)
        appended = ["mse"] * error + [f"{what}{i + 1}" for i in range(top) for what in ("worst", "share")]
        if taken := [name for name in appended if name in names]:
            raise DataError(f"{source.name}: a feature is named {taken[0]!r}, like a column that the output appends")
        carried = rebuilding.Carried(source, applying.keep, label=False, beside=[*names, *appended])
        if isinstance(sink, Npy):
            sink.row_shape = source.row_shape or tables.row_shape(loaded.schema, turned=source.turned)
        stream = loaded.filled if fill_holes else loaded.rebuilt
        for given in shown(stream(source, live=line_buffered), source):
            errors = _errors(given, loaded, top, order) if error else {}
            out = given.in_units(source.units)
            columns = rebuilding.rebuilt_table(
                out, loaded, names, nulls=sink.has_nulls, places=order, types=source.types, holes_only=fill_holes
            )
            own = carried.of(out.batch)
            if fill_holes and source.columns and sink.has_nulls:  # an NPY holds only numbers
                columns = rebuilding.filled_columns(out, columns, source)
            sink.write(own | columns | rebuilding.emptied(errors, tables.blank_rows(out, sink)))
            if line_buffered:
                sink.flush()

    if as_parts:
        parts.write(ctx, loaded, (reading, applying), answer, force=force, shard=shard)
        return
    source = rows.open_rows(loaded, data, reading, applying, data_dir=data_dir, quiet=quiet)
    said = {"--format": form, "--error": error, "--keep": applying.keep, "--fill-holes": fill_holes}
    said |= {"--force": force, "--shard": shard}
    if images.are_wanted(loaded, output, [flag for flag, value in said.items() if value]):
        source.blanks = False
        _write_images(loaded, source, place(output or ""), data or (), quiet=quiet)
        rows.say_notes(source, quiet=quiet)
        return
    with tables.open_output(output, form, header=header, inputs=(str(model), *(data or ())), quiet=quiet) as sink:
        answer(source, sink, functools.partial(progress.shown, output=output, quiet=quiet))
    rows.say_notes(source, quiet=quiet)


def _errors(out: "Rebuilt", loaded: "aecli.Model", top: int, places: Any) -> dict[str, Any]:
    """Return the errors of rows, and the columns that make them strange; without a score, those rebuilt worst."""
    if not top:
        return {"mse": out.mse}
    from aecli import anomalies
    from aecli.explaining import explain

    x, schema = out.batch.x, loaded.schema
    shares = explain(loaded, x)[0] if loaded.can_score else anomalies.by_squares(out.squares, schema)
    return {"mse": out.mse, **anomalies.worst(shares, schema, top, places)}


def _write_images(loaded: "aecli.Model", source: "Source", path: Where, inputs: Sequence[str], *, quiet: bool) -> None:
    """Write rebuilt images to a file or a folder."""
    outputs, originals = loaded.rebuilt(source), source.paths or ()
    images.write(loaded, outputs, path, named=source.name, inputs=inputs, originals=originals, quiet=quiet)
    if source.units is not None:
        (black, white), kind = source.units.model, loaded.schema.dtype or "uint8"
        console.say(f"images are written in the model's range: {kind} from {black:g} to {white:g}", quiet=quiet)
