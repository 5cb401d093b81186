"""The public entry to training: open the rows, split them, scale them, run. It never prints and never exits.

PyTorch is imported after the data is checked, so that errors in the data are reported at once.
"""

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli import metrics
from aecli.config import Schema, sized
from aecli.data import units
from aecli.data.digest import digest_of
from aecli.data.formats import NAMES, source_name
from aecli.data.gather import gather
from aecli.data.opening import open_source, split_name
from aecli.data.part import Part
from aecli.data.places import Where
from aecli.data.source import Source
from aecli.errors import DataError, UsageError
from aecli.inference import Model
from aecli.model.checkpoint import Origin
from aecli.model.scaler import CHUNK_VALUES, Scaler
from aecli.options import Applying, Columns, FitOptions, Matching, Reading, grouped, with_options
from aecli.recipes import DEFAULT_HOLDOUT, VECTORS, completed, is_free, resolve
from aecli.training.resume import ResumeFile
from aecli.training.start import Start, start_from

if TYPE_CHECKING:
    from aecli.training.group import Group
    from aecli.training.loop import Progress
    from aecli.training.run import Plan

BASE_BYTES = 600_000_000  # the memory for training a small model, including PyTorch
WEIGHT_BYTES = 30  # per weight: the weight, its gradient, the optimizer's moments and scratch, the checkpoint
CONVOLUTION_BYTES = 100_000_000  # the code of convolutions
VALUE_BYTES = 20  # per output value of convolutions in a batch: the value, its gradient, and their inputs
SEARCH_BYTES = 40_000_000  # a map's search for neighbours: the distances of some rows to all rows of a group
PLACE_BYTES = 4  # per neighbour of each row
MANY_INPUTS = 10_000
ROWS_LEFT_OUT = "--missing drop leaves out rows with empty cells, and --init-from MODEL trains a model further"
VALIDATION = 0.1  # the share of validation rows, for early stopping and for vectors
OF_ONE_UNIT = "number", "boolean", "vector"  # kinds of columns
FEW_VECTORS = 100  # with so few vectors there are no validation rows, and no comparison with PCA


@dataclass(frozen=True)
class Prepared:
    """The rows of a run by their purpose, and their scaling. Nothing is selected on held-out rows.

    `trained_on` is the built-in set of the rows, `source` their name, `origin` their digest, `start` the model whose
    training continues.
    """

    training: Part
    validation: Part | None
    held_out: Part | None
    scaler: Scaler
    schema: Schema
    trained_on: str | None
    source: str | None
    origin: Origin
    start: Start | None = None


def _nothing(*_: object) -> None:
    pass


