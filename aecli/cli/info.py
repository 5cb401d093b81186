"""aecli info."""

import json
from datetime import datetime

from aecli.cli import console, options


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
        "written": f"{datetime.fromtimestamp(model.stat().st_mtime).astimezone():%Y-%m-%d %H:%M}",
        "a row": _row(schema.inputs, schema.image_shape, schema.features),
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
    width = max(map(len, facts))
    console.result("\n".join(f"{name:<{width}}  {console.printable(value)}" for name, value in facts.items()))


def _row(inputs: int, image_shape: tuple[int, ...] | None, features: tuple[str, ...] | None) -> str:
    if image_shape is not None:
        return f"an image of {' × '.join(map(str, image_shape))} pixels"
    if features is None:
        return f"{inputs} values"
    shown = ", ".join(features[:6])
    return f"{inputs} columns: {shown}" + (", ..." if inputs > 6 else "")
