"""A run that starts from a trained model: the parts of the model that stay, and the options that conflict with them."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch

from aecli.config import FROM_MODEL, PCA, Schema, TrainConfig
from aecli.data import units
from aecli.data.opening import split_name
from aecli.data.part import Part
from aecli.data.places import Where
from aecli.data.source import Source
from aecli.errors import DataError, UsageError
from aecli.inference import Model
from aecli.model import checkpoint
from aecli.model.checkpoint import Origin
from aecli.model.module import Autoencoder, initialise
from aecli.model.scaler import CHUNK_VALUES, Scaler
from aecli.options import Columns, FitOptions
from aecli.training.dictionary import first_atoms
from aecli.training.rows import Rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Start:
    """The start of a run: the `model`, whose architecture, scaler and schema stay.

    Only `schema.missing`, the rule for empty cells in training, can change.
    """

    model: Model
    schema: Schema
    scaler: Scaler

    @property
    def weights(self) -> dict[str, Array]:
        """The state dict of the network."""
        return checkpoint.weights(self.model.tensors)

    def may_know(self, origin: Origin | None) -> bool:
        """Return whether the model was, or may have been, trained on rows of this origin."""
        before = self.model.checkpoint.origin
        return before is None or origin is None or before.rows == origin.rows

    def digest(self) -> str:
        """Return the SHA-256 of the parts of the model that the run uses, in hexadecimal digits."""
        found = hashlib.sha256()
        scaler = {name: value for name, value in vars(self.scaler).items() if isinstance(value, np.ndarray)}
        for name, values in sorted({**self.weights, **scaler}.items()):
            found.update(f"{name} {values.dtype} {values.shape} ".encode())
            found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()

    def open(self, data: Any, split: str, **options: Any) -> Source:
        """Open rows to train on, like `Model.open`. The name of a built-in set alone means its `split`."""
        named = split_name(data, split) if isinstance(data, str) else None
        source = self.model.open(data if named is None else ":".join(named), further=True, **options)
        source.filled_with = None  # the schema decides whether holes are learnt
        source.schema = dataclasses.replace(source.schema, missing=self.schema.missing)
        return source

    def in_units(self, part: Part, source: Source) -> Part:
        """Return rows of a source with pixels in the model's units.

        Raises DataError for pixels of other units, and for rows to convert that do not fit in memory.
        """
        if source.units is None:
            for x in part.chunks(CHUNK_VALUES):
                units.check(x, self.schema, source.name)
            return part
        if part.blocks is not None:
            raise DataError(
                f"{source.name} has too many rows for memory, and --input-range needs to convert all of them",
                hint="write them in the model's units first",
            )
        return Part(source.units.to_model(part.x[:]))


def start_from(given: str | Where | Model, asked: FitOptions, columns: Columns) -> tuple[Start, FitOptions]:
    """Return the start of a run from a model, and the run's options, completed by those of the model's training.

    The weight decay is the model's: the rule for new weights makes it large in a short run, which would forget the
    model first.
    Raises CheckpointError if the file is not a checkpoint; UsageError if an option asks for another architecture,
    scaler or schema; DataError if holes are to be filled and the model has no means.
    """
    model = given if isinstance(given, Model) else Model.load(given)
    if differing := list(_differing(model, asked, columns)):
        flags = [words.partition(" ")[0] for words in differing]
        raise UsageError(
            f"{model.name} cannot change in further training: {'; '.join(differing)}",
            hint=f"leave out {' and '.join(flags)}",
        )
    schema = dataclasses.replace(model.schema, missing=columns.missing or model.schema.missing)
    if columns.missing == "mean" and model.scaler.fill is None:
        raise DataError(
            f"--missing mean: {model.name} has no means to fill empty cells with",
            hint="--missing drop leaves such rows out",
        )
    made: Any = model.checkpoint.train  # its recipe is one of them
    asked = dataclasses.replace(asked, recipe=made.recipe, init=FROM_MODEL)
    if asked.weight_decay is None and made.init != PCA:  # nothing of PCA was trained
        asked = dataclasses.replace(asked, weight_decay=made.weight_decay)
    if asked.noise is None:
        asked = dataclasses.replace(asked, noise=made.noise)
    asked = dataclasses.replace(asked, nested=asked.nested or made.nested)
    is_variational = model.checkpoint.model.bottleneck == "variational"
    if asked.loss is None and (is_variational or made.loss != "mse"):
        asked = dataclasses.replace(asked, loss=made.loss)
    if asked.beta is None and is_variational:
        asked = dataclasses.replace(asked, beta=made.beta)
    return Start(model, schema, dataclasses.replace(model.scaler, schema=schema)), asked


def _differing(model: Model, asked: FitOptions, columns: Columns) -> Iterable[str]:
    """Yield a sentence for each option that differs from the model, beginning with its flag."""
    made, schema = model.checkpoint, model.schema
    said: dict[str, tuple[object, object]] = {"recipe": (asked.recipe, made.train.recipe)}
    said["scale"] = (asked.scale, made.scaler)
    for name in ("channels", "hidden_dims", "latent_dim", "activation", "latent_activation", "bottleneck", "active"):
        said[name] = (getattr(asked, name), getattr(made.model, name))
    said["init"] = (asked.init, "its own weights")
    said["label"] = (columns.label, schema.label)
    said |= _image_options(schema, columns)
    for name, (wanted, found) in said.items():
        if wanted is not None and wanted != found:
            yield f"--{name.replace('_', '-')} is {_written(wanted)}, and the model has {_written(found)}"
    names = schema.column_names
    categories = [name for name, column in zip(names, schema.columns, strict=False) if column.kind == "category"]
    learnt = _matching((*columns.features, *columns.categorical), names)
    if columns.features and (set(learnt) != set(names) or not _all_match(columns.features, names)):
        yield f"--features chooses {_listed(learnt)}, and the model learnt {_listed(names)}"
    if excluded := _matching(columns.exclude, names):
        yield f"--exclude leaves out {_listed(excluded)}, which the model learnt"
    if not _all_match(columns.categorical, categories) or set(_matching(columns.categorical, names)) - set(categories):
        yield f"--categorical is {_listed(columns.categorical)}, and the model's categories are {_listed(categories)}"
    most = max((len(column.categories) - column.other for column in schema.columns), default=0)
    if most > columns.max_categories:
        yield f"--max-categories is {columns.max_categories}, and the model knows {most}"


def _image_options(schema: Schema, columns: Columns) -> dict[str, tuple[object, object]]:
    """Return the options of images by name, each with its value, None for the default, and the model's value."""
    usual = Columns()
    height, width, channels = (*(schema.image_shape or (0, 0)), 1)[:3]
    shapes: list[tuple[int, ...]] = [(channels, width, height) if schema.channels_first else (width, height, channels)]
    shapes = [(width, height), (width, height, 1), (1, width, height)] if channels == 1 else shapes
    has: dict[str, object] = {
        "image_size": (width, height),
        "fit": schema.fit,
        "background": schema.background,
        "alpha": channels == 4,
    }
    has["image_shape"] = columns.image_shape if columns.image_shape in shapes else shapes[0]
    return {
        name: (None if (asked := getattr(columns, name)) == getattr(usual, name) else asked, found)
        for name, found in has.items()
    }


def _matching(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    return [name for name in names if any(name == each or fnmatchcase(name, each) for each in patterns)]


def _all_match(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return all(_matching([each], names) for each in patterns)


def _written(value: object) -> str:
    return "none" if value in (None, ()) else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _listed(names: Sequence[str]) -> str:
    from aecli.data.table import listed

    return listed(names) or "none"


def first_weights(model: Autoencoder, config: TrainConfig, start: Start | None, training: Rows) -> None:
    """Set the initial weights of a network: those of another model, else new ones."""
    if start is None:
        generator = torch.Generator().manual_seed(config.seed)
        mean = training.mean().cpu()
        initialise(model, model.config, config.init, mean, generator)
        if model.config.is_dictionary and config.init == "fan-in":
            first_atoms(model, training, mean, config.seed)
    else:
        model.load_state_dict({name: torch.tensor(weights) for name, weights in start.weights.items()})
