"""The configs of a model and its training: frozen, validated, to JSON and back."""

import dataclasses
import functools
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from types import NoneType, UnionType
from typing import Any, Self, cast, get_args, get_origin, get_type_hints

from aecli.errors import UsageError

ACTIVATIONS = ("gelu", "relu", "silu", "elu", "tanh", "sigmoid", "none")
OPTIMIZERS = ("muon", "adam")
SCHEDULES = ("linear", "constant")
FROM_MODEL = "model"  # the weights of a trained model
PCA = "pca"  # the weights of PCA, a linear autoencoder: the network was not better
INITS = ("fan-in", "normal", FROM_MODEL, PCA)
PRECISIONS = ("auto", "fp32", "bf16")
BOTTLENECKS = ("none", "variational", "sparse")
LOSSES = ("mse", "bce", "huber")
KINDS = ("number", "boolean", "date", "timestamp", "time", "duration", "category", "vector")
MISSING = ("mean", "drop")
RECIPES = ("modern", "map", "vectors", "classic", "classic-2d")
MAX_PARAMETERS = 10**10
KERNEL, STRIDE, PADDING = 4, 2, 1  # the same for all convolutions


class UnknownFieldError(ValueError):
    """A field that this version does not know. A later version may know it."""


class Config:
    """The base class of every config: checked JSON in and out.

    A field that is added later has a default, and `compact` JSON leaves out fields at their default. So files that do
    not use the field do not change, and older files can be read.
    """

    def to_json(self, *, compact: bool = False) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            field.name: _plain(value, compact=compact)
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, field.name)) != field.default or not compact
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Return the config that `to_json` returned as JSON.

        Raises UnknownFieldError for an unknown field, ValueError for a missing field or a value of another type,
        UsageError for a bad value.
        """
        hints, required = _fields(cls)  # type: ignore[arg-type]
        if not isinstance(value, dict):
            raise ValueError(f"{cls.__name__} is {value!r:.60}, and an object was expected")  # noqa: TRY004
        if unknown := sorted(value.keys() - hints.keys()):
            raise UnknownFieldError(f"{cls.__name__} has a field {unknown[0]!r}, which is unknown")
        if missing := sorted(required - value.keys()):
            raise ValueError(f"{cls.__name__} lacks the field {missing[0]!r}")
        return cls(**{name: _typed(f"{cls.__name__}.{name}", value[name], hints[name]) for name in value})


@functools.cache
def _fields(cls: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the types of a config's fields by name, and the names of the fields without a default."""
    fields = dataclasses.fields(cls)
    required = frozenset(field.name for field in fields if field.default is dataclasses.MISSING)
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields}, required


def _plain(value: Any, *, compact: bool) -> Any:
    if isinstance(value, tuple):
        return [_plain(each, compact=compact) for each in value]
    return value.to_json(compact=compact) if isinstance(value, Config) else value