def fit(
    data: Any,
    *,
    test: Any = None,
    init_from: str | Where | Model | None = None,
    device: str = "auto",
    data_dir: Path | None = None,
    scratch: Path | None = None,
    force: bool = False,
    resume: ResumeFile | None = None,
    stopping: AbstractContextManager[Callable[[], bool]] | None = None,
    on_open: Callable[[Schema], None] = _nothing,
    on_start: "Callable[[Plan], None]" = _nothing,
    on_phase: Callable[[str, float], None] = _nothing,
    on_progress: "Callable[[Progress], None]" = _nothing,
    announce: Callable[[str], None] = _nothing,
    group: "Group | None" = None,
    **options: Any,
) -> Model:
    """Train an autoencoder. It never prints.

    `data` is an array of rows (N, D) or of images (N, H, W) or (N, H, W, C), a data frame, a path or a list of paths,
    or the name of a built-in set. The held-out rows are `test`, which is given in the same way and matched by column
    name; without it a built-in set's test split; otherwise a random share `holdout` of the rows, or their last share
    `holdout_last`.
    With `init_from`, a model or the path of its checkpoint, training starts from the model's weights, architecture,
    scaling and schema, and the rows are matched to the model as in `Model.embed`.
    `device` is auto, cpu, cuda, cuda:N or mps. Built-in sets are in the folder `data_dir`, or downloaded to it. If the
    rows do not fit in memory, they are kept in an unnamed file in the folder `scratch`; without `scratch` they stay in
    memory. With `force`, a file that may be a decompression bomb is read. The run continues from the state in `resume`,
    and saves its own state there. While the run can be stopped, it is inside the context manager `stopping`, whose
    value is called at each step and returns whether to stop.
    `on_open` is called before the rows are read, with a schema whose categories are not known yet; `on_start` with the
    plan; `on_progress` several times a second; `on_phase` with the name of other work that takes time, such as a map's
    search for neighbours, and the share that is done; `announce` with sentences for the user. The processes of a
    `group` train together: this one has rank 0, and the others call `shares.follow`.
    All other keywords are the flags of `aecli train`; None leaves a choice to the recipe or to a rule.
    Raises DataError if the data is not sufficient, UsageError if an option makes no sense, CheckpointError if
    `init_from` is not a checkpoint, TrainingError if the loss is no longer a finite number or the device's memory is
    full, Stopped if the run was asked to stop, Finished if the run to resume is already finished.
    """
    asked, columns, reading, matching = grouped(options, FitOptions, Columns, Reading, Matching)
    named = split_name(data, "train") if isinstance(data, str) else None
    trained_on = named[0] if named is not None and named[1] == "train" else None
    _check_held_out(asked, trained_on, is_given=test is not None)
    _check_matching(matching, is_used=init_from is not None or test is not None)
    start = None
    if init_from is not None:
        start, asked = start_from(init_from, asked, columns)
        announce(f"starting from the weights of {start.model.name}")
    opening: dict[str, Any] = {"data_dir": data_dir, "announce": announce, "force": force}
    opened = _opener(start, columns, reading, matching, opening)
    source = opened(data, "train", None)
    on_open(source.schema if start is None else start.schema)
    _check_unit(source, asked)
    source.in_time_order = asked.holdout_last is not None
    for sentence in (*source.learning(), *_plan(source, asked, start)):
        announce(sentence)
    if test is None and trained_on is not None and asked.holdout is None:
        test = f"{trained_on}:test"
    if test is not None or asked.holdout is None:
        is_share = test is None and not asked.holdout_last
        asked = dataclasses.replace(asked, holdout=DEFAULT_HOLDOUT if is_share else 0.0)
    training, held_out, validation = gather(source, scratch, announce), None, None
    for sentence in (*source.remarks, *source.notes()):
        announce(sentence)
    origin = Origin(digest_of(training), block=1 if training.blocks is None else training.block_rows)
    training = training if start is None else start.in_units(training, source)
    if test is not None:
        test_source = opened(test, "test", source.schema)
        held_out, origin = _given(test_source, origin, scratch, announce)
        held_out = held_out if start is None else start.in_units(held_out, test_source)
    elif share := asked.holdout or asked.holdout_last:
        way = f"--holdout 0{' in place of --holdout-last' * bool(asked.holdout_last)} trains on all rows"
        training, held_out = _cut(training, share, asked, 0, source.name, way)
    judges = asked.recipe == VECTORS and start is None and is_free(asked) and len(training) > FEW_VECTORS
    if asked.patience or judges:  # on vectors, the validation rows judge whether PCA serves a search better
        way = "--patience 0 needs no validation rows"
        training, validation = _cut(training, VALIDATION, asked, 1, source.name, way)
    schema, scaler, remarks = _settled(source, training, start, asked, reading)
    for sentence in remarks:
        announce(sentence)
    from aecli.training.run import run

    name = trained_on or source_name(data)
    prepared = Prepared(training, validation, held_out, scaler, schema, trained_on, name, origin, start)
    return run(
        prepared,
        asked,
        device=device,
        resume=resume,
        stopping=stopping,
        on_start=on_start,
        on_phase=on_phase,
        on_progress=on_progress,
        announce=announce,
        **({} if group is None else {"group": group}),
    )


