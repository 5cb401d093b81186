"""aecli plot."""

import dataclasses
import functools
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import aecli
from aecli import files
from aecli.cli import completion, console, drawing, flags, options, rows
from aecli.data.places import Where, place, shown
from aecli.errors import UsageError
from aecli.options import Applying, Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from aecli.data.source import Source
    from aecli.figures.map import Page
    from aecli.inference import Model

PICTURE = "Picture"
DPI = 240


def parse_inches(text: str) -> tuple[float, float]:
    """Read "4.8x3.5" as (4.8, 3.5): width and height in inches."""
    if isinstance(text, tuple):
        return text
    found = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)[x×](\d{1,3}(?:\.\d+)?)", text)
    width, height = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    if not (1 <= width <= 60 and 1 <= height <= 60):
        raise typer.BadParameter(f"{text!r} is no size such as 4.8x3.5, each from 1 to 60 inches")
    return width, height


Kind = Annotated[
    Literal["latent", "reconstruction", "errors", "history", "manifold", "traversal", "samples", "page", "map"],
    typer.Option(
        metavar="KIND",
        help="latent: the latent rows as a scatter. reconstruction: images above what is rebuilt of them, or the "
        "columns of a table, best to worst. errors: how strange the rows are, a histogram for each label, and "
        "the strangest images, except with --show; by the mean squared errors where the model has no score. "
        "history: loss by epoch. manifold: what is decoded of a plane through the codes, faint where no row "
        "is near. traversal: what is decoded along each of their principal components. samples: what is "
        "decoded of 96 draws, with --show of as many as the window holds, from a mixture of Gaussians that "
        "was fitted to the training codes, or of a variational model from N(0, I). page, or map: an HTML page "
        "to walk through, in which the decoder runs.",
    ),
]
ColourBy = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="What colours the rows of latent, errors and page: a column of the data, or FILE:COLUMN, a column of "
        "another table. Its rows are matched by a column of paths or names, where the data is images, else by number.",
        show_default="the label",
        autocompletion=completion.columns,
    ),
]
PAGE = ("page", "map")  # two names of one kind
COLOUR = "--colour"
COLOURED = ("latent", "errors", "page")
Examples = Annotated[int, typer.Option(min=1, max=50, metavar="N", help="How many images a reconstruction shows.")]
Show = Annotated[
    bool,
    typer.Option(
        "--show",
        help="Draw in the terminal, to the window's size; a file is written beside it where -o names one.",
        rich_help_panel=PICTURE,
    ),
]
Title = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Words above it.", show_default=False, rich_help_panel=PICTURE)
]
Size = Annotated[
    Any,
    typer.Option(
        parser=parse_inches,
        metavar="WIDTHxHEIGHT",
        help="Inches.",
        show_default="4.8 wide, as high as the kind takes",
        rich_help_panel=PICTURE,
    ),
]
Dpi = Annotated[
    int | None,
    typer.Option(
        min=30, max=1200, metavar="N", help="Dots an inch, of a PNG.", show_default=str(DPI), rich_help_panel=PICTURE
    ),
]
Theme = Annotated[
    Literal["light", "dark"] | None,
    typer.Option(help="Its ground.", show_default="light; with --show, the terminal's", rich_help_panel=PICTURE),
]


