"""From sources of rows to a trained model. It calls back, and never prints and never exits."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from aecli import __version__, device, loop, metrics
from aecli.checkpoint import Checkpoint
from aecli.config import RECIPES, ModelConfig, Results, TrainConfig, resolve
from aecli.data.source import Source
from aecli.errors import DataError, TrainingError
from aecli.model import Autoencoder, initialise
from aecli.scaler import FULL_SCALE, Scaler

Array = np.ndarray[Any, Any]
DEFAULT_HOLDOUT = 0.1
VALIDATION = 0.1  # of the training rows, where early stopping is on


@dataclass(frozen=True)
class Plan:
    """What a run is about to do, every choice made."""

    model: ModelConfig
    train: TrainConfig
    rows: int
    validation_rows: int
    test_rows: int
    device: str


@dataclass(frozen=True)
class Fitted:
    """A trained model: what `checkpoint.save` takes."""

    checkpoint: Checkpoint
    tensors: dict[str, Array]
    scaler: Scaler


def fit(
    source: Source,
    test_source: Source | None = None,
    *,
    recipe: str = "modern",
    holdout: float | None = None,
    scale: str | None = None,
    seed: int = 0,
    trained_on: str | None = None,
    device_name: str = "auto",
    on_start: Callable[[Plan], None] = lambda _: None,
    on_progress: Callable[[loop.Progress], None] = lambda _: None,
    **asked: Any,
) -> Fitted:
    """Train an autoencoder on a source's rows; what `asked` does not say, the recipe does.

    The held-out rows are those of `test_source`, else a random share `holdout` of the rows.
    `trained_on` names the built-in set that the rows are, for the checkpoint.
    Raises DataError where the data does not suffice, TrainingError where the loss is no longer a finite number or the
    device's memory is full.
    """
    where = device.pick(device_name)
    x, x_test = _split(source, test_source, holdout, seed)
    x_validation = None
    if asked.get("patience"):
        x, x_validation = _cut(x, VALIDATION, seed + 1, source.name)
    scaler = Scaler.fit(scale or RECIPES[recipe].scale, x, source.schema)
    schema = source.schema
    model_config, config = resolve(
        recipe,
        schema.inputs,
        len(x),
        bounded=scaler.bounded,
        image_shape=schema.image_shape,
        seed=seed,
        holdout=0.0 if test_source is not None else DEFAULT_HOLDOUT if holdout is None else holdout,
        **asked,
    )
    if config.precision == "auto":
        config = dataclasses.replace(config, precision="bf16" if device.has_bf16(where) else "fp32")
    if schema.image_shape is not None and scaler.kind != FULL_SCALE:  # white is the largest value seen
        schema = dataclasses.replace(schema, full_scale=float(x.max()) if x.max() > 0 else 1.0)
    counts = {
        "rows": len(x),
        "validation_rows": 0 if x_validation is None else len(x_validation),
        "test_rows": 0 if x_test is None else len(x_test),
    }
    on_start(Plan(model_config, config, device=device.describe(where), **counts))
    try:
        rows = loop.Rows(x, scaler, where)
        validation_rows = None if x_validation is None else loop.Rows(x_validation, scaler, where)
        test_rows = None if x_test is None else loop.Rows(x_test, scaler, where)
        model = Autoencoder(model_config)
        initialise(model, model_config, config.init, rows.mean().cpu(), torch.Generator().manual_seed(seed))
        model.to(where)
        trainer = loop.Trainer(model, config, rows, validation_rows, test_rows, schema.image_shape)
        history = trainer.run(on_progress)
        train_mse = loop.evaluate(model, rows)
        test_mse = None if test_rows is None else loop.evaluate(model, test_rows)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{device.describe(where)} has too little memory for {len(x):,} rows in batches of {config.batch_size:,}",
            hint="lower --batch-size, or train with --device cpu",
        ) from error
    results = Results(
        rows=len(x),
        test_rows=counts["test_rows"],
        train_mse=train_mse,
        test_mse=test_mse,
        pca_mse=None if x_test is None else metrics.pca_mse(x, x_test, scaler, model_config.latent_dim),
    )
    versions = {"aecli": __version__, "torch": torch.__version__}
    made = Checkpoint(model_config, config, schema, scaler.kind, trained_on, results, history, versions)
    return Fitted(made, {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}, scaler)


def _split(source: Source, test_source: Source | None, holdout: float | None, seed: int) -> tuple[Array, Array | None]:
    x = source.read().x
    if test_source is not None:
        return x, test_source.read().x
    share = DEFAULT_HOLDOUT if holdout is None else holdout
    return (x, None) if share == 0 else _cut(x, share, seed, source.name)


def _cut(x: Array, share: float, seed: int, name: str) -> tuple[Array, Array]:
    """Cut a random share off the rows (N, D), at least one: the rest, and what was cut off, in their order."""
    order = np.random.default_rng(seed).permutation(len(x))
    held = max(1, round(share * len(x)))
    if held >= len(x):
        raise DataError(f"{name}: {len(x)} row, and at least one to train on and one to hold out are needed")
    return x[np.sort(order[held:])], x[np.sort(order[:held])]
