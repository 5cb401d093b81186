"""aecli decode."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import aecli
from aecli import rebuilding
from aecli.cli import completion, console, flags, images, options, progress, rows, tables
from aecli.data.places import Where, place
from aecli.errors import UsageError
from aecli.options import Decoding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aecli.data.codes import Codes
    from aecli.inference import Decoded, Model

DRAWN, ON_THE_WAY = "Draws", "Interpolation"

CodesOf = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CODES",
        autocompletion=completion.data_files,
        help="Codes as embed writes them: tables with columns z0, z1, ... or index and value, NPY arrays, or - for "
        "standard input.",
        show_default=False,
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Decode N draws from the mixture of Gaussians that train fitted to the training codes; for a variational "
        "model, from N(0, I). Takes no CODES.",
        show_default=False,
        rich_help_panel=DRAWN,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Equal seeds give equal draws. A larger --samples adds draws after the same first ones.",
        show_default="0",
        rich_help_panel=DRAWN,
    ),
]
Between = Annotated[
    tuple[int, int] | None,
    typer.Option(
        metavar="ROW ROW",
        help="Decode the straight line from one row of CODES to another. Rows count from 1.",
        show_default=False,
        rich_help_panel=ON_THE_WAY,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        help="The number of rows of --between, both ends included.",
        show_default="10",
        rich_help_panel=ON_THE_WAY,
    ),
]


@flags.spread
def decode(
    model: options.Model,
    decoding: Decoding,
    codes: CodesOf = None,
    samples: Samples = None,
    seed: Seed = None,
    between: Between = None,
    steps: Steps = None,
    output: options.Output = None,
    form: options.Format = None,
    header: options.Header = True,
    line_buffered: options.LineBuffered = False,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Turn latent values into rows, in the data's own columns and units: CSV on stdout.

    $ aecli embed table.safetensors table.csv | aecli decode table.safetensors - > rebuilt.csv

    $ aecli decode digits.safetensors --samples 20 -o drawn/

    $ aecli decode digits.safetensors codes.csv --between 1 7 -o steps/

    An image model writes images to an output that ends in /, a folder.
    """
    decoding = dataclasses.replace(decoding, line_buffered=line_buffered)
    _check(model, codes, decoding, samples, seed, between, steps)
    said = {"--format": form, "--keep": decoding.keep, "--bad-rows blank": decoding.bad_rows == "blank"}
    loaded = aecli.load(model, device=device)
    as_images = images.are_wanted(loaded, output, [flag for flag, value in said.items() if value])
    source: Codes | None = None
    if samples is not None:
        outputs = loaded.sampled(samples, seed or 0)
    else:
        told = vars(decoding) | ({"bad_rows": "blank"} if between else {}) | {"keep_all": as_images and not between}
        opened = loaded.open_codes(
            list(codes or ()), announce=lambda message: console.say(message, quiet=quiet), **told
        )
        if between is None:
            source = opened
            source.blanks = not as_images
            outputs = progress.shown(
                loaded.decoded(source.batches(), live=line_buffered), source, output, quiet=quiet or as_images
            )
        else:
            outputs = loaded.decoded(opened.between(*between, steps or 10))
    if as_images:
        named = source.name if source is not None else "--samples" if between is None else "--steps"
        images.write(loaded, outputs, place(output or ""), named=named, inputs=codes or (), roots=[Path()], quiet=quiet)
    else:
        _write_table(loaded, outputs, source, decoding, output, form, header=header, inputs=codes or (), quiet=quiet)
    if source is not None:
        rows.say_notes(source, quiet=quiet)


def _write_table(
    loaded: "Model",
    outputs: "Iterator[Decoded]",
    source: "Codes | None",
    decoding: Decoding,
    output: str | None,
    form: str | None,
    *,
    header: bool,
    inputs: Sequence[str],
    quiet: bool,
) -> None:
    """Write decoded rows as a table, after the kept columns of the codes' `source`."""
    from aecli.data.sinks import Npy

    schema = loaded.schema
    order = rebuilding.order(schema, turned=schema.channels_first)  # the label of the training rows
    names = rebuilding.written_names(schema, order)
    carried = None if source is None else rebuilding.Carried(source, decoding.keep, label=False, beside=names)
    with tables.open_output(output, form, header=header, inputs=(loaded.name, *inputs), quiet=quiet) as sink:
        if isinstance(sink, Npy):
            sink.row_shape = tables.row_shape(schema, turned=schema.channels_first)
        for out in outputs:
            own = {} if carried is None else carried.of(out.batch)
            sink.write(own | rebuilding.rebuilt_table(out, loaded, names, nulls=sink.has_nulls, places=order))
            if decoding.line_buffered:
                sink.flush()


def _check(
    model: Where,
    codes: list[str] | None,
    decoding: Decoding,
    samples: int | None,
    seed: int | None,
    between: tuple[int, int] | None,
    steps: int | None,
) -> None:
    """Refuse options that name no codes to decode, or more than one source of codes, or do not go together."""
    rows.check_model_first(model, codes)
    if samples is not None:
        more = ["CODES"] * bool(codes) + ["--between"] * (between is not None)
        if more:
            raise UsageError(
                f"--samples draws its own codes, and does not go with {' and '.join(more)}",
                hint="leave one of them out" if len(more) == 1 else "choose one of them",
            )
        _refuse(_given(decoding), "is for CODES, and --samples takes none")
    elif not codes:
        ends = ["--"] * str(model).startswith("-")
        words = [*ends, str(model), "-" if rows.bytes_wait() else "CODES"]
        if between is not None:
            way = shlex.join(["aecli", "decode", "--between", *map(str, between), *words])
            raise UsageError("--between needs rows of CODES, and CODES is missing", hint=way)
        ways = [
            shlex.join(["aecli", "decode", *words]),
            shlex.join(["aecli", "decode", "--samples", "10", *words[:-1]]),
        ]
        raise UsageError("CODES is missing, so there is nothing to decode", hint="; or ".join(ways))
    if samples is None and seed is not None:
        _refuse(["--seed"], "is for --samples")
    if between is None and steps is not None:
        _refuse(["--steps"], "is for --between")
    if between is not None:
        aside = [flag for flag in _given(decoding) if flag in ("--keep", "--bad-rows", "--line-buffered")]
        _refuse(aside, "is for all CODES, and --between takes two of their rows")
        if min(between) < 1:
            raise UsageError(f"--between {between[0]} {between[1]}: rows count from 1")


def _given(decoding: Decoding) -> list[str]:
    """Return the flags that were given."""
    fields = dataclasses.fields(decoding)
    return [f"--{f.name.replace('_', '-')}" for f in fields if getattr(decoding, f.name) != f.default]


def _refuse(given: Sequence[str], why: str) -> None:
    if given:
        raise UsageError(f"{given[0]} {why}", hint="leave it out")
