"""A run that starts from a trained model: what stays the model's, and which options say otherwise."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from aecli.config import FROM_MODEL, Schema
from aecli.data.source import Source
from aecli.errors import DataError, UsageError
from aecli.inference import Model
from aecli.model.checkpoint import PRECISION
from aecli.model.scaler import Scaler
from aecli.options import Columns, FitOptions, Matching

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Start:
    """Where a run starts: the `model`, of which the architecture, the scaler and the schema stay.

    Only what becomes of holes in training, `schema.missing`, may be said anew.
    """

    model: Model
    schema: Schema
    scaler: Scaler

    @property
    def weights(self) -> dict[str, Array]:
        """The state dict of the network."""
        return {name: tensor for name, tensor in self.model.tensors.items() if name != PRECISION}

    def digest(self) -> str:
        """Return the SHA-256 of all that the run takes from the model, in hexadecimal digits."""
        found = hashlib.sha256()
        scaler = {name: value for name, value in vars(self.scaler).items() if isinstance(value, np.ndarray)}
        for name, values in sorted({**self.weights, **scaler}.items()):
            found.update(f"{name} {values.dtype} {values.shape} ".encode())
            found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()

    def check(self, source: Source) -> None:
        """Raise DataError where images are of another shape than the model's."""
        here, wanted = source.schema.image_shape, self.schema.image_shape
        if here and wanted and (*here, 1)[:3] != (*wanted, 1)[:3]:
            shapes = [" × ".join(map(str, shape)) for shape in (here, wanted)]
            raise DataError(f"{source.name}: images of {shapes[0]} pixels, and {self.model.name} takes {shapes[1]}")


def start_from(
    given: str | Path | Model, asked: FitOptions, columns: Columns, matching: Matching
) -> tuple[Start, FitOptions]:
    """Return where a run starts from a model, and its options with the model's recipe and weight decay.

    The rule for new weights makes the decay of a short run large: it would forget the model first.
    Raises CheckpointError where the file is none; UsageError where an option asks for another architecture, scaler or
    schema, or for what no training can do; DataError where holes are to be filled and the model knows no means.
    """
    model = given if isinstance(given, Model) else Model.load(given)
    if differing := list(_differing(model, asked, columns)):
        flags = [words.partition(" ")[0] for words in differing]
        raise UsageError(
            f"{model.name} is trained further as it is: {'; '.join(differing)}", hint=f"leave out {' and '.join(flags)}"
        )
    if matching.bad_rows == "blank":
        raise UsageError(
            "--bad-rows blank writes empty rows, and training writes none", hint="--bad-rows skip leaves them out"
        )
    schema = dataclasses.replace(model.schema, missing=columns.missing or model.schema.missing)
    if columns.missing == "mean" and model.scaler.fill is None:
        raise DataError(
            f"--missing mean: {model.name} knows no means to fill holes with",
            hint="--missing drop leaves such rows out",
        )
    made: Any = model.checkpoint.train  # its recipe is one of them
    decay = made.weight_decay if asked.weight_decay is None else asked.weight_decay
    asked = dataclasses.replace(asked, recipe=made.recipe, init=FROM_MODEL, weight_decay=decay)
    return Start(model, schema, dataclasses.replace(model.scaler, schema=schema)), asked


def _differing(model: Model, asked: FitOptions, columns: Columns) -> Iterable[str]:
    """Yield what was asked for, beginning with its flag, that is not as the model has it."""
    made, schema = model.checkpoint, model.schema
    said: dict[str, tuple[object, object]] = {"recipe": (asked.recipe, made.train.recipe)}
    said["scale"] = (asked.scale, made.scaler)
    for name in ("hidden_dims", "latent_dim", "activation", "latent_activation"):
        said[name] = (getattr(asked, name), getattr(made.model, name))
    said["init"] = (asked.init, "its own weights")
    said["label"] = (columns.label, schema.label)
    size = schema.image_shape and (schema.image_shape[1], schema.image_shape[0])
    said["image_size"] = (columns.image_size, size)
    for name, (wanted, found) in said.items():
        if wanted is not None and wanted != found:
            yield f"--{name.replace('_', '-')} is {_written(wanted)}, and it has {_written(found)}"
    names = schema.column_names
    categories = [name for name, column in zip(names, schema.columns, strict=False) if column.kind == "category"]
    learnt = _matching((*columns.features, *columns.categorical), names)
    if columns.features and (set(learnt) != set(names) or not _all_match(columns.features, names)):
        yield f"--features chooses {_listed(learnt)}, and it learnt {_listed(names)}"
    if excluded := _matching(columns.exclude, names):
        yield f"--exclude leaves out {_listed(excluded)}, which it learnt"
    if not _all_match(columns.categorical, categories) or set(_matching(columns.categorical, names)) - set(categories):
        yield f"--categorical is {_listed(columns.categorical)}, and its categories are {_listed(categories)}"
    most = max((len(column.categories) - column.other for column in schema.columns), default=0)
    if most > columns.max_categories:
        yield f"--max-categories is {columns.max_categories}, and it knows {most}"


def _matching(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    return [name for name in names if any(name == each or fnmatchcase(name, each) for each in patterns)]


def _all_match(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return all(_matching([each], names) for each in patterns)


def _written(value: object) -> str:
    return "none" if value is None else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _listed(names: Sequence[str]) -> str:
    from aecli.data.table import listed

    return listed(names) or "none"