def _typed(name: str, value: object, hint: Any) -> Any:
    """Check a JSON value against a field's type: one of the types below, or its union with None."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and NoneType in kinds:
        return None
    kind = kinds[0]
    if kind is float and type(value) is int:
        value = float(value)
    if isinstance(kind, type) and issubclass(kind, Config):
        return kind.from_json(value)
    if get_origin(kind) is tuple and isinstance(value, list):
        item = get_args(kind)[0]
        if isinstance(item, type) and issubclass(item, Config):
            return tuple(item.from_json(entry) for entry in value)
        return tuple(_typed(f"{name}[{i}]", entry, item) for i, entry in enumerate(value))
    if type(value) is not kind or (kind is float and not math.isfinite(cast("float", value))):
        raise ValueError(f"{name} is {value!r}, and {getattr(hint, '__name__', hint)} was expected")
    return value


@dataclass(frozen=True)
class Dialect(Config):
    """How the text of a table is written: detected or given in training, and the default for later data."""

    delimiter: str = ","
    decimal: str = "."
    thousands: str | None = None
    comment: str | None = None
    skip_rows: int = 0
    encoding: str = "utf-8"
    header: bool = True
    date_format: str | None = None


@dataclass(frozen=True)
class Column(Config):
    """A column of a table that a model learns. `name` is None if the data has no names.

    The values depend on the `kind`: a boolean is 0 or 1, a date or timestamp the seconds since 1970, a time the seconds
    since midnight, a duration its seconds, a category its index in `categories`; with `other`, the last index is for
    all other categories. A vector is `width` values. `words` are the two words of a boolean in text, false first. `low`
    and `high` are the extremes of the training rows.
    """

    name: str | None = None
    kind: str = "number"
    categories: tuple[str, ...] = ()
    other: bool = False
    words: tuple[str, ...] = ()
    width: int = 1
    low: float | None = None
    high: float | None = None

    @property
    def is_constant(self) -> bool:
        """Whether all training rows are known to have the same value."""
        return self.low is not None and self.low == self.high

    def __post_init__(self) -> None:
        _require(self.kind in KINDS, "kind", self.kind, f"one of {', '.join(KINDS)}")
        _require(self.width >= 1, "width", self.width, "at least 1")
        _require(len(self.words) in (0, 2), "words", self.words, "two words")


@dataclass(frozen=True)
class Schema(Config):
    """The meaning of a row: D values, which are the columns of a table, the pixels of an image, or neither.

    `columns` are the D columns, empty if the data is not a table. `dialect` is how its text was written, None if it was
    not text. `na` are values that mean an empty cell, in addition to the usual ones. `left_out` are columns that were
    not learnt although nobody excluded them, each with the reason. `missing` is the rule for holes in training: None
    for an error, "mean" for the mean of the training rows, "drop" to leave the row out.
    `image_shape` is (H, W) or (H, W, C). `black` is the value of a black pixel, `full_scale` the value of a white one,
    None before it is known; `dtype` is the type of the pixels, None for tables and in files of earlier versions.
    `channels_first` is True if the training rows, and flat rows, have the order (C, H, W). `resize` is True if images
    of other sizes are resized, and `fit` is how. `background` is the colour under transparent pixels; None drops their
    alpha, or keeps it if there are four channels. `label` names the column of labels, and `label_file` the file of
    another table that has this column, None if the data itself has it.
    """

    inputs: int
    columns: tuple[Column, ...] = ()
    missing: str | None = None
    image_shape: tuple[int, ...] | None = None
    black: float = 0.0
    full_scale: float | None = None
    dtype: str | None = None
    channels_first: bool = False
    resize: bool = False
    fit: str = "stretch"
    background: str | None = None
    label: str | None = None
    label_file: str | None = None
    dialect: Dialect | None = None
    na: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _require(self.inputs >= 1, "inputs", self.inputs, "at least 1")
        if self.columns:
            width = sum(column.width for column in self.columns)
            _require(width == self.inputs, "columns", width, f"{self.inputs} values wide")
        _require(self.missing in (None, *MISSING), "missing", self.missing, f"one of {', '.join(MISSING)}")
        if self.image_shape is not None:
            _require(math.prod(self.image_shape) == self.inputs, "image_shape", self.image_shape, "as many as inputs")

    @cached_property
    def features(self) -> tuple[str, ...] | None:
        """The names of the columns, None if the data has none."""
        names = tuple(column.name for column in self.columns if column.name is not None)
        return names or None

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, `x0, x1, ...` if the data has none."""
        return self.features or tuple(f"x{i}" for i in range(len(self.columns) or self.inputs))

    @cached_property
    def values(self) -> tuple[Column, ...]:
        """Each of the D values as a column. The values of a vector are numbers, named `name.0`, `name.1`, ..."""
        if not self.columns:
            return (Column(),) * self.inputs
        each: list[Column] = []
        for column in self.columns:
            if column.kind != "vector":
                each.append(column)
            else:
                each += [Column(column.name and f"{column.name}.{i}") for i in range(column.width)]
        return tuple(each)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the D values, `x0, x1, ...` if the data has no names."""
        return tuple(f"x{i}" if column.name is None else column.name for i, column in enumerate(self.values))

    def column_of(self, place: int) -> str | None:
        """Return the name of the column of one of the D values, None if the data has no names."""
        places = (column.name for column in self.columns for _ in range(column.width))
        return next(islice(places, place, None), None)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each of the D values."""
        return tuple(column.kind for column in self.values)

    @cached_property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        """The categories of each of the D values that is a category, empty for the others."""
        return tuple(column.categories for column in self.values)

    @cached_property
    def all_numbers(self) -> bool:
        """Whether each of the D values is a plain number."""
        return set(self.kinds) == {"number"}

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The number of the model's inputs for each of the D values. A category has one input per value."""
        return tuple(len(values) or 1 for values in self.categories)


