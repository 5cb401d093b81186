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
        raise typer.BadParameter(f"{text!r} is not a size such as 4.8x3.5, each from 1 to 60 inches")
    return width, height


Kind = Annotated[
    Literal["latent", "reconstruction", "errors", "history", "manifold", "traversal", "samples", "page", "map"],
    typer.Option(
        metavar="KIND",
        help="latent: a scatter plot of the latent rows. reconstruction: images above their reconstructions, or the "
        "columns of a table, best to worst. errors: histograms of the scores, one per label, and the strangest "
        "images (not with --show); mean squared errors if the model has no score. history: loss by epoch. "
        "manifold: images decoded from a plane through the codes, faint if no row is near. traversal: rows decoded "
        "along each principal component of the codes. samples: images decoded from 96 draws (with --show, as many as "
        "fit the window) from a mixture of Gaussians fitted to the training codes, or from N(0, I) for a variational "
        "model. page, or map: an interactive HTML page, in which the decoder runs.",
    ),
]
ColourBy = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Colour the rows of latent, errors and page by a column of the data, or by FILE:COLUMN, a column of "
        "another table. If the data is images, the rows of that table are matched by a column of paths or names, else "
        "by number.",
        show_default="the label",
        autocompletion=completion.columns,
    ),
]
PAGE = ("page", "map")  # two names of one kind
COLOUR = "--colour"
COLOURED = ("latent", "errors", "page")
Examples = Annotated[int, typer.Option(min=1, max=50, metavar="N", help="The number of images in a reconstruction.")]
Show = Annotated[
    bool,
    typer.Option(
        "--show",
        help="Draw in the terminal, to fit the window. With -o, write a file as well.",
        rich_help_panel=PICTURE,
    ),
]
Title = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="A title above it.", show_default=False, rich_help_panel=PICTURE),
]
Size = Annotated[
    Any,
    typer.Option(
        parser=parse_inches,
        metavar="WIDTHxHEIGHT",
        help="The size in inches.",
        show_default="4.8 wide, as high as the kind needs",
        rich_help_panel=PICTURE,
    ),
]
Dpi = Annotated[
    int | None,
    typer.Option(
        min=30,
        max=1200,
        metavar="N",
        help="Dots per inch of a PNG.",
        show_default=str(DPI),
        rich_help_panel=PICTURE,
    ),
]
Theme = Annotated[
    Literal["light", "dark"] | None,
    typer.Option(help="The background.", show_default="light; with --show, the terminal's", rich_help_panel=PICTURE),
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

    Without -o and --show, the file is named after the model and the kind, in the
    working directory.
    """
    shaping = {"--title": title, "--size": size, "--dpi": dpi, "--theme": theme}
    if kind in PAGE and (given := [flag for flag, value in shaping.items() if value is not None]):
        raise UsageError(
            f"{' and '.join(given)} cannot be used with --kind {kind}, an HTML page",
            hint="leave it out",
        )
    if colour is not None and kind not in (*COLOURED, *PAGE):
        raise UsageError(f"--colour is for {', '.join(COLOURED)}, not for {kind}", hint="leave it out")
    if kind == "samples" and data:
        raise UsageError(f"--kind samples needs no DATA, and {shown(data[0])} was given", hint="leave it out")
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
    """Return the reading options of a picture: rows that cannot be read are skipped, and a column may colour rows."""
    from aecli.data.beside import split

    bad_rows = "skip" if applying.bad_rows == "blank" else applying.bad_rows
    return {"bad_rows": bad_rows, "aside": None if colour is None or split(colour) else (COLOUR, colour)}


def _opened(*given: Any, **options: Any) -> "Source":
    """Open rows to be drawn. A row without any value is not drawn."""
    source = rows.open_rows(*given, **options)
    source.blanks = False
    return source


def _held_out(loaded: "Model", opened: "Callable[..., Source]") -> Any:
    """Read images, and return which of them (N,) were held out of training, None if that is unknown."""
    from aecli.model.held_out import held_out

    return None if loaded.schema.image_shape is None else held_out(loaded.checkpoint, opened(quiet=True))


def _made(
    kind: str, loaded: "Model", source: "Source", colour: str | None, examples: int, held_out: Any
) -> "drawing.Picture | Page":
    """Read the rows, and return the picture or the page to write."""
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
    """Return the file to write, None for no file or stdout. Refuse options that contradict each other."""
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
        raise UsageError(f"{path}: the name of a page must end in .html", hint=f"-o {path.stem or 'page'}.html")
    if page and kind not in PAGE:
        raise UsageError(f"{path}: .html is for --kind page, and {kind} is a picture", hint="--kind page")
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
    """Write a picture or a page to a file or to stdout. A picture on stdout is a PNG."""
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
        console.say(f"the font lacks {' '.join(lacking)}: boxes are drawn instead; an SVG keeps the text", quiet=quiet)


def _show(picture: drawing.Picture, theme: str | None, title: str | None, *, quiet: bool) -> None:
    from aecli.cli import screen
    from aecli.figures import terminal
    from aecli.figures.style import Look

    shown_on = screen.Screen()
    look = Look(theme or screen.theme(), title=title, window=shown_on.window)
    if picture.fitting and picture.fitting(look) < picture.rows:
        said = f"showing {picture.fitting(look)} of {picture.rows} images: the window has no room for more"
        console.say(said, quiet=quiet)
    shown_on.show(terminal.draw(picture.draw(look), look, colour=shown_on.has_colour))
