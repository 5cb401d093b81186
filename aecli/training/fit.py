"""The public way in to training: open the rows, split them, scale them, run. It never prints and never exits.

PyTorch is imported once the data is known to fit, so that what is wrong with it is said at once.
"""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.config import Schema
from aecli.data.formats import source_name
from aecli.data.gather import gather
from aecli.data.opening import open_source, split_name
from aecli.data.part import Part
from aecli.errors import DataError, UsageError
from aecli.inference import Model
from aecli.model.scaler import CHUNK_VALUES, FULL_SCALE, Scaler
from aecli.options import Applying, Columns, FitOptions, Matching, Reading, grouped, with_options
from aecli.recipes import DEFAULT_HOLDOUT, completed
from aecli.training.resume import ResumeFile
from aecli.training.start import Start, start_from

if TYPE_CHECKING:
    from aecli.training.loop import Progress
    from aecli.training.run import Plan

VALIDATION = 0.1  # of the training rows, where early stopping is on


@dataclass(frozen=True)
class Prepared:
    """Rows by what they are for, and how they are scaled. Nothing is selected on held-out rows.

    `trained_on` is the built-in set that the rows are, `source` what they are called, `start` the model to go on from.
    """

    training: Part
    validation: Part | None
    held_out: Part | None
    scaler: Scaler
    schema: Schema
    trained_on: str | None
    source: str | None
    start: Start | None = None


def _nothing(_: object) -> None:
    pass


def fit(
    data: Any,
    *,
    test: Any = None,
    init_from: str | Path | Model | None = None,
    device: str = "auto",
    data_dir: Path | None = None,
    scratch: Path | None = None,
    force: bool = False,
    resume: ResumeFile | None = None,
    stopping: AbstractContextManager[Callable[[], bool]] | None = None,
    on_open: Callable[[Schema], None] = _nothing,
    on_start: "Callable[[Plan], None]" = _nothing,
    on_progress: "Callable[[Progress], None]" = _nothing,
    announce: Callable[[str], None] = _nothing,
    **options: Any,
) -> Model:
    """Train an autoencoder. It never prints.

    `data` is an array of rows (N, D) or of images (N, H, W) or (N, H, W, C), a data frame, a path or a list of paths,
    or the name of a built-in set. The held-out rows are those of `test`, which is given in the same way, else a
    built-in set's test split, else a random share `holdout` of the rows.
    With `init_from`, a model or the path of its checkpoint, training goes on from its weights: the architecture, the
    scaling and the schema stay the model's, and the rows are matched to it as `Model.embed` matches them.
    `device` is auto, cpu, cuda, cuda:N or mps. Built-in sets lie in the folder `data_dir`, or are downloaded to it.
    Rows that are too many for memory are kept in an unnamed file in the folder `scratch`; without it they stay in
    memory. With `force`, what may be a decompression bomb is read all the same. The run goes on from the state that
    `resume` holds, and keeps its own there. While it can be stopped, it is inside the context manager `stopping`, whose
    value is called at each step and tells whether to stop. `on_open` is called before the rows are read, with a schema
    whose categories are not known yet; `on_start` with the plan, `on_progress` several times a second, `announce` with
    sentences that a user should know.
    All other keywords are the flags of `aecli train`; None leaves a choice to the recipe or to a rule.
    Raises DataError where the data does not suffice, UsageError where an option makes no sense, CheckpointError where
    `init_from` names no checkpoint, TrainingError where the loss is no longer a finite number or the device's memory is
    full, Stopped where it was asked to stop, Finished where `resume` asks to go on with a run that came to its end.
    """
    asked, columns, reading, matching = grouped(options, FitOptions, Columns, Reading, Matching)
    opening: dict[str, Any] = {"reading": reading, "data_dir": data_dir, "announce": announce, "force": force}
    start = None
    if init_from is not None:
        start, asked = start_from(init_from, asked, columns, matching)
        announce(f"starting from the weights of {start.model.name}")
        opening["applying"] = Applying(**vars(matching))
        source = open_source(data, schema=start.schema, **opening)
        start.check(source)
    else:
        _check_unmatched(matching)
        source = open_source(data, columns=columns, **opening)
    on_open(source.schema if start is None else start.schema)
    for sentence in source.learning():
        announce(sentence)
    named = split_name(data, "train") if isinstance(data, str) else None
    trained_on = named[0] if named is not None and named[1] == "train" else None
    if test is None and trained_on is not None and asked.holdout is None:
        test = f"{trained_on}:test"
    if test is not None or asked.holdout is None:
        asked = dataclasses.replace(asked, holdout=DEFAULT_HOLDOUT if test is None else 0.0)
    training, held_out, validation = gather(source, scratch, announce), None, None
    if test is not None:
        test_source = open_source(test, split="test", schema=source.schema, **opening)
        held_out = gather(test_source, scratch, announce)
    elif asked.holdout:
        training, held_out = _cut(training, asked.holdout, asked.seed, source.name)
    if asked.patience:
        training, validation = _cut(training, VALIDATION, asked.seed + 1, source.name)
    if start is None:
        scaler = Scaler.fit(completed(asked).scale or "standard", training, source.schema)
        schema = _with_ranges(_with_white(source.schema, scaler, training), training)
        remarks = [*source.remarks, *_spikes(schema, scaler, training)]
    else:
        scaler, schema, remarks = start.scaler, start.schema, [*source.remarks]
    for sentence in (*remarks, *source.notes()):
        announce(sentence)
    from aecli.training.run import run

    name = trained_on or source_name(data)
    prepared = Prepared(training, validation, held_out, scaler, schema, trained_on, name, start)
    return run(
        prepared,
        asked,
        device=device,
        resume=resume,
        stopping=stopping,
        on_start=on_start,
        on_progress=on_progress,
        announce=announce,
    )


