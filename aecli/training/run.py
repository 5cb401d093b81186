"""One run of training: plan, train, judge."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from aecli import __version__, metrics
from aecli.config import PCA, Config, History, ModelConfig, Results, TrainConfig, prefixes
from aecli.data.part import Part
from aecli.errors import AecliError, DataError, Stopped, UsageError
from aecli.inference import Model
from aecli.model import device as devices
from aecli.model import holes, mixture
from aecli.model.checkpoint import PRECISION, Checkpoint
from aecli.model.module import Autoencoder
from aecli.model.scaler import CHUNK_VALUES
from aecli.options import FitOptions
from aecli.recipes import FEWEST_NEIGHBOURS, VECTORS, resolve
from aecli.recipes import is_free as is_free_to_choose
from aecli.training import choose, loop
from aecli.training.dictionary import DEAD_ROWS
from aecli.training.fit import Prepared
from aecli.training.folds import Folds
from aecli.training.group import ALONE, Group
from aecli.training.neighbours import nearest
from aecli.training.objectives import ACTIVE
from aecli.training.resume import ResumeFile, described, fingerprint
from aecli.training.rows import Rows
from aecli.training.scored import with_score
from aecli.training.shares import Work, begin, dealt
from aecli.training.start import Start, first_weights

Array = np.ndarray[Any, Any]
LATER = {  # fields that were added to a config later
    "model": frozenset({"channels", "image_shape", "bottleneck", "active"}),
    "train": frozenset({"loss", "beta", "neighbours", "nested", "holdout_last"}),
}
BATCH = 1024  # rows that are encoded at a time
NOISE_ROWS, NOISE_VALUES = 4096, 1 << 24  # the most that are compared
SMALL = 1 << 16  # up to so many parameters bf16 saves no time, and spoils some models of few inputs


@dataclass(frozen=True)
class Plan:
    """The plan of a run, with every choice made. If the weights are PCA's, nothing is trained.

    `history` holds the epochs that are already done, if the run is resumed.
    """

    model: ModelConfig
    train: TrainConfig
    rows: int
    validation_rows: int
    test_rows: int
    device: str
    history: History


def run(
    rows: Prepared,
    asked: FitOptions,
    *,
    device: str,
    resume: ResumeFile | None,
    stopping: AbstractContextManager[Callable[[], bool]] | None,
    on_start: Callable[[Plan], None],
    on_phase: Callable[[str, float], None],
    on_progress: Callable[[loop.Progress], None],
    announce: Callable[[str], None],
    group: Group = ALONE,
) -> Model:
    """Train a model on prepared rows: see `aecli.fit`."""
    where = devices.pick(device)
    model_config, config = _resolved(rows, asked, where)
    with devices.threads_for(where, loop.multiplications(model_config, config)):
        return _run(
            rows,
            asked,
            where,
            model_config,
            config,
            resume=resume,
            stopping=stopping,
            on_start=on_start,
            on_phase=on_phase,
            on_progress=on_progress,
            announce=announce,
            group=group,
        )


def _run(
    rows: Prepared,
    asked: FitOptions,
    where: torch.device,
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    resume: ResumeFile | None,
    stopping: AbstractContextManager[Callable[[], bool]] | None,
    on_start: Callable[[Plan], None],
    on_phase: Callable[[str, float], None],
    on_progress: Callable[[loop.Progress], None],
    announce: Callable[[str], None],
    group: Group,
) -> Model:
    start = rows.start
    is_free = start is None and is_free_to_choose(asked)
    description = _description(rows, asked, model_config, config, where, group, is_free=is_free)
    parts = {"training": rows.training, "validation": rows.validation, "held-out": rows.held_out}
    counts = [0 if part is None else len(part) for part in parts.values()]
    about = {"source": rows.source, "rows": dict(zip(parts, counts, strict=True))}
    state = None if resume is None else resume.begin(description, about)
    with devices.memory_for(where, f"{counts[0]:,} rows, batches of {config.batch_size:,}"):
        training, validation, held_out = (
            None if part is None else Rows(part, rows.scaler, where) for part in parts.values()
        )
        assert training is not None  # noqa: S101, for the type checker
        _check_range(training, config, start)

        @functools.cache
        def new_trainer() -> loop.Trainer:
            finish = resume is not None and resume.finish
            return _trainer(rows, model_config, config, (training, validation, held_out), where, group, finish=finish)

        network, history, complete = (model_config, config), History(), True

        @functools.cache
        def folds(most: int | None) -> Folds:
            its_own = max(1, len(history.loss)) if config.patience or not complete else asked.epochs
            return Folds(rows, dataclasses.replace(asked, epochs=its_own), *network, where, most)

        trainer = None
        if resume is not None and state is not None:
            trainer = _restored(new_trainer(), resume, state)
        if is_free and trainer is None and config.recipe != VECTORS:  # a resumed run has had its cross-validation
            verdict = choose.by_cross_validation(rows, model_config, folds, announce)
            model_config, config = choose.given_way(verdict, model_config, config, announce)
        done = History() if trainer is None else trainer.history
        on_start(Plan(model_config, config, counts[0], counts[1], counts[2], _described(where, group), done))
        pca = _pca(rows, model_config, config) if is_free or held_out is not None else None
        if config.init != PCA:
            trainer = trainer or new_trainer()
            begin(group, trainer)
            keeper = None if resume is None else _Keeper(trainer, resume, description, announce)
            complete, history = _trained(trainer, keeper, stopping, on_phase, on_progress)
            if is_free and complete and pca is not None:
                last = choose.in_the_end(rows, trainer.model, config, training, pca)
                model_config, config = choose.given_way(last, model_config, config, announce)
        model = trainer.model if trainer and config.init != PCA else _of_pca(model_config, pca, where)
        history = History() if config.init == PCA else history
        results = _results(rows, model, config, pca, training, held_out)
        tensors = _arrays(model)
        if rows.schema.missing == "mean" and rows.scaler.inputs <= holes.MAX_INPUTS:
            tensors[PRECISION] = holes.precision(*loop.error_products(model, training))
    made = Checkpoint(
        model_config,
        config,
        rows.schema,
        rows.scaler.kind,
        rows.trained_on,
        results,
        history,
        {"aecli": __version__, "torch": str(torch.__version__)},
        source=rows.source,
        fingerprint=fingerprint(description) if complete else None,
        origin=rows.origin,
    )
    trained = _with_mixture(Model(made, tensors, rows.scaler, device=str(where)), rows.training, config.seed)
    return with_score(trained, rows, lambda: folds(None), asked.store_rows, on_phase)


def _trainer(
    rows: Prepared,
    model_config: ModelConfig,
    config: TrainConfig,
    parts: tuple[Rows, Rows | None, Rows | None],
    where: torch.device,
    group: Group,
    *,
    finish: bool,
) -> loop.Trainer:
    """Return the trainer of a new network, on the training, validation and held-out rows."""
    model, image_shape = Autoencoder(model_config), rows.schema.image_shape
    training, validation, held_out = parts
    first_weights(
        model, config, rows.start, training
    )  # on the CPU, so that equal seeds give equal weights on all devices
    stops = validation if config.patience else None  # the validation rows of vectors may only judge at the end
    if group.is_alone:
        return loop.Trainer(model.to(where), config, training, stops, held_out, image_shape)
    work = Work(where.type, model_config, config, rows.scaler, image_shape, _arrays(model), training.holes, finish)
    return dealt(group, work, [None if each is None else each.part for each in (training, stops, held_out)], where)


def _of_pca(config: ModelConfig, pca: metrics.Pca | None, where: torch.device) -> Autoencoder:
    """Return PCA as a network."""
    assert pca is not None  # noqa: S101, for the type checker
    model = Autoencoder(config).to(where)
    model.load_state_dict(choose.tensors(pca))
    return model


def _described(where: torch.device, group: Group) -> str:
    """Return the name of the device, and the number of processes if there are several."""
    return devices.describe(where) + ("" if group.is_alone else f", in {group.count} processes")


def _arrays(model: Autoencoder) -> dict[str, Array]:
    return {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}


def _pca(rows: Prepared, model: ModelConfig, config: TrainConfig) -> metrics.Pca | None:
    """Return PCA with as many values as the model keeps. For vectors it keeps the mean, which cosines depend on."""
    return metrics.pca(rows.training, rows.scaler, model.kept, centred=config.recipe != VECTORS)


def _resolved(rows: Prepared, asked: FitOptions, where: torch.device) -> tuple[ModelConfig, TrainConfig]:
    """Return the configs, with a choice for every option that was not given."""
    model, config = resolve(
        asked,
        rows.scaler.inputs,
        len(rows.training),
        bounded=rows.scaler.bounded,
        image_shape=rows.schema.image_shape,
        model=None if rows.start is None else rows.start.model.checkpoint.model,
    )
    if config.precision == "auto":
        convolves_here = where.type == "cpu" and model.channels  # bf16 was no faster for these, over five seeds
        pays = model.parameters > SMALL and devices.has_bf16(where) and not convolves_here
        config = dataclasses.replace(config, precision="bf16" if pays else "fp32")
    if config.neighbours and asked.neighbours is None and rows.training.blocks is not None:
        config = dataclasses.replace(config, neighbours=FEWEST_NEIGHBOURS)  # a window holds a small part of a file
    if config.neighbours and asked.noise is None:
        config = dataclasses.replace(config, noise=min(config.noise, _most_noise(rows, config.neighbours)))
    return model, config


def _most_noise(rows: Prepared, neighbours: int) -> float:
    """Return the most noise that suits the rows of a map: the typical difference of neighbours in a value.

    More noise would merge near rows, such as the layers of a roll, or images that use little of their range.
    """
    count = max(2, min(NOISE_ROWS, NOISE_VALUES // rows.scaler.inputs))
    sample = rows.training.sample(count, np.random.default_rng(0))
    if len(sample) < 2:
        return 0.0
    x = torch.from_numpy(metrics.scaled(sample, rows.scaler))
    near = nearest(x, min(neighbours, len(x) - 1))
    distances = torch.stack([torch.linalg.vector_norm(x - x[column], dim=1) for column in near.T])
    return float(f"{float(distances.median()) / math.sqrt(x.shape[1]):.2g}")


def _description(
    rows: Prepared,
    asked: FitOptions,
    model: ModelConfig,
    config: TrainConfig,
    where: torch.device,
    group: Group,
    *,
    is_free: bool,
) -> dict[str, Any]:
    """Return the description of a run, all that determines its result: see `resume.described`."""
    configs: dict[str, Any] = {"model": model, "train": config, "schema": rows.schema}
    configs = {name: _without_later(each, LATER.get(name, frozenset())) for name, each in configs.items()}
    configs["scaling"] = {"scale": rows.scaler.kind}
    if is_free:
        configs["choice"] = {"PCA where it is better": True}
    if not group.is_alone:
        configs["processes"] = {"processes": group.count}
    if asked.store_rows != FitOptions.store_rows:
        configs["score"] = {"store_rows": asked.store_rows}
    if rows.start is not None:
        configs["init_from"] = {"initial model": rows.start.digest()}
    return described(configs, rows.origin, str(rows.training.x.dtype), where.type)


def _without_later(config: Config, later: Collection[str]) -> dict[str, Any]:
    """Return a config as JSON, without `later` fields at their default, so that older runs are still recognised."""
    set_anew = config.to_json(compact=True)
    return {name: value for name, value in config.to_json().items() if name not in later or name in set_anew}


def _check_range(training: Rows, config: TrainConfig, start: Start | None) -> None:
    """Raise DataError for values that cross-entropy cannot take: new rows may be outside the range of the model's."""
    for batch in training.batches() if config.loss == "bce" and start is not None else ():
        filled = training.filled(batch)[0]
        low, high = float(filled.min()), float(filled.max())
        if low < 0 or high > 1:
            raise DataError(
                f"--loss bce is for values from 0 to 1, and with the model's scaling these are {low:.4g} to {high:.4g}",
                hint="--loss mse or huber takes any values",
            )


