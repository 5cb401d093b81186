"""aecli export."""

import shlex
from typing import Annotated, Literal

import typer

import aecli
from aecli import files
from aecli.cli import console, options, rows
from aecli.data.places import Where, place
from aecli.errors import UsageError

Part = Annotated[
    Literal["all", "encoder", "decoder"],
    typer.Option(
        metavar="PART",
        help="all: rows x in, latent rows z and rebuilt rows recon out. encoder: x to z. decoder: z to recon.",
    ),
]


def export(
    model: options.Model,
    part: Part = "all",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Write a model as an ONNX file, which runs without aecli.

    $ aecli export digits.safetensors

    $ aecli export digits.safetensors --part encoder -o encoder.onnx

    The file includes scaling, empty cells and categories: rows have the units of
    the data.

    Without -o, the file is named after the model and the part, in the working
    directory.
    """
    path = _path(model, part, output)
    from aecli.export import to_onnx

    loaded = aecli.load(model)
    made = to_onnx(loaded.checkpoint, loaded.tensors, loaded.scaler, part)
    replaced = path is not None and path.exists()
    with console.results(or_file=True) if path is None else files.replacing(path) as stream:
        stream.write(made.data)
    console.say(f"takes {', '.join(made.takes)}; gives {', '.join(made.gives)}", quiet=quiet)
    if path is not None:
        rows.say_written(path, replaced=replaced, quiet=quiet)


def _path(model: Where, part: str, output: str | None) -> Where | None:
    """Return the file to write, None for stdout. Refuse a file that cannot be written or does not end in .onnx."""
    if output == "-":
        return None
    path = place(output or f"{model.stem}{'' if part == 'all' else f'-{part}'}.onnx")
    if path.suffix.lower() != ".onnx":
        named = shlex.quote(f"{str(output).removesuffix(path.suffix)}.onnx")
        raise UsageError(f"{path}: the name of an ONNX file must end in .onnx", hint=f"-o {named}")
    rows.check_output(path, str(model))
    rows.keep_checkpoint(path)
    return path
