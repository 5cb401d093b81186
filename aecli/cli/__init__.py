"""The command line: parse, call the core, report. It alone prints, exits and reads the environment."""

import importlib
import os
import sys
from collections.abc import Collection
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from aecli import __version__
from aecli.cli import completion, console, usage
from aecli.cli.deferred import absent

COMMANDS = {  # the name of a command, its module and its function: the first line of its help, to list it unloaded
    "train": "Fit a model to rows or images, and save it as a checkpoint.",
    "reconstruct": "Rebuild rows from their latent values, in the data's own columns and units: CSV on stdout.",
    "decode": "Turn latent values into rows, in the data's own columns and units: CSV on stdout.",
    "embed": "Compress rows to their latent values: CSV on stdout.",
    "score": "Find the rows that do not fit: write how strange each row is, as CSV on stdout.",
    "evaluate": "Measure how good a model and its embedding are, compared to PCA: a table on stdout.",
    "plot": "Draw a picture of a model: a PNG, SVG or PDF file, in the terminal, or its latent space as an HTML page.",
    "info": "Show the contents of a checkpoint, or the progress of a stopped run.",
    "export": "Write a model as an ONNX file, which runs without aecli.",
    "guide": "Show a topic of the documentation, as Markdown in a pipe. Without TOPIC, list the topics.",
    "completion": "Print the script that makes TAB complete in a shell.",
}


class Program(usage.Explained, TyperGroup):
    """The command group. It turns errors into messages and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        if completion.VARIABLE in os.environ:
            completion.answer(self, os.environ[completion.VARIABLE])
            return
        with console.errors_reported():
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if not args:
            usage.print_help(ctx)
            sys.exit(2)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with console.errors_reported():  # inside of Typer, which would swallow a closed pipe and Ctrl-C
            return super().invoke(ctx)


def build(loaded: Collection[str] = COMMANDS) -> typer.Typer:
    """Return the program. A command that is not loaded can be listed, but not run."""
    app = typer.Typer(
        cls=Program,
        name="aecli",
        add_completion=False,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(program)
    for name, summary in COMMANDS.items():
        if name in loaded:
            app.command(cls=usage.Command)(getattr(importlib.import_module(f"aecli.cli.{name}"), name))
        else:
            app.command(name, cls=usage.Command, help=summary)(lambda: None)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aecli {__version__}")
        raise typer.Exit


def program(
    ctx: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Train autoencoders and put them to work from the shell.

    $ aecli train && aecli embed digits.safetensors > codes.csv

    $ aecli guide tables
    """
    if ctx.invoked_subcommand != "train":
        # aecli computes rows in as many threads as there are cores. NumPy's own threads would spin while they wait, and
        # slow down the threads that read and write: embedding MNIST would take more than twice as long.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> None:
    """Run the program."""
    if "OMP_WAIT_POLICY" not in os.environ:
        # PyTorch's threads spin while they wait for one another. If other programs need the cores too, long spinning
        # slows down the very thread that the others wait for: two runs side by side each take 30 times as long.
        # Too short spinning costs a single run half its speed. This value costs a single run nothing measurable, and
        # two runs side by side each take 4 times as long.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    line = os.environ.get(completion.VARIABLE)
    words = sys.argv[1:] if line is None else completion.split(line)[1:]
    program = build({word for word in words if word in COMMANDS})  # loading all takes longer
    with absent("pandas"):  # pyarrow would import it: that takes a while, and Ctrl-C is lost meanwhile
        program(prog_name="aecli")