def _results(
    rows: Prepared,
    model: Autoencoder,
    config: TrainConfig,
    pca: metrics.Pca | None,
    training: Rows,
    held_out: Rows | None,
) -> Results:
    """Return the errors and other results of a trained model."""
    results = Results(
        len(training),
        0 if held_out is None else len(held_out),
        loop.evaluate(model, training),
        None if held_out is None else loop.evaluate(model, held_out),
        None if pca is None or rows.held_out is None else pca.mse(rows.held_out),
    )
    if config.recipe == VECTORS and (found := choose.by_search(rows, model, rows.held_out, pca)) is not None:
        results = dataclasses.replace(results, test_recall=found.network, pca_recall=found.pca)
    if config.nested:
        judged = training if held_out is None else held_out
        widths = prefixes(model.config.latent_dim)
        errors = tuple(loop.evaluate(model, judged, first) for first in widths)
        results = dataclasses.replace(results, prefix_mse=errors)
    if model.config.bottleneck == "sparse":
        results = _with_activity(results, rows, model, training)
    elif model.config.bottleneck == "variational":
        kl = loop.divergences(model, training)
        results = dataclasses.replace(results, kl=kl, active_dims=sum(nats > ACTIVE for nats in kl))
    if config.loss == "mse" and not results.kl:
        return results
    return dataclasses.replace(
        results,
        train_loss=loop.minimised(model, training, config),
        test_loss=None if held_out is None else loop.minimised(model, held_out, config),
    )