with_options(fit, FitOptions, Columns, Reading, Matching)


def _check_unmatched(matching: Matching) -> None:
    """Refuse options that are about a model's columns where there is no model."""
    usual = Matching()
    if said := [f"--{n.replace('_', '-')} {v}" for n, v in vars(matching).items() if v != getattr(usual, n)]:
        raise UsageError(f"{said[0]} is about rows for a trained model, and training starts without one")


def _with_ranges(schema: Schema, training: Part) -> Schema:
    """Return the schema with the extremes of the training rows in each column of numbers or times."""
    if not schema.columns:
        return schema
    low, high = np.full(schema.inputs, np.inf), np.full(schema.inputs, -np.inf)
    for x in training.chunks(CHUNK_VALUES):
        low, high = np.fmin(low, np.fmin.reduce(x, axis=0)), np.fmax(high, np.fmax.reduce(x, axis=0))
    columns, place = [], 0
    for column in schema.columns:
        wide = slice(place, place + column.width)
        known = column.kind not in ("category", "boolean") and np.isfinite(low[wide]).all()
        columns.append(
            dataclasses.replace(column, low=float(low[wide].min()), high=float(high[wide].max())) if known else column
        )
        place += column.width
    return dataclasses.replace(schema, columns=tuple(columns))


def _with_white(schema: Schema, scaler: Scaler, training: Part) -> Schema:
    """Return the schema with white as the largest value seen, where images exceed the full scale of their type."""
    if schema.image_shape is None or scaler.kind == FULL_SCALE:
        return schema
    white = max(float(np.fmax.reduce(x, axis=None)) for x in training.chunks(CHUNK_VALUES))
    return dataclasses.replace(schema, full_scale=white if white > 0 else 1.0)


def _spikes(schema: Schema, scaler: Scaler, training: Part) -> list[str]:
    """Return sentences on values that flatten all others of their column, as far as the first rows tell."""
    if not schema.columns or scaler.kind not in ("standard", "minmax"):
        return []
    from aecli.data import settling

    return settling.spikes(schema.names, next(training.chunks(CHUNK_VALUES)))


def _cut(part: Part, share: float, seed: int, name: str) -> tuple[Part, Part]:
    rest, off = part.cut(share, np.random.default_rng(seed))
    if not len(rest):
        raise DataError(f"{name}: {len(part)} row, and at least one to train on and one to hold out are needed")
    return rest, off
