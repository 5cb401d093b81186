"""aecli info."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aecli.cli import completion, console, judged, options, ranks
from aecli.config import FROM_MODEL, PCA, Column, Dialect, History, ModelConfig, Schema, TrainConfig, sized
from aecli.data.places import Place, Where
from aecli.recipes import VECTORS

if TYPE_CHECKING:
    from aecli.model.checkpoint import Checkpoint

SHOWN_COLUMNS, SHOWN_CATEGORIES = 20, 8

Model = Annotated[
    Any,
    typer.Argument(
        parser=options.parse_place,
        metavar="MODEL",
        help="A checkpoint written by train, or the resume file of a run.",
        show_default=False,
        autocompletion=completion.models_and_runs,
    ),
]


def info(model: Model, as_json: options.Json = False) -> None:
    """Show the contents of a checkpoint, or the progress of a stopped run.

    $ aecli info digits.safetensors
    """
    from aecli.training import saved

    if saved.is_saved_run(model):
        _show(*_of_run(model), as_json=as_json)
    else:
        _show(*_of_checkpoint(model), as_json=as_json)


def _show(facts: dict[str, str], values: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        console.result(json.dumps(values))
        return
    width = max(map(len, facts))
    console.result("\n".join(f"{name:<{width}}  {console.printable(value)}" for name, value in facts.items()))


def _of_checkpoint(path: Where) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the contents of a checkpoint, in words and as JSON values."""
    from aecli.model import checkpoint

    found = checkpoint.read(path)
    results, epochs = found.results, len(found.history.loss)
    facts = {
        "checkpoint": str(path),
        **_network(found.model),
        "trained on": f"{found.source or found.data or 'a file'}, {results.rows:,} rows",
        "written": _when(path),
        "a row": _row(found.schema),
        **_images(found.schema),
        "scaling": found.scaler,
        "recipe": _recipe(found.train),
        **({"epochs run": f"{epochs:,} of {found.train.epochs:,}"} if 0 < epochs < found.train.epochs else {}),
        "MSE, training": f"{results.train_mse:.6g}",
        "MSE, held-out": "no rows were held out"
        if results.test_mse is None
        else f"{results.test_mse:.6g} on {results.test_rows:,} rows"
        + (f"; PCA {results.pca_mse:.6g}" if results.pca_mse is not None else ""),
        **_told(found),
        "draws": _draws(found),
        "scores": _scores(found),
        "made by": ", ".join(f"{name} {version}" for name, version in sorted(found.versions.items())),
    }
    return facts | _columns(found.schema), {"checkpoint": str(path)} | found.to_json()


def _of_run(path: Where) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the facts of the run in a resume file, in words and as JSON values."""
    from aecli.training import saved

    run = saved.read(path)
    name = judged.loss_name(run.model, run.train)
    held_out = [(run.validation_rows, "for early stopping"), (run.test_rows, "held out")]
    data = [f"{run.source or 'rows without a name'}, {run.rows:,} rows to train on"]
    data += [f"{rows:,} {what}" for rows, what in held_out if rows]
    several = f", in {run.processes} processes" if run.processes > 1 else ""
    facts = {
        "resume file": str(path),
        "saved": _when(path),
        "data": ", ".join(data),
        **_network(run.model),
        "a row": _row(run.schema),
        **_images(run.schema),
        "scaling": run.scaler,
        "recipe": _recipe(run.train),
        "epoch": f"{run.epoch:,} of {run.train.epochs:,}",
        "step": f"{run.step:,} of {run.steps:,}",
        "MSE" if name is None else f"loss, {name}": _losses(run.history),
        "time": f"{run.seconds:.1f} s of training, on {run.device}" + several,
        "started by": f"aecli {run.version}",
    }
    held = {"state": "still running: its process holds the file"}
    facts |= held if run.running else _ways(run.command, run.processes)
    when = _modified(path)
    saved_at = None if when is None else when.isoformat(timespec="seconds")
    values = {"resume_file": str(path), "saved": saved_at, **run.to_json()}
    return facts | _columns(run.schema), values


def _ways(command: Sequence[str] | None, processes: int) -> dict[str, str]:
    """Return how to resume or finish a stopped run: commands, or flags if the command that started it is unknown."""
    ways = {"to resume": "--resume", "to finish here": "--finish"}
    if command is None:
        return {way: f"the command that started it, with {flag}" for way, flag in ways.items()}
    return {way: ranks.started(console.command(command, flag), processes) for way, flag in ways.items()}


def _losses(history: History) -> str:
    """Return the last epoch's errors."""
    if not history.loss:
        return "no epoch is done yet"
    named = {"training": history.loss, "validation": history.validation_loss, "held-out": history.test_loss}
    said = ", ".join(f"{name} {values[-1]:.6g}" for name, values in named.items() if values)
    return f"{said}, in epoch {len(history.loss):,}"


def _modified(path: Where) -> dt.datetime | None:
    seconds = path.modified if isinstance(path, Place) else path.stat().st_mtime
    return None if seconds is None else dt.datetime.fromtimestamp(seconds).astimezone()


def _when(path: Where) -> str:
    when = _modified(path)
    return "unknown" if when is None else f"{when:%Y-%m-%d %H:%M}"


def _network(model: ModelConfig) -> dict[str, str]:
    return {
        "network": f"{model.layers}, mirrored; {model.parameters:,} parameters",
        "activations": f"{model.activation}; latent {model.latent_activation}; output {model.output_activation}",
        **_bottleneck(model),
    }


def _bottleneck(model: ModelConfig) -> dict[str, str]:
    if model.bottleneck == "none":
        return {}
    how = (
        "a Gaussian for each row"
        if model.active is None
        else f"the {model.active:,} largest of {model.latent_dim:,} values"
    )
    return {"bottleneck": f"{model.bottleneck}, {how}"}


