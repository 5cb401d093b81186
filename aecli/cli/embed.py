"""aecli embed."""

import dataclasses

import aecli
from aecli.cli import flags, options, progress, rows, tables
from aecli.options import Applying, Reading


@flags.spread
def embed(
    model: options.Model,
    reading: Reading,
    applying: Applying,
    data: options.Data = None,
    output: options.Output = None,
    form: options.Format = None,
    label: options.CarryLabel = True,
    header: options.Header = True,
    error: options.Error = False,
    line_buffered: options.LineBuffered = False,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    quiet: options.Quiet = False,
) -> None:
    """Compress rows to their latent values: CSV on stdout.

    $ aecli embed digits.safetensors digits > codes.csv

    Kept columns and the label come first, then z0, z1, ...; one row for each input row, in input order.
    """
    rows.check_data(model, data)
    from aecli.inference import Rebuilt

    loaded = aecli.load(model, device=device)
    applying = dataclasses.replace(applying, line_buffered=line_buffered)
    source = rows.open_rows(loaded, data, reading, applying, data_dir=data_dir, quiet=quiet)
    names = [f"z{i}" for i in range(loaded.checkpoint.model.latent_dim)]
    carried = tables.Carried(source, applying.keep, label=label, beside=[*names, *["mse"] * error])
    with tables.open_output(output, form, header=header, inputs=(str(model), *(data or ())), quiet=quiet) as sink:
        stream = loaded.rebuilt if error else loaded.encoded
        for out in progress.shown(stream(source, live=line_buffered), source, output, quiet=quiet):
            columns = dict(zip(names, out.z.T, strict=True)) | ({"mse": out.mse} if isinstance(out, Rebuilt) else {})
            sink.write(carried.of(out.batch) | tables.emptied(columns, tables.blank_rows(out, sink)))
            if line_buffered:
                sink.flush()
    rows.say_notes(source, quiet=quiet)
