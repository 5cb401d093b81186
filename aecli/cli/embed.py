"""aecli embed."""

import dataclasses
import functools

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
    held_out: options.HeldOut = False,
    line_buffered: options.LineBuffered = False,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    quiet: options.Quiet = False,
) -> None:
    """Compress rows to their latent values: CSV on stdout.

    $ aecli embed digits.safetensors digits > codes.csv

    Kept columns and the label come first, then z0, z1, ...; of a sparse model index and value, lists of the places and
    of the values of a row's --active values. One row for each input row, in input order.
    """
    rows.check_data(model, data)
    if held_out:
        rows.check_read_twice(data, "--held-out")
    from aecli.inference import Rebuilt
    from aecli.model import held_out as of_training

    loaded = aecli.load(model, device=device)
    applying = dataclasses.replace(applying, line_buffered=line_buffered)
    opened = functools.partial(rows.open_rows, loaded, data, reading, applying, data_dir=data_dir)
    unseen = of_training.held_out(loaded.checkpoint, opened(quiet=True)) if held_out else None
    if held_out and unseen is None:
        raise rows.not_the_training_data(loaded, data)
    source = opened(quiet=quiet)
    names = tables.code_names(loaded.checkpoint.model)
    appended = ["mse"] * error + ["held_out"] * held_out
    carried = tables.Carried(source, applying.keep, label=label, beside=[*names, *appended])
    with tables.open_output(output, form, header=header, inputs=(str(model), *(data or ())), quiet=quiet) as sink:
        stream, first = loaded.rebuilt if error else loaded.encoded, 0
        for out in progress.shown(stream(source, live=line_buffered), source, output, quiet=quiet):
            columns = tables.code_columns(out.z, loaded.checkpoint.model, sink)
            columns |= {"mse": out.mse} if isinstance(out, Rebuilt) else {}
            if unseen is not None:
                columns["held_out"] = rows.part_of(unseen, first, len(out.z), source)
                first += len(out.z)
            sink.write(carried.of(out.batch) | tables.emptied(columns, tables.blank_rows(out, sink)))
            if line_buffered:
                sink.flush()
    rows.say_notes(source, quiet=quiet)