@flags.spread
def plot(
    model: options.Model,
    reading: Reading,
    applying: Applying,
    data: options.Data = None,
    kind: Kind = "latent",
    output: options.Output = None,
    colour: ColourBy = None,
    examples: Examples = 10,
    show: Show = False,
    title: Title = None,
    size: Size = None,
    dpi: Dpi = None,
    theme: Theme = None,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw a picture of a model: a PNG, SVG or PDF file, in the terminal, or its latent space as an HTML page.

    $ aecli plot digits.safetensors --kind reconstruction -o digits.png

    $ aecli plot digits.safetensors --show

    Without -o and --show, the file is named after the model and the kind, here.
    """
    shaping = {"--title": title, "--size": size, "--dpi": dpi, "--theme": theme}
    if kind in PAGE and (given := [flag for flag, value in shaping.items() if value is not None]):
        raise UsageError(f"a page is no picture, which {' and '.join(given)} would shape", hint="leave it out")
    if colour is not None and kind not in (*COLOURED, *PAGE):
        raise UsageError(f"--colour is for {', '.join(COLOURED)}, and {kind} colours no rows", hint="leave it out")
    if kind == "samples" and data:
        raise UsageError(f"samples are drawn without DATA, and there is {shown(data[0])}", hint="leave it out")
    path = _path(model, data, kind, output, show=show, as_json=as_json)
    if kind == "history":
        from aecli.model import checkpoint

        made: drawing.Picture | Page = drawing.history(checkpoint.read(model), str(model))
    elif kind == "samples":
        made = drawing.samples(aecli.load(model, device=device))
    else:
        rows.check_data(model, data)
        applying = dataclasses.replace(applying, **_as_drawn(applying, colour))
        loaded = aecli.load(model, device=device)
        opened = functools.partial(_opened, loaded, rows.fixed(data), reading, applying, data_dir=data_dir)
        held_out = _held_out(loaded, opened) if kind == "reconstruction" and rows.can_be_read_twice(data) else None
        made = _made(kind, loaded, opened(quiet=quiet), colour, examples, held_out)
        for sentence in made.notes:
            console.say(sentence, quiet=quiet)
    if path is not None or output == "-":
        _write(made, path, theme, size, title, dpi or DPI, quiet=quiet)
    if show and isinstance(made, drawing.Picture):
        _show(made, theme, title, quiet=quiet)
    if as_json:
        console.result(json.dumps({"figure": str(path), "kind": kind, "rows": made.rows}))


def _as_drawn(applying: Applying, colour: str | None) -> dict[str, Any]:
    """Return what a picture asks of reading: rows that cannot be read leave nothing to draw, a column may colour."""
    from aecli.data.beside import split

    bad_rows = "skip" if applying.bad_rows == "blank" else applying.bad_rows
    return {"bad_rows": bad_rows, "aside": None if colour is None or split(colour) else (COLOUR, colour)}


def _opened(*given: Any, **options: Any) -> "Source":
    """Open rows to be drawn: one without any value is no point."""
    source = rows.open_rows(*given, **options)
    source.blanks = False
    return source


def _held_out(loaded: "Model", opened: "Callable[..., Source]") -> Any:
    """Read images, and return which of them (N,) were held out of training; None where nobody knows."""
    from aecli.model.held_out import held_out

    return None if loaded.schema.image_shape is None else held_out(loaded.checkpoint, opened(quiet=True))


def _made(
    kind: str, loaded: "Model", source: "Source", colour: str | None, examples: int, held_out: Any
) -> "drawing.Picture | Page":
    """Read the rows, and make of them what is to be written."""
    from aecli.data.labels import Labels

    coloured = Labels(source, colour, COLOUR)
    if kind in PAGE:
        from aecli.figures.map import page

        made: drawing.Picture | Page = page(loaded, source, coloured)
    else:
        made = drawing.KINDS[kind](loaded, source, drawing.Asked(examples, coloured, held_out))
    return dataclasses.replace(made, notes=(*made.notes, *source.notes()))


def _path(
    model: Where, data: list[str] | None, kind: str, output: str | None, *, show: bool, as_json: bool
) -> Where | None:
    """Return the file to write, None for none or stdout. Refuse what makes no sense, or cannot be written."""
    wanted = ["--show"] * show + ["--json"] * as_json + ["-o -"] * (output == "-")
    if len(wanted) > 1:
        way = "write the picture to a file: -o picture.png" + ", without --show" * (show and as_json)
        raise UsageError(f"{' and '.join(wanted)} both want stdout", hint=way)
    if kind in PAGE and show:
        raise UsageError("a page is for a browser, and --show draws in the terminal", hint="leave --show out")
    if output == "-" or (show and output is None):
        return None
    path = place(output or f"{model.stem}-{kind}.{'html' if kind in PAGE else 'png'}")
    page = path.suffix.lower() == ".html"
    if kind in PAGE and not page:
        raise UsageError(f"{path}: a page has a name that ends in .html", hint=f"-o {path.stem or 'page'}.html")
    if page and kind not in PAGE:
        raise UsageError(f"{path}: a page is what --kind page writes, and {kind} is a picture", hint="--kind page")
    if not page:
        from aecli import figures

        figures.format_of(path)
    rows.check_output(path, str(model), *(data or ()))
    rows.keep_checkpoint(path)
    return path


def _write(
    made: "drawing.Picture | Page",
    path: Where | None,
    theme: str | None,
    size: tuple[float, float] | None,
    title: str | None,
    dpi: int,
    *,
    quiet: bool,
) -> None:
    """Write a picture or a page to a file or to stdout; a picture as PNG there."""
    lacking, replaced = "", path is not None and path.exists()
    if isinstance(made, drawing.Picture):
        from aecli import figures
        from aecli.figures.style import Look

        figure, form = made.draw(Look(theme or "light", size, title)), figures.format_of(path) if path else "png"
    with console.results(or_file=True) if path is None else files.replacing(path) as stream:
        if isinstance(made, drawing.Picture):
            lacking = figures.save(figure, stream, form, dpi)
        else:
            stream.write(made.html)
    if path is not None:
        rows.say_written(path, replaced=replaced, quiet=quiet)
    if lacking:
        console.say(f"the font lacks {' '.join(lacking)}: boxes stand for them; an SVG holds the text", quiet=quiet)


def _show(picture: drawing.Picture, theme: str | None, title: str | None, *, quiet: bool) -> None:
    from aecli.cli import screen
    from aecli.figures import terminal
    from aecli.figures.style import Look

    shown_on = screen.Screen()
    look = Look(theme or screen.theme(), title=title, window=shown_on.window)
    if picture.fitting and picture.fitting(look) < picture.rows:
        said = f"the window has room for {picture.fitting(look)} of {picture.rows} images"
        console.say(said, quiet=quiet)
    shown_on.show(terminal.draw(picture.draw(look), look, colour=shown_on.has_colour))
