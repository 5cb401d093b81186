"""aecli info."""

import datetime as dt
import json

from aecli.cli import console, options
from aecli.config import Column, Dialect, Schema

SHOWN_COLUMNS, SHOWN_CATEGORIES = 20, 8


def info(model: options.Model, as_json: options.Json = False) -> None:
    """Show what a checkpoint holds.

    $ aecli info digits.safetensors
    """
    from aecli.model import checkpoint

    found = checkpoint.read(model)
    if as_json:
        console.result(json.dumps({"checkpoint": str(model)} | found.to_json()))
        return
    widths = (found.model.inputs, *found.model.hidden_dims, found.model.latent_dim)
    schema, train, results = found.schema, found.train, found.results
    facts = {
        "checkpoint": str(model),
        "network": "-".join(map(str, widths)) + f", mirrored; {found.model.parameters:,} parameters",
        "activations": f"{found.model.activation}; bottleneck {found.model.latent_activation}; "
        f"output {found.model.output_activation}",
        "trained on": f"{found.source or found.data or 'a file'}, {results.rows:,} rows",
        "written": f"{dt.datetime.fromtimestamp(model.stat().st_mtime).astimezone():%Y-%m-%d %H:%M}",
        "a row": _row(schema),
        "scaling": found.scaler,
        "recipe": f"{train.recipe}: {train.optimizer}, lr {train.lr:g}, batches of {train.batch_size}, "
        f"{train.epochs} epochs, seed {train.seed}",
        "MSE, training": f"{results.train_mse:.6g}",
        "MSE, held-out": "none was held out"
        if results.test_mse is None
        else f"{results.test_mse:.6g} on {results.test_rows:,} rows"
        + (f"; PCA {results.pca_mse:.6g}" if results.pca_mse is not None else ""),
        "made by": ", ".join(f"{name} {version}" for name, version in sorted(found.versions.items())),
    }
    if schema.columns:
        facts |= _columns(schema)
    width = max(map(len, facts))
    console.result("\n".join(f"{name:<{width}}  {console.printable(value)}" for name, value in facts.items()))


def _row(schema: Schema) -> str:
    if schema.image_shape is not None:
        return f"an image of {' × '.join(map(str, schema.image_shape))} pixels"
    if not schema.columns:
        return console.counted(schema.inputs, "value")
    wide = f", {schema.inputs:,} values" if schema.inputs != len(schema.columns) else ""
    return console.counted(len(schema.columns), "column") + wide


def _columns(schema: Schema) -> dict[str, str]:
    """Return what is known of a table: its columns, and how it was written."""
    facts = {"label": schema.label or "none"}
    if schema.left_out:
        facts["left out"] = ", ".join(f"{name or repr(name)} ({why})" for name, why in schema.left_out)
    facts["holes"] = {
        None: "there were none",
        "mean": "trained with --missing mean",
        "drop": "their rows were left out",
    }[schema.missing] + (f"; also {', '.join(map(repr, schema.na))}" if schema.na else "")
    if schema.dialect is not None:
        usual = Dialect()
        said = {name: value for name, value in vars(schema.dialect).items() if value != getattr(usual, name)}
        facts["written with"] = ", ".join(f"{name} {value!r}" for name, value in said.items()) or "commas, in UTF-8"
    for i, column in enumerate(schema.columns[:SHOWN_COLUMNS]):
        facts[f"  {column.name or f'x{i}'}"] = f"{column.kind}{_content(column)}"
    if (more := len(schema.columns) - SHOWN_COLUMNS) > 0:
        facts["  ..."] = f"and {more:,} more; --json shows all"
    return facts


def _content(column: Column) -> str:
    """Say what the training rows held in a column."""
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
    """Write a value in raw units as its kind is read."""
    if kind in ("date", "timestamp"):
        instant = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=value)
        return instant.strftime("%Y-%m-%d" if kind == "date" else "%Y-%m-%d %H:%M:%S")
    if kind == "time":
        return str(dt.timedelta(seconds=round(value)))
    return f"{value:.15g}" + (" s" if kind == "duration" else "")