def _with_activity(results: Results, rows: Prepared, model: Autoencoder, training: Rows) -> Results:
    """Return the results with the metrics of sparse codes."""
    moments = metrics.Moments(rows.scaler.inputs)
    mse, part = (results.train_mse, rows.training) if rows.held_out is None else (results.test_mse, rows.held_out)
    for raw in part.chunks(CHUNK_VALUES):
        holes = rows.scaler.holes(raw)
        moments.add(rows.scaler.transform(raw), None if holes is None else ~holes)
    with torch.no_grad():
        some = training.sample(DEAD_ROWS, np.random.default_rng(0))
        z = torch.cat([model.encode(x) for x in torch.split(some, BATCH)]).cpu().numpy()
    active_values, dead_latents = metrics.activity(z)
    return dataclasses.replace(
        results,
        active_dims=loop.used(model, training),
        explained_variance=metrics.explained_variance((mse or 0.0) * float(moments.counts.sum()), moments),
        active_values=active_values,
        dead_latents=dead_latents,
    )


def _with_mixture(trained: Model, training: Part, seed: int) -> Model:
    """Return a model, on the CPU, with a mixture of Gaussians fitted to the codes of some of its training rows.

    The model is returned unchanged if its codes are too wide, if none is finite, or if the model is variational.
    """
    made, tensors = trained.checkpoint, trained.tensors
    if made.model.latent_dim <= mixture.MAX_LATENT and made.model.bottleneck != "variational":
        z = trained.encode(training.sample(mixture.MAX_CODES, np.random.default_rng(seed)))
        z = z[np.isfinite(z).all(axis=1)]
        if len(z):
            found = mixture.fit(z, seed)
            made, tensors = dataclasses.replace(made, mixture=len(found)), {**tensors, **found.tensors()}
    return Model(made, tensors, trained.scaler)


