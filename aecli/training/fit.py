"""From sources of rows to a trained model. It calls back, and never prints and never exits."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aecli import __version__, metrics
from aecli.config import RECIPES, ModelConfig, Results, TrainConfig, resolve
from aecli.data.gather import gather
from aecli.data.part import Part
from aecli.data.source import Source
from aecli.errors import AecliError, DataError, Stopped, TrainingError, UsageError
from aecli.model import device
from aecli.model.checkpoint import Checkpoint
from aecli.model.module import Autoencoder, initialise
from aecli.model.scaler import CHUNK_VALUES, FULL_SCALE, Scaler
from aecli.training import loop
from aecli.training.resume import ResumeFile, described

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
    scratch: Path | None = None,
    device_name: str = "auto",
    on_start: Callable[[Plan], None] = lambda _: None,
    on_progress: Callable[[loop.Progress], None] = lambda _: None,
    announce: Callable[[str], None] = lambda _: None,
    resume: ResumeFile | None = None,
    stopping: AbstractContextManager[Callable[[], bool]] | None = None,
    **asked: Any,
) -> Fitted:
    """Train an autoencoder on a source's rows; what `asked` does not say, the recipe does.

    The held-out rows are those of `test_source`, else a random share `holdout` of the rows.
    `trained_on` names the built-in set that the rows are, for the checkpoint. Rows that are too many for memory are
    kept in an unnamed file in the folder `scratch` while it trains.
    The run goes on from the state that `resume` holds, if it holds one, and keeps its own there. `announce` is told
    what a user should know. While it can be stopped it is inside `stopping`, whose answer it asks for at each step.
    Raises DataError where the data does not suffice, TrainingError where the loss is no longer a finite number or the
    device's memory is full, Stopped where it was asked to stop.
    """
    where = device.pick(device_name)
    part, test_part = gather(source, scratch, announce), None
    if test_source is not None:
        test_part = gather(test_source, scratch, announce)
    elif holdout != 0:
        part, test_part = _cut(part, DEFAULT_HOLDOUT if holdout is None else holdout, seed, source.name)
    validation_part = None
    if asked.get("patience"):
        part, validation_part = _cut(part, VALIDATION, seed + 1, source.name)
    schema = source.schema
    scaler = Scaler.fit(scale or RECIPES[recipe].scale, part, schema)
    if schema.image_shape is not None and scaler.kind != FULL_SCALE:  # white is the largest value seen
        white = max(float(x.max()) for x in part.chunks(CHUNK_VALUES))
        schema = dataclasses.replace(schema, full_scale=white if white > 0 else 1.0)
    model_config, config = resolve(
        recipe,
        scaler.inputs,
        len(part),
        bounded=scaler.bounded,
        image_shape=schema.image_shape,
        seed=seed,
        holdout=0.0 if test_source is not None else DEFAULT_HOLDOUT if holdout is None else holdout,
        **asked,
    )
    if config.precision == "auto":
        config = dataclasses.replace(config, precision="bf16" if device.has_bf16(where) else "fp32")
    counts = {
        "rows": len(part),
        "validation_rows": 0 if validation_part is None else len(validation_part),
        "test_rows": 0 if test_part is None else len(test_part),
    }
    on_start(Plan(model_config, config, device=device.describe(where), **counts))
    try:
        rows = loop.Rows(part, scaler, where)
        validation_rows = None if validation_part is None else loop.Rows(validation_part, scaler, where)
        test_rows = None if test_part is None else loop.Rows(test_part, scaler, where)
        model = Autoencoder(model_config)
        initialise(model, model_config, config.init, rows.mean().cpu(), torch.Generator().manual_seed(seed))
        model.to(where)
        trainer = loop.Trainer(model, config, rows, validation_rows, test_rows, schema.image_shape)
        parts = {"training": part, "validation": validation_part, "held-out": test_part}
        configs = {"model": model_config.to_json(), "train": config.to_json(), "schema": schema.to_json()}
        keeper = _Keeper(trainer, resume, described(configs, parts, where.type), announce) if resume else None
        with stopping or nullcontext(lambda: False) as stop_wanted:
            history = trainer.run(on_progress, (lambda: keeper.after_step(stop_wanted())) if keeper else lambda: None)
        train_mse = loop.evaluate(model, rows)
        test_mse = None if test_rows is None else loop.evaluate(model, test_rows)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{device.describe(where)} has too little memory for {len(part):,} rows, batches of {config.batch_size:,}",
            hint="lower --batch-size, or train with --device cpu",
        ) from error
    results = Results(
        rows=counts["rows"],
        test_rows=counts["test_rows"],
        train_mse=train_mse,
        test_mse=test_mse,
        pca_mse=None if test_part is None else metrics.pca_mse(part, test_part, scaler, model_config.latent_dim),
    )
    versions = {"aecli": __version__, "torch": torch.__version__}
    made = Checkpoint(model_config, config, schema, scaler.kind, trained_on, results, history, versions)
    return Fitted(made, {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}, scaler)


class _Keeper:
    """Keeps the state of a run in a resume file, from which it begins."""

    def __init__(
        self, trainer: loop.Trainer, file: ResumeFile, run: dict[str, Any], announce: Callable[[str], None]
    ) -> None:
        """Raise AecliError where the file holds the state of another run, or is damaged."""
        self._trainer, self._file, self._run, self._announce = trainer, file, run, announce
        if file.found:
            tensors, position = file.read(run)
            try:
                trainer.restore(tensors, position)
            except (ValueError, KeyError, TypeError, RuntimeError, UsageError) as error:
                raise file.damaged(error) from error

    def after_step(self, stop_wanted: bool) -> None:
        """Save where it is time to, and stop where that is wanted."""
        if not (stop_wanted or self._file.is_due()):
            return
        try:
            self._file.save(self._run, *self._trainer.state())
        except AecliError as error:
            if stop_wanted:
                raise
            self._file.postpone()
            self._announce(f"the run goes on, but its state cannot be kept: {error.message}")
        if stop_wanted:
            raise Stopped


def _cut(part: Part, share: float, seed: int, name: str) -> tuple[Part, Part]:
    rest, off = part.cut(share, np.random.default_rng(seed))
    if not len(rest):
        raise DataError(f"{name}: {len(part)} row, and at least one to train on and one to hold out are needed")
    return rest, off
