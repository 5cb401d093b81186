"""The public way in to training: open the rows, split, scale, plan, run, judge. It never prints and never exits."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aecli import __version__, metrics
from aecli.config import ModelConfig, Results, Schema, TrainConfig
from aecli.data.gather import gather
from aecli.data.opening import open_source, split_name
from aecli.data.part import Part
from aecli.errors import AecliError, DataError, Stopped, TrainingError, UsageError
from aecli.inference import Model
from aecli.model import device as devices
from aecli.model import holes
from aecli.model.checkpoint import PRECISION, Checkpoint
from aecli.model.module import Autoencoder, initialise
from aecli.model.scaler import CHUNK_VALUES, FULL_SCALE, Scaler
from aecli.options import Columns, FitOptions, Reading, grouped, with_options
from aecli.recipes import DEFAULT_HOLDOUT, completed, resolve
from aecli.training import loop
from aecli.training.resume import ResumeFile, described
from aecli.training.rows import Rows

Array = np.ndarray[Any, Any]
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


def fit(
    data: Any,
    *,
    test: Any = None,
    device: str = "auto",
    data_dir: Path | None = None,
    scratch: Path | None = None,
    resume: ResumeFile | None = None,
    stopping: AbstractContextManager[Callable[[], bool]] | None = None,
    on_start: Callable[[Plan], None] = lambda _: None,
    on_progress: Callable[[loop.Progress], None] = lambda _: None,
    announce: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Model:
    """Train an autoencoder. It never prints.

    `data` is an array of rows (N, D) or of images (N, H, W) or (N, H, W, C), a data frame, a path or a list of paths,
    or the name of a built-in set. The held-out rows are those of `test`, which is given in the same way, else a
    built-in set's test split, else a random share `holdout` of the rows.
    `device` is auto, cpu, cuda, cuda:N or mps. Built-in sets lie in the folder `data_dir`, or are downloaded to it.
    Rows that are too many for memory are kept in an unnamed file in the folder `scratch`; without it they stay in
    memory. The run goes on from the state that `resume` holds, and keeps its own there. While it can be stopped, it is
    inside the context manager `stopping`, whose value is called at each step and tells whether to stop. `on_start` is
    called with the plan, `on_progress` several times a second, `announce` with sentences that a user should know.
    All other keywords are the flags of `aecli train`; None leaves a choice to the recipe or to a rule.
    Raises DataError where the data does not suffice, UsageError where an option makes no sense, TrainingError where the
    loss is no longer a finite number or the device's memory is full, Stopped where it was asked to stop.
    """
    asked, columns, reading = grouped(options, FitOptions, Columns, Reading)
    opening: dict[str, Any] = {"data_dir": data_dir, "announce": announce}
    source = open_source(data, columns=columns, reading=reading, **opening)
    named = split_name(data, "train") if isinstance(data, str) else None
    if test is None and named is not None and named[1] == "train" and asked.holdout is None:
        test = f"{named[0]}:test"
    if test is not None or asked.holdout is None:
        asked = dataclasses.replace(asked, holdout=DEFAULT_HOLDOUT if test is None else 0.0)
    where = devices.pick(device)
    training, held_out, validation = gather(source, scratch, announce), None, None
    if test is not None:
        test_source = open_source(test, split="test", schema=source.schema, reading=reading, **opening)
        held_out = gather(test_source, scratch, announce)
    elif asked.holdout:
        training, held_out = _cut(training, asked.holdout, asked.seed, source.name)
    if asked.patience:
        training, validation = _cut(training, VALIDATION, asked.seed + 1, source.name)
    scaler = Scaler.fit(completed(asked).scale or "standard", training, source.schema)
    schema = _with_white(source.schema, scaler, training)
    model_config, config = resolve(
        asked, scaler.inputs, len(training), bounded=scaler.bounded, image_shape=schema.image_shape
    )
    if config.precision == "auto":
        config = dataclasses.replace(config, precision="bf16" if devices.has_bf16(where) else "fp32")
    on_start(
        Plan(
            model_config,
            config,
            len(training),
            0 if validation is None else len(validation),
            0 if held_out is None else len(held_out),
            devices.describe(where),
        )
    )
    try:
        rows = Rows(training, scaler, where)
        validation_rows = None if validation is None else Rows(validation, scaler, where)
        test_rows = None if held_out is None else Rows(held_out, scaler, where)
        model = Autoencoder(model_config)
        initialise(model, model_config, config.init, rows.mean().cpu(), torch.Generator().manual_seed(config.seed))
        model.to(where)
        trainer = loop.Trainer(model, config, rows, validation_rows, test_rows, schema.image_shape)
        parts = {"training": training, "validation": validation, "held-out": held_out}
        configs = {"model": model_config.to_json(), "train": config.to_json(), "schema": schema.to_json()}
        keeper = _Keeper(trainer, resume, described(configs, parts, where.type), announce) if resume else None
        with stopping or nullcontext(lambda: False) as stop_wanted:
            history = trainer.run(on_progress, (lambda: keeper.after_step(stop_wanted())) if keeper else lambda: None)
        train_mse = loop.evaluate(model, rows)
        test_mse = None if test_rows is None else loop.evaluate(model, test_rows)
        tensors = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
        if schema.missing == "mean" and scaler.inputs <= holes.MAX_INPUTS:
            tensors[PRECISION] = holes.precision(*loop.error_products(model, rows))
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{devices.describe(where)} has too little memory for {len(training):,} rows, batches of "
            f"{config.batch_size:,}",
            hint="lower --batch-size, or train with --device cpu",
        ) from error
    for sentence in source.notes():
        announce(sentence)
    results = Results(
        rows=len(training),
        test_rows=0 if held_out is None else len(held_out),
        train_mse=train_mse,
        test_mse=test_mse,
        pca_mse=None if held_out is None else metrics.pca_mse(training, held_out, scaler, model_config.latent_dim),
    )
    trained_on = named[0] if named is not None and named[1] == "train" else None
    versions = {"aecli": __version__, "torch": torch.__version__}
    made = Checkpoint(model_config, config, schema, scaler.kind, trained_on, results, history, versions)
    return Model(made, tensors, scaler)


with_options(fit, FitOptions, Columns, Reading)


def _with_white(schema: Schema, scaler: Scaler, training: Part) -> Schema:
    """Return the schema with white as the largest value seen, where images exceed the full scale of their type."""
    if schema.image_shape is None or scaler.kind == FULL_SCALE:
        return schema
    white = max(float(np.fmax.reduce(x, axis=None)) for x in training.chunks(CHUNK_VALUES))
    return dataclasses.replace(schema, full_scale=white if white > 0 else 1.0)


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