with_options(fit, FitOptions, Columns, Reading, Matching)


def _opener(
    start: Start | None, columns: Columns, reading: Reading, matching: Matching, opening: dict[str, Any]
) -> Callable[[Any, str, Schema | None], Source]:
    """Return a function that opens a split of data to train on, matched to a schema or a start if there is one.

    The rows of a schema are those of --test, and `matching` holds for them.
    """
    if start is not None:
        return lambda data, split, _: start.open(data, split, **opening, **vars(reading), **vars(matching))

    def opened(data: Any, split: str, schema: Schema | None) -> Source:
        if schema is None:
            return open_source(data, split=split, columns=columns, reading=reading, **opening)
        applying = Applying(**vars(matching), further=True)
        source = open_source(data, split=split, schema=schema, reading=reading, applying=applying, **opening)
        source.bad_rows = matching.bad_rows
        return source

    return opened


def _check_matching(matching: Matching, *, is_used: bool) -> None:
    """Raise UsageError if an option is for rows of a model or of --test, and there are none; or if it is for output."""
    usual = Matching()
    said = [f"--{n.replace('_', '-')} {v}" for n, v in vars(matching).items() if v != getattr(usual, n)]
    if said and not is_used:
        raise UsageError(
            f"{said[0]} is for rows of a trained model, and training starts without one",
            hint=f"leave it out; {ROWS_LEFT_OUT}" if matching.bad_rows != usual.bad_rows else "leave it out",
        )
    if matching.bad_rows == "blank":
        raise UsageError(
            "--bad-rows blank writes empty rows, and training writes none", hint="--bad-rows skip leaves them out"
        )


def _check_unit(source: Source, asked: FitOptions) -> None:
    """Raise DataError if --recipe vectors is used on columns that are not of one unit."""
    others = (each for each in source.schema.columns if each.kind not in OF_ONE_UNIT)
    if asked.recipe == VECTORS and (other := next(others, None)) is not None:
        raise DataError(
            f"{source.name}: --recipe vectors is for numbers of one unit, and column {other.name!r} is a {other.kind}",
            hint="leave the column out with --exclude, or choose another --recipe",
        )


def _settled(
    source: Source, training: Part, start: Start | None, asked: FitOptions, reading: Reading
) -> tuple[Schema, Scaler, list[str]]:
    """Return the schema and the scaler of the training rows, and sentences on the rows."""
    if start is not None:
        return start.schema, start.scaler, _equal_rows(source, training, further=True)
    schema = _with_ranges(_with_white(source.schema, training, reading.input_range), training)
    scaler = Scaler.fit(completed(asked).scale or "standard", training, schema)
    white = _white_said(schema, source.schema, reading) + _faint(schema, training, reading)
    equal, spikes = _equal_rows(source, training), _spikes(schema, scaler, training)
    return schema, scaler, [*white, *equal, *_constant(schema), *spikes]


def _plan(source: Source, asked: FitOptions, start: Start | None) -> list[str]:
    """Return a sentence on the size of a model of these images, before anything large is read; none for other rows."""
    schema = source.schema
    if schema.image_shape is None or not source.rows or source.name.partition(":")[0] in NAMES:
        return []
    going_on = None if start is None else start.model.checkpoint.model
    model, config = resolve(
        asked, schema.inputs, source.rows, bounded=True, image_shape=schema.image_shape, model=going_on
    )
    size = 1 if schema.dtype == "uint8" else 4
    training = WEIGHT_BYTES * model.parameters
    if model.channels:
        values = sum(math.prod(image) for pair in pairwise(model.images) for image in pair)
        training += CONVOLUTION_BYTES + VALUE_BYTES * config.batch_size * values
    if config.neighbours:
        training += SEARCH_BYTES + PLACE_BYTES * config.neighbours * source.rows
    of_pca = metrics.bytes_taken(source.rows, schema.inputs)  # before training, and freed then
    taken = BASE_BYTES + 3 * size * source.rows * schema.inputs + max(training, of_pca)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    more = f", and this machine has {machine / 1e9:.1f}" if taken > machine else ""
    way = (
        "; a smaller --image-size takes less"
        if schema.inputs > MANY_INPUTS and source.resizes and start is None
        else ""
    )
    images = f"{source.rows:,} image{'s' * (source.rows != 1)} of {sized(schema.image_shape)}"
    return [
        f"{images} = {schema.inputs:,} inputs; {model.parameters:,} weights; training takes about "
        f"{taken / 1e9:.1f} GB of memory{more}{way}"
    ]


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


