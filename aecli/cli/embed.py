"""aecli embed."""

import dataclasses
import functools
from typing import TYPE_CHECKING

import typer

import aecli
from aecli import rebuilding
from aecli.cli import flags, options, parts, progress, rows, tables
from aecli.options import Applying, Reading

if TYPE_CHECKING:
    from aecli.cli.parts import Shown
    from aecli.data.sinks import Sink
    from aecli.data.source import Source


@flags.spread
def embed(
    ctx: typer.Context,
    model: options.Model,
    reading: Reading,
    applying: Applying,
    data: options.Data = None,
    output: options.OutputOrParts = None,
    form: options.Format = None,
    label: options.CarryLabel = True,
    header: options.Header = True,
    as_vector: options.AsVector = None,
    dtype: options.CodeType = "float32",
    error: options.Error = False,
    held_out: options.HeldOut = False,
    line_buffered: options.LineBuffered = False,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    force: options.ReplaceParts = False,
    shard: options.Shard = None,
    quiet: options.Quiet = False,
) -> None:
    """Compress rows to their latent values: CSV on stdout.

    $ aecli embed digits.safetensors digits > codes.csv

    $ aecli embed texts.safetensors texts.parquet --as-vector --dtype float16 -o codes.parquet

    Kept columns and the label come first, then z0, z1, ... A sparse model writes
    two lists instead: index, the positions of a row's --active values, and value,
    these values. There is one row per input row, in input order.
    """
    as_parts = parts.are_wanted(ctx)
    rows.check_data(model, data)
    if dtype != "float32":
        tables.check_has_types(output, form or ("parquet" if as_parts else None), f"--dtype {dtype}")
    if held_out:
        rows.check_read_twice(data, "--held-out")
    from aecli.data.codes import code_names
    from aecli.inference import Rebuilt
    from aecli.model import held_out as of_training

    loaded = aecli.load(model, device=device)
    applying = dataclasses.replace(applying, line_buffered=line_buffered)
    read = data if as_parts else rows.fixed(data)  # each part fixes its own file
    opened = functools.partial(rows.open_rows, loaded, read, reading, applying, data_dir=data_dir)
    unseen = of_training.held_out(loaded.checkpoint, opened(quiet=True)) if held_out else None
    if held_out and unseen is None:
        raise rows.not_the_training_data(loaded, data)
    names = code_names(loaded.checkpoint.model, as_vector)
    appended = ["mse"] * error + ["held_out"] * held_out

    def answer(source: "Source", sink: "Sink", shown: "Shown") -> None:
        carried = rebuilding.Carried(source, applying.keep, label=label, beside=[*names, *appended])
        stream, first = loaded.rebuilt if error else loaded.encoded, 0
        for out in shown(stream(source, live=line_buffered), source):
            z = tables.of_type(out.z, dtype, source.name)
            columns = tables.code_columns(z, loaded.checkpoint.model, sink, as_vector)
            columns |= {"mse": out.mse} if isinstance(out, Rebuilt) else {}
            if unseen is not None:
                columns["held_out"] = rows.part_of(unseen, first, len(out.z), source)
                first += len(out.z)
            sink.write(carried.of(out.batch) | rebuilding.emptied(columns, tables.blank_rows(out, sink)))
            if line_buffered:
                sink.flush()

    if as_parts:
        parts.write(ctx, loaded, (reading, applying), answer, force=force, shard=shard)
        return
    source = opened(quiet=quiet)
    with tables.open_output(output, form, header=header, inputs=(str(model), *(data or ())), quiet=quiet) as sink:
        answer(source, sink, functools.partial(progress.shown, output=output, quiet=quiet))
    rows.say_notes(source, quiet=quiet)
