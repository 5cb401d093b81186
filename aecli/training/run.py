"""One run of training: plan, train, judge."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from aecli import __version__, metrics
from aecli.config import ModelConfig, Results, TrainConfig
from aecli.data.part import Part
from aecli.errors import AecliError, Stopped, TrainingError, UsageError
from aecli.inference import Model
from aecli.model import device as devices
from aecli.model import holes, mixture
from aecli.model.checkpoint import PRECISION, Checkpoint
from aecli.model.module import Autoencoder, initialise
from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training import loop
from aecli.training.fit import Prepared
from aecli.training.resume import ResumeFile, described, fingerprint
from aecli.training.rows import Rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Plan:
    """What a run is about to do, every choice made."""

    model: ModelConfig
    train: TrainConfig
    rows: int
    validation_rows: int
    test_rows: int
    device: str


def run(
    rows: Prepared,
    asked: FitOptions,
    *,
    device: str,
    resume: ResumeFile | None,
    stopping: AbstractContextManager[Callable[[], bool]] | None,
    on_start: Callable[[Plan], None],
    on_progress: Callable[[loop.Progress], None],
    announce: Callable[[str], None],
) -> Model:
    """Train a model on prepared rows: see `aecli.fit`."""
    where, start = devices.pick(device), rows.start
    model_config, config = resolve(
        asked,
        rows.scaler.inputs,
        len(rows.training),
        bounded=rows.scaler.bounded,
        image_shape=rows.schema.image_shape,
        model=None if start is None else start.model.checkpoint.model,
    )
    if config.precision == "auto":
        config = dataclasses.replace(config, precision="bf16" if devices.has_bf16(where) else "fp32")
    parts = {"training": rows.training, "validation": rows.validation, "held-out": rows.held_out}
    configs = {"model": model_config.to_json(), "train": config.to_json(), "schema": rows.schema.to_json()}
    configs["scaling"] = {"scale": rows.scaler.kind}
    if start is not None:
        configs["init_from"] = {"initial model": start.digest()}
    description = described(configs, rows.origin, str(rows.training.x.dtype), where.type)
    counts = [0 if part is None else len(part) for part in parts.values()]
    about = {"source": rows.source, "rows": dict(zip(parts, counts, strict=True))}
    kept = None if resume is None else resume.begin(description, about)
    on_start(Plan(model_config, config, counts[0], counts[1], counts[2], devices.describe(where)))
    try:
        training, validation, held_out = (
            None if part is None else Rows(part, rows.scaler, where) for part in parts.values()
        )
        assert training is not None  # noqa: S101, for the type checker
        model = Autoencoder(model_config)
        if start is None:
            generator = torch.Generator().manual_seed(config.seed)
            initialise(model, model_config, config.init, training.mean().cpu(), generator)
        else:
            model.load_state_dict({name: torch.tensor(weights) for name, weights in start.weights.items()})
        model.to(where)
        trainer = loop.Trainer(model, config, training, validation, held_out, rows.schema.image_shape)
        keeper = _Keeper(trainer, resume, description, kept, announce) if resume else None
        if resume is not None and resume.finish:
            announce(f"finishing {resume.path} {_place(trainer)}")
            complete, history = trainer.is_done, trainer.end()
        else:
            with stopping or nullcontext(lambda: False) as stop_wanted:
                after_step = (lambda: keeper.after_step(stop_wanted())) if keeper else lambda: None
                complete, history = True, trainer.run(on_progress, after_step)
        train_mse = loop.evaluate(model, training)
        test_mse = None if held_out is None else loop.evaluate(model, held_out)
        tensors = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
        if rows.schema.missing == "mean" and rows.scaler.inputs <= holes.MAX_INPUTS:
            tensors[PRECISION] = holes.precision(*loop.error_products(model, training))
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{devices.describe(where)} has too little memory for {len(rows.training):,} rows, batches of "
            f"{config.batch_size:,}",
            hint="lower --batch-size, or train with --device cpu",
        ) from error
    pca_mse = None
    if rows.held_out is not None:
        pca_mse = metrics.pca_mse(rows.training, rows.held_out, rows.scaler, model_config.latent_dim)
    made = Checkpoint(
        model_config,
        config,
        rows.schema,
        rows.scaler.kind,
        rows.trained_on,
        Results(counts[0], counts[2], train_mse, test_mse, pca_mse),
        history,
        {"aecli": __version__, "torch": torch.__version__},
        source=rows.source,
        fingerprint=fingerprint(description) if complete else None,
        origin=rows.origin,
    )
    return _with_mixture(Model(made, tensors, rows.scaler, device=str(where)), rows.training, config.seed)


def _with_mixture(trained: Model, training: Part, seed: int) -> Model:
    """Return a model, on the CPU, with a mixture of Gaussians fitted to the codes of some of its training rows.

    It is the model as it is where its codes are too wide, or none is finite.
    """
    made, tensors = trained.checkpoint, trained.tensors
    if made.model.latent_dim <= mixture.MAX_LATENT:
        z = trained.encode(training.sample(mixture.MAX_CODES, np.random.default_rng(seed)))
        z = z[np.isfinite(z).all(axis=1)]
        if len(z):
            found = mixture.fit(z, seed)
            made, tensors = dataclasses.replace(made, mixture=len(found)), {**tensors, **found.tensors()}
    return Model(made, tensors, trained.scaler)


def _place(trainer: loop.Trainer) -> str:
    """Say where a run is."""
    epochs, step = len(trainer.history.loss), trainer.step_in_epoch
    return (
        f"in epoch {epochs + (step > 0)} of {trainer.config.epochs}, after step "
        f"{epochs * trainer.steps_per_epoch + step:,} of {trainer.steps:,}"
    )


class _Keeper:
    """Keeps the state of a run in a resume file, after it has put the run where the state `kept` says."""

    def __init__(
        self,
        trainer: loop.Trainer,
        file: ResumeFile,
        run: dict[str, Any],
        kept: tuple[dict[str, Array], dict[str, Any]] | None,
        announce: Callable[[str], None],
    ) -> None:
        self._trainer, self._file, self._run, self._announce = trainer, file, run, announce
        if kept is not None:
            try:
                trainer.restore(*kept)
            except (ValueError, KeyError, TypeError, RuntimeError, UsageError) as error:
                file.give_up(error)

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