def _trained(
    trainer: loop.Trainer,
    keeper: "_Keeper | None",
    stopping: AbstractContextManager[Callable[[], bool]] | None,
    on_phase: Callable[[str, float], None],
    on_progress: Callable[[loop.Progress], None],
) -> tuple[bool, History]:
    """Train to the end, or end at once with --finish. Return whether training is complete, and its history."""
    if keeper is not None and keeper.finishes:
        keeper.announce(f"finishing {keeper.path} {_place(trainer)}")
        return trainer.is_done, trainer.end(on_progress)
    with stopping or nullcontext(lambda: False) as stop_wanted:
        after_step = (lambda: keeper.after_step(stop_wanted())) if keeper else lambda: None
        return True, trainer.run(on_progress, after_step, lambda share: on_phase("finding neighbours", share))


def _place(trainer: loop.Trainer) -> str:
    """Return how far a run is, in words."""
    epochs, step = len(trainer.history.loss), trainer.step_in_epoch
    if not epochs + step:
        return "before its first step"
    return (
        f"in epoch {epochs + (step > 0)} of {trainer.config.epochs}, after step "
        f"{epochs * trainer.steps_per_epoch + step:,} of {trainer.steps:,}"
    )


def _restored(
    trainer: loop.Trainer, file: ResumeFile, state: tuple[dict[str, Array], dict[str, Any]]
) -> loop.Trainer | None:
    """Return the trainer with the state of a stopped run. If the state is of another run, set it aside, return None."""
    try:
        trainer.restore(*state)
    except (ValueError, KeyError, TypeError, RuntimeError, UsageError) as error:
        file.give_up(error)
        return None
    return trainer


class _Keeper:
    """Saves the state of a run in a resume file."""

    def __init__(
        self, trainer: loop.Trainer, file: ResumeFile, run: dict[str, Any], announce: Callable[[str], None]
    ) -> None:
        self._trainer, self._file, self._run, self.announce = trainer, file, run, announce
        self.path, self.finishes = file.path, file.finish

    def after_step(self, stop_wanted: bool) -> None:
        """Save if it is time to, and stop if that is wanted."""
        if not (stop_wanted or self._file.is_due()):
            return
        try:
            self._file.save(self._run, *self._trainer.state())
        except AecliError as error:
            if stop_wanted:
                raise
            self._file.postpone()
            self.announce(f"the run continues, but its state cannot be saved: {error.message}")
        if stop_wanted:
            raise Stopped