def _told(found: "Checkpoint") -> dict[str, str]:
    """Return the loss, and facts of the codes, if they are not the usual ones."""
    name = judged.loss_name(found.model, found.train)
    told = {f"loss, {name}": judged.loss(found), "KL" if found.results.kl else "codes": judged.codes(found)}
    told["recall@10"] = judged.recall_of(found)
    told["nested codes"] = judged.prefixes_of(found)
    return {name: value for name, value in told.items() if value is not None}


def _draws(found: "Checkpoint") -> str:
    """Return a sentence on the distribution that decode --samples draws from."""
    if found.model.bottleneck == "variational":
        return "decode --samples draws from N(0, I); training held the codes near it"
    if found.mixture is None:
        return "none: no Gaussians were fitted to the training codes"
    return f"decode --samples draws from {console.counted(found.mixture, 'Gaussian')}, fitted to the training codes"


def _scores(found: "Checkpoint") -> str:
    """Return a sentence on the rows that score compares with."""
    if found.score is None:
        return "none: this model cannot score rows"
    from aecli.model.checkpoint import smallest

    held = found.score
    said = f"fitted; {console.counted(held.calibration, 'calibration row')}, smallest p {smallest(held.least_p)}"
    if not held.codes:
        return f"{said}; no codes of training rows are stored"
    are = "are" if held.codes > 1 else "is"
    return f"{said}; {console.counted(held.codes, 'code')} of training rows {are} stored, which can be decoded"


def _recipe(train: TrainConfig) -> str:
    if train.init == PCA:
        better = "served a search" if train.recipe == VECTORS else "rebuilt rows"
        return f"{train.recipe}: PCA, because no network {better} better"
    return (
        f"{train.recipe}: {train.optimizer}, lr {train.lr:g}, batches of {train.batch_size}, {train.epochs} epochs, "
        f"seed {train.seed}" + (", from the weights of another model" if train.init == FROM_MODEL else "")
    )


def _row(schema: Schema) -> str:
    if schema.image_shape is not None:
        return f"an image of {sized(schema.image_shape)}"
    if not schema.columns:
        return console.counted(schema.inputs, "value")
    wide = f", {schema.inputs:,} values" if schema.inputs != len(schema.columns) else ""
    return console.counted(len(schema.columns), "column") + wide


def _images(schema: Schema) -> dict[str, str]:
    """Return the facts of images: their values, and how other images are converted to them."""
    if schema.image_shape is None:
        return {}
    facts = {}
    if schema.full_scale is not None:
        kind = f"{schema.dtype}, " if schema.dtype else ""
        facts["pixels"] = f"{kind}black is {schema.black:g}, white {schema.full_scale:g}"
    if schema.resize:
        facts["other sizes"] = f"resized to this one, --fit {schema.fit}"
    if schema.image_shape[2:] == (4,):
        facts["transparent"] = "learnt, --alpha"
    elif schema.background is not None:
        facts["transparent"] = f"laid on {schema.background}"
    if schema.channels_first:
        facts["flat rows"] = "have their channels first"
    return facts


def _columns(schema: Schema) -> dict[str, str]:
    """Return the facts of a table: its columns, and how it was written. For other data, at most the label."""
    if not schema.columns:
        return {"label": _label(schema)} if schema.label else {}
    facts = {"label": _label(schema)}
    if schema.left_out:
        facts["left out"] = ", ".join(f"{name or repr(name)} ({why})" for name, why in schema.left_out)
    facts["holes"] = {
        None: "there were none",
        "mean": "trained with --missing mean",
        "drop": "their rows were left out",
    }[schema.missing] + (f"; --na {', '.join(map(repr, schema.na))}" if schema.na else "")
    if schema.dialect is not None:
        usual = Dialect()
        said = {name: value for name, value in vars(schema.dialect).items() if value != getattr(usual, name)}
        facts["written with"] = ", ".join(f"{name} {value!r}" for name, value in said.items()) or "commas, in UTF-8"
    for i, column in enumerate(schema.columns[:SHOWN_COLUMNS]):
        facts[f"  {column.name or f'x{i}'}"] = f"{column.kind}{_content(column)}"
    if (more := len(schema.columns) - SHOWN_COLUMNS) > 0:
        facts["  ..."] = f"and {more:,} more; --json shows all"
    return facts


def _label(schema: Schema) -> str:
    return (schema.label or "none") + (f", a column of {schema.label_file}" if schema.label_file else "")


def _content(column: Column) -> str:
    """Return the values of a column in the training rows, in words."""
    if column.kind == "category":
        shown = ", ".join(column.categories[:SHOWN_CATEGORIES])
        more = len(column.categories) - SHOWN_CATEGORIES
        return f": {shown}" + (f" and {more:,} more" if more > 0 else "")
    if column.kind == "boolean":
        return f": {' or '.join(column.words or ('false', 'true'))}"
    if column.low is None or column.high is None:
        return ""
    wide = f" of {column.width} values" if column.kind == "vector" else ""
    return f"{wide}, {_written(column.low, column.kind)} to {_written(column.high, column.kind)}"


def _written(value: float, kind: str) -> str:
    """Write a value in raw units in the format of its kind."""
    if kind in ("date", "timestamp"):
        instant = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=value)
        return instant.strftime("%Y-%m-%d" if kind == "date" else "%Y-%m-%d %H:%M:%S")
    if kind == "time":
        return str(dt.timedelta(seconds=round(value)))
    return f"{value:.15g}" + (" s" if kind == "duration" else "")