def _with_white(schema: Schema, training: Part, told: tuple[float, float] | None) -> Schema:
    """Return the schema with the values of black and white pixels, if the type of the pixels does not fix them.

    They are `told` if it is given. Otherwise they are 0 and the next 2^n - 1 for whole numbers that are never negative,
    and the extremes for others.
    Raises DataError for values outside `told`.
    """
    if schema.image_shape is None:
        if told is not None:
            raise DataError(
                "--input-range is for images, and these rows are not images", hint="if they are, add --image-shape"
            )
        return schema
    if told is None and training.x.dtype == np.uint8 and schema.full_scale == 255:
        return schema
    low, high, whole = np.inf, -np.inf, True
    for x in training.chunks(CHUNK_VALUES):
        low, high = min(low, float(np.fmin.reduce(x, axis=None))), max(high, float(np.fmax.reduce(x, axis=None)))
        whole = whole and (
            x.dtype.kind in "uib" or (schema.dtype is None and bool((np.isnan(x) | (x == np.rint(x))).all()))
        )
    if told is not None:
        if training.x.dtype.kind == "f":  # 0.6 in 32 bits is a little more than 0.6
            told = (float(training.x.dtype.type(told[0])), float(training.x.dtype.type(told[1])))
        if low < told[0] or high > told[1]:
            raise DataError(f"the pixels are from {low:g} to {high:g}, and --input-range is {told[0]:g} to {told[1]:g}")
        return dataclasses.replace(schema, black=told[0], full_scale=told[1])
    if schema.full_scale is not None and low >= schema.black and high <= schema.full_scale:
        return schema
    if whole and low >= 0:
        low, high = 0.0, float(2 ** max(1, int(high).bit_length()) - 1)
    return dataclasses.replace(schema, black=low, full_scale=high if high > low else low + 1)


def _white_said(schema: Schema, before: Schema, reading: Reading) -> list[str]:
    """Return a sentence on the values of black and white, if they were chosen and are not those of the type."""
    black, white = schema.black, schema.full_scale
    if white is None or reading.input_range is not None or (black, white) == (before.black, before.full_scale):
        return []
    dtype = np.dtype(schema.dtype or np.uint8)
    if black == 0 and dtype.kind == "u" and white == np.iinfo(dtype).max:
        return []
    return [f"black pixels are {black:g}, white pixels {white:g}; --input-range LOW,HIGH changes this"]


def _faint(schema: Schema, training: Part, reading: Reading) -> list[str]:
    """Return a sentence if images of bytes use little of their range."""
    if schema.full_scale != 255 or training.x.dtype != np.uint8 or reading.input_range is not None:
        return []
    high = max(int(x.max()) for x in training.chunks(CHUNK_VALUES))
    return [said] if (said := units.faint(high)) is not None else []


