"""aecli reconstruct."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import aecli
from aecli.cli import console, flags, images, options, progress, rows, tables
from aecli.data.places import Where, place
from aecli.errors import DataError, UsageError
from aecli.options import Applying, Reading

if TYPE_CHECKING:
    from aecli.data.source import Source
    from aecli.inference import Rebuilt


@flags.spread
def reconstruct(
    model: options.Model,
    reading: Reading,
    applying: Applying,
    data: options.Data = None,
    output: options.Output = None,
    form: options.Format = None,
    header: options.Header = True,
    error: options.Error = False,
    top_features: options.TopFeatures = None,
    fill_holes: options.FillHoles = False,
    line_buffered: options.LineBuffered = False,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    quiet: options.Quiet = False,
) -> None:
    """Rebuild rows from their latent values, in the data's own columns and units: CSV on stdout.

    $ aecli reconstruct digits.safetensors digits --error > rebuilt.csv

    $ aecli reconstruct table.safetensors table.csv --fill-holes > filled.csv

    $ aecli reconstruct faces.safetensors face.png -o rebuilt.png

    An output that ends in / is a folder, for the images of an image model.
    """
    if top_features is not None and not error:
        raise UsageError("--top-features tells what the error comes from, and there is none", hint="add --error")
    rows.check_data(model, data)
    from aecli.data.sinks import Npy

    loaded = aecli.load(model, device=device)
    applying = dataclasses.replace(applying, keep_all=fill_holes, line_buffered=line_buffered)
    source = rows.open_rows(loaded, data, reading, applying, data_dir=data_dir, quiet=quiet)
    said = {"--format": form, "--error": error, "--keep": applying.keep, "--fill-holes": fill_holes}
    if images.are_wanted(loaded, output, [flag for flag, value in said.items() if value]):
        source.blanks = False
        _write_images(loaded, source, place(output or ""), data or (), quiet=quiet)
        rows.say_notes(source, quiet=quiet)
        return
    schema = loaded.schema if loaded.schema.features else source.schema
    order = tables.order(loaded.schema, turned=source.turned)
    names = tables.in_order(schema.names, order) if tables.is_by_name(schema) else schema.names
    top = min(top_features or 0, len(names))
    appended = ["mse"] * error + [f"{what}{i + 1}" for i in range(top) for what in ("worst", "share")]
    for name in appended:
        if name in names:
            raise DataError(f"{source.name}: a feature is named {name!r}, as a column that the output appends")
    carried = tables.Carried(source, applying.keep, label=False, beside=[*names, *appended])
    with tables.open_output(output, form, header=header, inputs=(str(model), *(data or ())), quiet=quiet) as sink:
        if isinstance(sink, Npy):
            sink.row_shape = source.row_shape or tables.row_shape(loaded.schema, turned=source.turned)
        stream = loaded.filled if fill_holes else loaded.rebuilt
        for given in progress.shown(stream(source, live=line_buffered), source, output, quiet=quiet):
            errors = _errors(given, loaded, top, order) if error else {}
            out = given.in_units(source.units)
            blank = tables.blank_rows(out, sink)
            rebuilt = tables.rebuilt_columns(out, loaded, blank=blank, holes_only=fill_holes)
            columns = dict(zip(names, tables.in_order(rebuilt, order), strict=True))
            own = carried.of(out.batch)
            if fill_holes and source.columns and sink.has_nulls:  # an NPY has numbers alone
                columns = tables.filled_columns(out, columns, source)
            sink.write(own | columns | tables.emptied(errors, blank))
            if line_buffered:
                sink.flush()
    if fill_holes:
        console.say(f"filled {console.counted(source.holes, 'empty cell')}", quiet=quiet)
        source.holes = 0
    rows.say_notes(source, quiet=quiet)


def _errors(out: "Rebuilt", loaded: "aecli.Model", top: int, places: Any) -> dict[str, Any]:
    """Return the errors of rows, and the columns that make them strange; where nothing scores, those rebuilt worst."""
    if not top:
        return {"mse": out.mse}
    shares = loaded.explain(out.batch.x)[0] if loaded.can_score else tables.by_squares(out.squares, loaded.schema)
    return {"mse": out.mse, **tables.worst(shares, loaded.schema, top, places)}


def _write_images(loaded: "aecli.Model", source: "Source", path: Where, inputs: Sequence[str], *, quiet: bool) -> None:
    """Write rebuilt images to a file or a folder."""
    outputs, originals = loaded.rebuilt(source), source.paths or ()
    images.write(loaded, outputs, path, named=source.name, inputs=inputs, originals=originals, quiet=quiet)
    if source.units is not None:
        (black, white), kind = source.units.model, loaded.schema.dtype or "uint8"
        console.say(f"images are written as the model has them: {kind} from {black:g} to {white:g}", quiet=quiet)
