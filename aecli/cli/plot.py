"""aecli plot."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aecli import checkpoint, files
from aecli.cli import console, options, rows
from aecli.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aecli.data import Source
    from aecli.inference import Model

Kind = Annotated[
    Literal["latent", "reconstruction", "history", "map"],
    typer.Option(
        help="Latent rows as a scatter; originals above their reconstructions; loss by epoch; a page to walk through."
    ),
]
Examples = Annotated[int, typer.Option(min=1, max=50, help="How many rows a reconstruction shows.")]


def plot(
    model: options.Model,
    data: options.Data = None,
    kind: Kind = "latent",
    output: options.Output = None,
    examples: Examples = 10,
    device: options.Device = "cpu",
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw a picture of a model: a PNG, SVG or PDF file, or its latent space as an HTML page.

    $ aecli plot digits.safetensors --kind reconstruction -o digits.png

    Without -o, the file is named after the model and the kind, here.
    """
    from aecli import figures

    if as_json and output == "-":
        raise UsageError("--json and -o - both want stdout", hint="write the picture to a file: -o picture.png")
    if kind == "map":
        _map(model, data, output, device=device, data_dir=data_dir, as_json=as_json, quiet=quiet)
        return
    if output is not None and output.lower().endswith(".html"):
        raise UsageError(f"{output}: a page is what --kind map writes, and {kind} is a picture", hint="--kind map")
    path = None if output == "-" else Path(output or f"{model.stem}-{kind}.png")
    form = "png" if path is None else figures.format_of(path)
    if path is not None:
        rows.check_output(path, str(model), *(data or ()))
        rows.keep_checkpoint(path)
    shown = 0
    if kind == "history":
        figure = _history(model)
    else:
        from aecli.inference import Model

        loaded = Model(model, device_name=device)
        source = rows.open_rows(model, data, loaded.checkpoint, data_dir=data_dir, quiet=quiet)
        figure, shown = _latent(loaded, source) if kind == "latent" else _reconstruction(loaded, source, examples)
    if path is None:
        with console.results() as stream:
            figures.save(figure, stream, form)
        return
    replaced = path.exists()
    figures.save_file(figure, path, form)
    rows.say_written(path, replaced=replaced, quiet=quiet)
    if as_json:
        console.result(json.dumps({"figure": str(path), "kind": kind, "rows": shown}))


def _map(
    model: Path,
    data: list[str] | None,
    output: str | None,
    *,
    device: str,
    data_dir: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    path = None if output == "-" else Path(output or f"{model.stem}-map.html")
    if path is not None:
        if path.suffix.lower() != ".html":
            raise UsageError(
                f"{path}: a map is a page, whose name ends in .html", hint=f"-o {path.with_suffix('.html')}"
            )
        rows.check_output(path, str(model), *(data or ()))
        rows.keep_checkpoint(path)
    from aecli.figures.map import page
    from aecli.inference import Model

    loaded = Model(model, device_name=device)
    source = rows.open_rows(model, data, loaded.checkpoint, data_dir=data_dir, quiet=quiet)
    made = page(loaded, source)
    rows.say_left_out(source, quiet=quiet)
    for note in made.notes:
        console.say(note, quiet=quiet)
    if path is None:
        with console.results() as stream:
            stream.write(made.html)
        return
    replaced = path.exists()
    with files.replacing(path) as stream:
        stream.write(made.html)
    rows.say_written(path, replaced=replaced, quiet=quiet)
    if as_json:
        console.result(json.dumps({"figure": str(path), "kind": "map", "rows": made.rows}))


def _history(model: Path) -> "Figure":
    from aecli.figures.history import history

    found = checkpoint.read(model)
    return history(found.history, found.results.pca_mse)


def _latent(loaded: "Model", source: "Source") -> "tuple[Figure, int]":
    import numpy as np

    from aecli.figures.latent import latent

    outputs = list(loaded.encoded(source))
    z = np.concatenate([out.z for out in outputs])
    known = outputs[0].batch.labels is not None
    labels = np.concatenate([np.asarray(out.batch.labels) for out in outputs]) if known else None
    return latent(z, labels), len(z)


def _reconstruction(loaded: "Model", source: "Source", examples: int) -> "tuple[Figure, int]":
    from aecli.figures import reconstruction

    batch = source.read()
    shape, full_scale = loaded.schema.image_shape, loaded.schema.full_scale
    if shape is None or full_scale is None:
        return reconstruction.columns(batch.x, loaded.reconstruct(batch.x), source.schema.names()), len(batch.x)
    chosen = reconstruction.pick(batch.labels, len(batch.x), examples)
    x = batch.x[chosen]
    recon, mse = loaded.reconstruct(x), loaded.errors(x)
    return reconstruction.images(x.reshape(-1, *shape), recon.reshape(-1, *shape), mse, full_scale), len(x)
