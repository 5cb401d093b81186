"""What a model is and how it is trained: frozen, validated, to JSON and back."""

import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Self, cast, get_args, get_origin, get_type_hints

from aecli.errors import UsageError

ACTIVATIONS = ("gelu", "relu", "silu", "elu", "tanh", "sigmoid", "none")
OPTIMIZERS = ("muon", "adam")
SCHEDULES = ("linear", "constant")
INITS = ("fan-in", "normal")
PRECISIONS = ("auto", "fp32", "bf16")
KINDS = ("number", "boolean", "date", "timestamp", "category")
MISSING = ("mean", "drop")
RECIPES = ("modern", "classic", "classic-2d")
MAX_PARAMETERS = 10**10


class Config:
    """The base of every config: strict JSON in and out."""

    def to_json(self) -> dict[str, Any]:
        """Give the fields as plain JSON values."""
        return {
            field.name: list(value) if isinstance(value := getattr(self, field.name), tuple) else value
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what `to_json` gave.

        Raises ValueError for a missing or an unknown field, or a value of another type; UsageError for a bad value.
        """
        hints = get_type_hints(cls)
        if not isinstance(value, dict) or set(value) != set(hints):
            raise ValueError(f"{cls.__name__} takes exactly the fields {', '.join(sorted(hints))}")
        return cls(**{name: _typed(f"{cls.__name__}.{name}", value[name], hint) for name, hint in hints.items()})


def _typed(name: str, value: object, hint: Any) -> Any:
    """Check a JSON value against a field's type, one of those below or a union of one with None."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and NoneType in kinds:
        return None
    kind = kinds[0]
    if kind is float and type(value) is int:
        value = float(value)
    if get_origin(kind) is tuple and isinstance(value, list):
        item = get_args(kind)[0]
        return tuple(_typed(f"{name}[{i}]", entry, item) for i, entry in enumerate(value))
    if type(value) is not kind or (kind is float and not math.isfinite(cast("float", value))):
        raise ValueError(f"{name} is {value!r}, and {getattr(hint, '__name__', hint)} was expected")
    return value


@dataclass(frozen=True, slots=True)
class Schema(Config):
    """What one row is: D values, which are named columns of a table, the pixels of an image, or neither.

    `features` are the D column names, or None where the data has none. `kinds` says what each holds, None where all are
    numbers: a boolean is 0 or 1, a date or timestamp the seconds since 1970, a category its place in `categories`,
    which lists the values of each feature, none where it is no category. `missing` says what becomes of a hole: None is
    an error, "mean" the mean of the training rows, "drop" leaves the row out.
    `image_shape` is (H, W) or (H, W, C). `full_scale` is the value of a white pixel. `resize` says that images of other
    sizes are brought to this one. `label` names the column of labels.
    """

    inputs: int
    features: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    categories: tuple[tuple[str, ...], ...] | None = None
    missing: str | None = None
    image_shape: tuple[int, ...] | None = None
    full_scale: float | None = None
    resize: bool = False
    label: str | None = None

    def __post_init__(self) -> None:
        _require(self.inputs >= 1, "inputs", self.inputs, "at least 1")
        for name in ("features", "kinds", "categories"):
            if (entries := getattr(self, name)) is not None:
                _require(len(entries) == self.inputs, name, len(entries), f"{self.inputs} entries")
        _require(set(self.kinds or ()) <= set(KINDS), "kinds", self.kinds, f"of {', '.join(KINDS)}")
        _require(self.missing in (None, *MISSING), "missing", self.missing, f"one of {', '.join(MISSING)}")
        if self.image_shape is not None:
            _require(math.prod(self.image_shape) == self.inputs, "image_shape", self.image_shape, "as many as inputs")

    def names(self) -> tuple[str, ...]:
        """Give the D column names, `x0, x1, ...` where the data has none of its own."""
        return self.features or tuple(f"x{i}" for i in range(self.inputs))

    @property
    def widths(self) -> tuple[int, ...]:
        """How many of the model's inputs each of the D values takes: a category one for each of its values."""
        return tuple(len(values) or 1 for values in self.categories or ((),) * self.inputs)


@dataclass(frozen=True)
class ModelConfig(Config):
    """The shape of an autoencoder: inputs -> hidden_dims -> latent_dim, and back through the mirror of it.

    Raises UsageError for widths that make no network.
    """

    inputs: int
    hidden_dims: tuple[int, ...]
    latent_dim: int
    activation: str = "gelu"
    latent_activation: str = "none"
    output_activation: str = "none"

    def __post_init__(self) -> None:
        _require(self.inputs >= 1, "inputs", self.inputs, "at least 1")
        _require(all(width >= 1 for width in self.hidden_dims), "hidden_dims", self.hidden_dims, "widths of at least 1")
        _require(self.latent_dim >= 1, "latent_dim", self.latent_dim, "at least 1")
        _require(self.parameters <= MAX_PARAMETERS, "parameters", self.parameters, f"at most {MAX_PARAMETERS:,}")
        for name in ("activation", "latent_activation", "output_activation"):
            _require(getattr(self, name) in ACTIVATIONS, name, getattr(self, name), f"one of {', '.join(ACTIVATIONS)}")

    @property
    def parameters(self) -> int:
        """How many weights and biases the model has."""
        widths = (self.inputs, *self.hidden_dims, self.latent_dim)
        return sum(2 * a * b + a + b for a, b in pairwise(widths))


@dataclass(frozen=True)
class TrainConfig(Config):
    """How a model is trained, every choice made."""

    recipe: str
    epochs: int
    batch_size: int
    lr: float
    optimizer: str
    schedule: str
    init: str
    noise: float
    augment_shift: int
    weight_decay: float
    patience: int
    precision: str
    seed: int
    holdout: float

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        _require(self.lr > 0, "lr", self.lr, "above 0")
        _require(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}")
        _require(self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")
        _require(self.init in INITS, "init", self.init, f"one of {', '.join(INITS)}")
        _require(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        _require(self.recipe in RECIPES, "recipe", self.recipe, f"one of {', '.join(RECIPES)}")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2^63")
        _require(self.noise >= 0, "noise", self.noise, "at least 0")
        _require(0 <= self.augment_shift <= 16, "augment_shift", self.augment_shift, "0 to 16 pixels")
        _require(self.patience >= 0, "patience", self.patience, "at least 0")
        _require(0 <= self.holdout < 1, "holdout", self.holdout, "a share of the rows, at least 0 and below 1")


@dataclass(frozen=True)
class History(Config):
    """Mean squared error by epoch: `loss` as the training steps saw it, the others on the rows that they name."""

    loss: tuple[float, ...] = ()
    validation_loss: tuple[float, ...] = ()
    test_loss: tuple[float, ...] = ()


@dataclass(frozen=True)
class Results(Config):
    """What a finished run ended at: mean squared errors in the model's units, None where there is none."""

    rows: int
    test_rows: int
    train_mse: float
    test_mse: float | None
    pca_mse: float | None


def _require(fits: bool, name: str, found: object, expected: str) -> None:
    if not fits:
        raise UsageError(f"{name} is {found}, and must be {expected}")