def _equal_rows(source: Source, training: Part, *, further: bool = False) -> list[str]:
    """Return a sentence if more than half of the images are equal to others. Only the first rows are compared.

    `further` is True if the rows train an existing model further, which has its own background.

    Raises DataError if more than half are the same image, and their transparent pixels have a background.
    """
    if source.schema.image_shape is None:
        return []
    rows = next(training.chunks(CHUNK_VALUES))
    counts = Counter(row.tobytes() for row in np.ascontiguousarray(rows))
    if (most := max(counts.values())) * 2 > len(rows) and source.laid_on is not None:
        other = "black" if source.laid_on == "white" else "white"
        raise DataError(
            f"{source.name}: on {source.laid_on}, {most:,} of {len(rows):,} images are the same",
            hint=f"train without --init-from: --background {other} changes the background, --alpha learns transparency"
            if further
            else f"use another background for transparent pixels: --background {other}; or learn them: --alpha",
        )
    equal = sum(count for count in counts.values() if count > 1)
    if equal * 2 <= len(rows):
        return []
    different = "1 is" if len(counts) == 1 else f"{len(counts):,} are"
    return [f"{source.name}: {equal:,} of {len(rows):,} images are equal to others; {different} different"]


def _constant(schema: Schema) -> list[str]:
    """Return a sentence on columns of numbers or times that have one value in all training rows."""
    found = [column.name for column in schema.columns if column.name is not None and column.is_constant]
    if not found:
        return []
    from aecli.data.table import listed

    what = "1 column is constant" if len(found) == 1 else f"{len(found):,} columns are constant"
    return [f"{what}: {listed(found)}; --exclude leaves {'it' if len(found) == 1 else 'them'} out"]


def _spikes(schema: Schema, scaler: Scaler, training: Part) -> list[str]:
    """Return sentences on extreme values, which flatten the others of their column. Only the first rows are read."""
    if not schema.columns or scaler.kind not in ("standard", "minmax"):
        return []
    from aecli.data import settling

    return settling.spikes(schema.names, next(training.chunks(CHUNK_VALUES)))


def _given(
    source: Source, origin: Origin, scratch: Path | None, announce: Callable[[str], None]
) -> tuple[Part, Origin]:
    """Return the rows of --test, and the origin with their digest. Raises DataError if they are the training rows."""
    held_out = gather(source, scratch, announce)
    for sentence in (*source.remarks, *source.notes()):
        announce(sentence)
    origin = dataclasses.replace(origin, test=digest_of(held_out))
    if origin.test == origin.rows:
        raise DataError(
            f"{source.name}: --test needs other rows than the training rows, and these are the same",
            hint="leave --test out to hold out a tenth of the training rows",
        )
    return held_out, origin


def _check_held_out(asked: FitOptions, trained_on: str | None, *, is_given: bool) -> None:
    """Raise UsageError if more than one option chooses the held-out rows, or a share is out of range.

    `is_given` is True with --test. `trained_on` is the built-in set to train on.
    """
    last = asked.holdout_last
    if last is not None and not 0 < last < 1:
        raise UsageError(
            f"--holdout-last is {last:g}, and must be a share of the rows, above 0 and below 1",
            hint="leave it out, or choose a share: --holdout-last 0.2",
        )
    if is_given and (asked.holdout or last):
        flag = "--holdout-last" if last else "--holdout"
        raise UsageError(
            f"--test names the held-out rows, and {flag} holds out others", hint=f"leave --test or {flag} out"
        )
    if last and asked.holdout is not None:
        raise UsageError("--holdout and --holdout-last both choose the held-out rows", hint="leave one of them out")
    if last and trained_on is not None:
        raise UsageError(
            f"--holdout-last is for rows in time order, and {trained_on} has a test split, which is held out",
            hint="leave --holdout-last out",
        )


def _cut(part: Part, share: float, asked: FitOptions, turn: int, name: str, hint: str) -> tuple[Part, Part]:
    """Split a share of the rows off: random ones, different at each turn, or with --holdout-last the last ones."""
    rest, off = part.cut(share, None if asked.holdout_last else np.random.default_rng(asked.seed + turn))
    if not len(rest):
        raise DataError(
            f"{name}: {len(part)} row, and at least 2 are needed: one to train on and one to hold out", hint=hint
        )
    return rest, off