@dataclass(frozen=True)
class ModelConfig(Config):
    """The shape of an autoencoder: inputs -> channels -> hidden_dims -> latent_dim, and back through the mirror image.

    With `channels`, a row is an image of `image_shape`, (H, W, C), and the first layers are convolutions with kernel 4,
    stride 2 and padding 1, which halve height and width.
    A variational `bottleneck` is a Gaussian for each row: the encoder ends in its means, and as many logarithms of
    variances, which only training uses. A sparse one keeps the `active` largest latent values of a row.
    Raises UsageError for widths that are not a network.
    """

    inputs: int
    hidden_dims: tuple[int, ...]
    latent_dim: int
    activation: str = "gelu"
    latent_activation: str = "none"
    output_activation: str = "none"
    channels: tuple[int, ...] = ()
    image_shape: tuple[int, ...] | None = None
    bottleneck: str = "none"
    active: int | None = None

    def __post_init__(self) -> None:
        _require(self.inputs >= 1, "inputs", self.inputs, "at least 1")
        if self.channels:
            _require(all(width >= 1 for width in self.channels), "channels", self.channels, "widths of at least 1")
            shape = self.image_shape or ()
            _require(
                len(shape) == 3 and math.prod(shape) == self.inputs, "image_shape", shape, "(H, W, C) of the inputs"
            )
            most = min(shape[:2]).bit_length() - 1
            if len(self.channels) > most:
                said, fitting = (",".join(map(str, widths)) for widths in (self.channels, self.channels[:most]))
                raise UsageError(
                    f"--channels {said}: {len(self.channels)} convolutions, and images of {sized(shape[:2])} allow at "
                    f"most {most}: each halves the image",
                    hint=f"--channels {fitting}" if fitting else "leave --channels out",
                )
        _require(all(width >= 1 for width in self.hidden_dims), "hidden_dims", self.hidden_dims, "widths of at least 1")
        _require(self.latent_dim >= 1, "latent_dim", self.latent_dim, "at least 1")
        self._check_bottleneck()
        if self.parameters > MAX_PARAMETERS:
            raise UsageError(
                f"the network has {self.parameters:,} parameters, and must have at most {MAX_PARAMETERS:,}",
                hint="choose smaller --hidden-dims, --channels or --latent-dim",
            )
        for name in ("activation", "latent_activation", "output_activation"):
            _require(getattr(self, name) in ACTIVATIONS, name, getattr(self, name), f"one of {', '.join(ACTIVATIONS)}")

    def _check_bottleneck(self) -> None:
        _require(self.bottleneck in BOTTLENECKS, "bottleneck", self.bottleneck, f"one of {', '.join(BOTTLENECKS)}")
        if self.bottleneck == "sparse":
            fits = self.active is not None and 1 <= self.active <= self.latent_dim
            _require(fits, "active", self.active, f"1 to {self.latent_dim}, the bottleneck's width")
        else:
            _require(self.active is None, "active", self.active, "left out if the bottleneck is not sparse")
        if self.bottleneck == "variational":
            plain = self.latent_activation == "none"
            _require(plain, "latent_activation", self.latent_activation, "none if the bottleneck is variational")

    @property
    def encoded_dim(self) -> int:
        """The number of outputs of the encoder's last layer."""
        return self.latent_dim * (2 if self.bottleneck == "variational" else 1)

    @property
    def is_dictionary(self) -> bool:
        """Whether the model is a dictionary: a sparse code between two linear layers."""
        return self.bottleneck == "sparse" and not (self.hidden_dims or self.channels)

    @property
    def kept(self) -> int:
        """The number of values that a row is compressed to."""
        return self.latent_dim if self.active is None else self.active

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        kernels = sum(2 * a * b * KERNEL**2 + a + b for (*_, a), (*_, b) in pairwise(self.images))
        widths = (math.prod(self.images[-1]), *self.hidden_dims, self.latent_dim)
        of_variances = (self.encoded_dim - self.latent_dim) * (widths[-2] + 1)
        return kernels + sum(2 * a * b + a + b for a, b in pairwise(widths)) + of_variances

    @property
    def layers(self) -> str:
        """The encoder's layers in words, such as 784-conv16-conv32-64."""
        convolutions = [f"conv{channels}" for channels in self.channels]
        return "-".join(map(str, (self.inputs, *convolutions, *self.hidden_dims, self.latent_dim)))

    @cached_property
    def images(self) -> tuple[tuple[int, int, int], ...]:
        """The shapes (H, W, C) of the input image, and of the output of each convolution."""
        height, width, channels = self.image_shape or (1, 1, self.inputs)
        images = [(height, width, channels)]
        for channels in self.channels:
            height, width, _ = images[-1]
            images.append((height // STRIDE, width // STRIDE, channels))
        return tuple(images)


@dataclass(frozen=True)
class TrainConfig(Config):
    """How a model is trained, with every option set. If `init` is PCA there was no training, and the rest is unused.

    `loss` is the loss, `beta` the weight of a variational bottleneck's KL divergence, 1 for all others; `neighbours` is
    the number of nearest rows that a map keeps near a row, 0 for all other models; with `nested` the first values of a
    code are a code by themselves. `holdout` is the share of rows that is held out at random, `holdout_last` the share
    of the last rows; one of them is 0.
    """

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
    loss: str = "mse"
    beta: float = 1.0
    neighbours: int = 0
    nested: bool = False
    holdout_last: float = 0.0

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        _require(0 < self.lr < math.inf, "lr", self.lr, "a finite number above 0")
        _require(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}")
        _require(self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")
        _require(self.init in INITS, "init", self.init, f"one of {', '.join(INITS)}")
        _require(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        _require(self.loss in LOSSES, "loss", self.loss, f"one of {', '.join(LOSSES)}")
        _require(self.neighbours >= 0, "neighbours", self.neighbours, "at least 0")
        _require(0 < self.beta < math.inf, "beta", self.beta, "a finite number above 0")
        _require(self.recipe in RECIPES, "recipe", self.recipe, f"one of {', '.join(RECIPES)}")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2^63")
        _require(0 <= self.noise < math.inf, "noise", self.noise, "a finite number of at least 0")
        _require(0 <= self.augment_shift <= 16, "augment_shift", self.augment_shift, "0 to 16 pixels")
        _require(self.patience >= 0, "patience", self.patience, "at least 0")
        for name in ("holdout", "holdout_last"):
            share = getattr(self, name)
            _require(0 <= share < 1, name, share, "a share of the rows, at least 0 and below 1")


@dataclass(frozen=True)
class History(Config):
    """The training loss by epoch: `loss` is the mean of the training steps, the others are on the rows they name."""

    loss: tuple[float, ...] = ()
    validation_loss: tuple[float, ...] = ()
    test_loss: tuple[float, ...] = ()


@dataclass(frozen=True)
class Results(Config):
    """The results of a finished run: mean squared errors in the model's units, None if there is none.

    `train_loss` and `test_loss` are the values of the loss, None if it is the mean squared error.
    For a variational bottleneck `kl` is the Kullback-Leibler divergence of each latent value from N(0, 1) in nats, a
    mean over training rows. `active_dims` is the number of latent values with more than 0.01 nats, or, for a sparse
    bottleneck, of those that are among the largest of any row; None for other bottlenecks. For a sparse one
    `explained_variance` is the share of the variance of the held-out rows, or without these of the training rows;
    `active_values` is the mean number of values that are not 0 in a row, and `dead_latents` the share of latents that
    are 0 in all rows, both on at most 10,000 training rows. `test_alarms` is the number of held-out rows that are
    anomalies at the default alpha, None without held-out rows or a score.
    For nested codes `prefix_mse` are the errors with the first values alone, for each number in `prefixes`, on the
    held-out rows if there are any. For vectors `test_recall` is the recall@10 of held-out rows among training rows, see
    search.py, and `pca_recall` the recall@10 of PCA with as many values.
    """

    rows: int
    test_rows: int
    train_mse: float
    test_mse: float | None
    pca_mse: float | None
    train_loss: float | None = None
    test_loss: float | None = None
    kl: tuple[float, ...] = ()
    active_dims: int | None = None
    explained_variance: float | None = None
    active_values: float | None = None
    dead_latents: float | None = None
    test_alarms: int | None = None
    prefix_mse: tuple[float, ...] = ()
    test_recall: float | None = None
    pca_recall: float | None = None


def prefixes(latent_dim: int) -> tuple[int, ...]:
    """Return the numbers of first values of a nested code that are a code by themselves: half and a quarter of them.

    More such codes make these two worse: on MNIST an additional eighth raises their errors by a tenth.
    """
    return tuple(latent_dim >> halved for halved in (1, 2) if latent_dim >> halved)


def sized(shape: tuple[int, ...]) -> str:
    """Return the size of an image (H, W) or (H, W, C) in words. Its width comes first, as in options."""
    height, width, channels = (*shape, 1)[:3]
    colours = {1: "", 3: " in colour", 4: " in colour and alpha"}.get(channels, f" in {channels} channels")
    return f"{width} × {height} pixels{colours}"


def _require(fits: bool, name: str, found: object, expected: str) -> None:
    if not fits:
        raise UsageError(f"{name} is {found}, and must be {expected}")
