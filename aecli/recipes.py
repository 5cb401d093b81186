"""The recipes, and the rules that set every option that is not given."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aecli.config import FROM_MODEL, PCA, ModelConfig, TrainConfig
from aecli.errors import DataError, UsageError
from aecli.options import FitOptions

DEFAULT_HOLDOUT = 0.1
DEFAULT_RECIPE, MAP, VECTORS = "modern", "map", "vectors"
MAP_STEPS = 2400  # of a map; half as many on MNIST take half the time, and keep fewer neighbours
FEWEST_STEPS, STEPS_A_ROW = 600, 24  # of a map; 2,400 steps help with 100 rows of the digits, but not with 25
NEIGHBOURS, FEWEST_NEIGHBOURS = 15, 5  # of a row in a map; fewer if only a part of the rows is compared
TOGETHER = 16_384  # the most rows that a map compares with each other to find neighbours
FEW_ROWS = 30  # per input
MOST_SPARSE, SPARSE = 1024, 16  # the most latent values of a sparse code, and how many per value that is kept
NARROW = 64  # inputs of a table
LEAST_BATCH = 3  # two vectors are too few to compare similarities; nested codes need one row per width
FLAT = 3  # an image with so few latent values is rebuilt better by more dense layers than by convolutions
DEEP = 256, 128, 128, 128  # dense widths for two latent values, which need more layers
NARROW_DEEP, NARROW_ROWS = (128, 64, 64, 64), 500  # for a map of fewer rows: as good, in a third of the time
LARGE, CHANNELS = 16, (16, 32)  # images of at least so many pixels per side have convolutions
# Options that do not choose the network or its training:
OTHERS = frozenset(
    {"recipe", "latent_dim", "nested", "precision", "seed", "holdout", "holdout_last", "scale", "store_rows"}
)
SAID = tuple(field.name for field in dataclasses.fields(FitOptions) if field.name not in OTHERS)
ARCHITECTURE = ("channels", "hidden_dims", "latent_dim", "activation", "latent_activation", "bottleneck", "active")
ATOMS_LR = 0.007  # Adam's, of a dictionary
SHAPE = "if they are, add --image-shape"
_CLASSIC = FitOptions(
    recipe="classic",
    channels=(),
    hidden_dims=(256, 128),
    latent_dim=64,
    activation="sigmoid",
    latent_activation="sigmoid",
    scale="minmax",
    optimizer="adam",
    schedule="constant",
    init="normal",
    lr=0.001,
    batch_size=256,
    epochs=50,
    noise=0.0,
    augment_shift=0,
    patience=0,
    weight_decay=0.0,
    precision="fp32",
    loss="mse",
    bottleneck="none",
)
_MODERN = FitOptions(
    recipe="modern",
    latent_activation="none",
    scale="standard",
    optimizer="muon",
    schedule="linear",
    init="fan-in",
    lr=0.01,
    noise=0.0,
    patience=0,
    precision="auto",
    loss="mse",
    bottleneck="none",
)
RECIPES: Mapping[str, FitOptions] = MappingProxyType(
    {
        "modern": _MODERN,
        "map": dataclasses.replace(_MODERN, recipe="map", channels=(), latent_dim=2, noise=None, augment_shift=0),
        "vectors": dataclasses.replace(_MODERN, recipe="vectors", channels=(), scale="common", augment_shift=0),
        "classic": _CLASSIC,
        "classic-2d": dataclasses.replace(
            _CLASSIC, recipe="classic-2d", hidden_dims=(256, 128, 64, 10), latent_dim=2, latent_activation="none"
        ),
    }
)


def completed(options: FitOptions) -> FitOptions:
    """Return the options with their recipe's values for those that are None. A rule sets those that are still None."""
    asked = {name: value for name, value in vars(options).items() if value is not None}
    return dataclasses.replace(RECIPES[options.recipe or DEFAULT_RECIPE], **asked)


def is_free(asked: FitOptions) -> bool:
    """Return whether the model may be PCA's: no option on the network or its training was given."""
    return asked.recipe in (None, DEFAULT_RECIPE, VECTORS) and all(getattr(asked, name) is None for name in SAID)


def resolve(
    options: FitOptions,
    inputs: int,
    rows: int,
    *,
    bounded: bool,
    image_shape: tuple[int, ...] | None = None,
    model: ModelConfig | None = None,
) -> tuple[ModelConfig, TrainConfig]:
    """Return the configs for `rows` training rows of `inputs` values, with every option set.

    `bounded` is True if the scaled inputs are in [0, 1]. A `model` to train further keeps its config.
    The rules:
    - Images of 16 by 16 pixels or more have convolutions, unless the code has up to 3 values or dense widths are given.
    - The bottleneck has a twelfth of the inputs, 2 to 64. A sparse one keeps as many, of 16 times as many values, or a
      sixteenth of a given width.
    - A batch is a sixteenth of the rows, 16 to 512, or to 128 with convolutions. The number of steps grows with the
      rows to the power of 0.3, and sets the epochs. The total weight decay is the same for runs of this length and
      longer ones.
    - Images of 16 by 16 pixels or more are shifted by up to one pixel if the model has more than 20 weights per row,
      with which it would learn them by heart.
    - A map has four dense layers, narrower ones for fewer than 500 rows, or three after convolutions; batches of up to
      512; about 2,400 steps but at least one epoch, for fewer than 100 rows 24 steps per row but at least 600. Each row
      has 15 neighbours; if only a share of the rows is compared, 15 times this share, but at least 5. Rows in a file
      have 5, because a window is at most a sixteenth of it: see `training.run`.
    - Vectors have one dense layer of 256, or of four times the code, and no sigmoid at the end. Nested codes take twice
      as many steps.
    - A sparse code at least as wide as a row is a dictionary: it has no other layers, a linear output, and Adam at
      0.007, which rebuilt more validation rows than Muon in a third of the time.
    Raises DataError if the network does not suit the data, UsageError if it suits no data.
    """
    choices = vars(completed(options)).copy()
    large = image_shape is not None and min(image_shape[:2]) >= LARGE
    bounded = bounded and choices["recipe"] != VECTORS  # a sigmoid would distort the cosines of a search
    if choices["holdout"] is None:
        choices["holdout"] = DEFAULT_HOLDOUT
    choices["holdout_last"] = choices["holdout_last"] or 0.0
    _choose_bottleneck(choices, options, inputs, bounded=bounded, model=model)
    _choose_dictionary(choices, options, inputs, model)
    if model is not None:
        choices["channels"] = model.channels
    elif choices["channels"] is None:
        of_images = large and choices["hidden_dims"] is None and choices["latent_dim"] > FLAT
        choices["channels"] = CHANNELS if of_images else ()
    _check_codes(choices, model)
    _choose_steps(choices, rows)
    _choose_neighbours(choices, rows, bounded=bounded, model=model)
    going_on = model is not None
    model = model or _model(choices, inputs, rows, bounded=bounded, image_shape=image_shape)
    if choices["augment_shift"] is None:
        choices["augment_shift"] = int(large and model.parameters > 20 * rows)
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    train = TrainConfig(**{name: value for name, value in choices.items() if name in names})
    _check(model, train, image_shape, bounded=bounded, going_on=going_on)
    _check_batch(train, rows)
    return model, train


def _choose_bottleneck(
    choices: dict[str, Any], options: FitOptions, inputs: int, *, bounded: bool, model: ModelConfig | None
) -> None:
    """Set the options that depend on the bottleneck. Raises UsageError for options of another bottleneck."""
    kind = choices["bottleneck"] if model is None else model.bottleneck
    usual = min(64, max(2, round(inputs / 12)), max(1, inputs - 1))
    if kind == "sparse":
        if choices["active"] is None:
            width = choices["latent_dim"]
            choices["active"] = usual if width is None else max(1, min(usual, width // SPARSE))
        usual = max(choices["active"], min(MOST_SPARSE, SPARSE * choices["active"]))
    elif choices["active"] is not None:
        raise UsageError(
            f"--active is for a sparse bottleneck, and this one is {kind}",
            hint="add --bottleneck sparse, or leave --active out",
        )
    if choices["latent_dim"] is None:
        choices["latent_dim"] = usual
    if (choices["active"] or 0) > choices["latent_dim"]:
        raise UsageError(
            f"--active is {choices['active']}, and the code has {choices['latent_dim']} values",
            hint=f"choose an --active of at most {choices['latent_dim']}, or a larger --latent-dim",
        )
    if kind == "variational":
        if options.loss is None:
            choices["loss"] = "bce" if bounded and (model is None or model.output_activation == "sigmoid") else "mse"
        if options.latent_activation is None:  # the recipe's does not suit the means of Gaussians
            choices["latent_activation"] = "none"
    elif choices["beta"] is not None:
        raise UsageError(
            f"--beta is for a variational bottleneck, and this one is {kind}",
            hint="add --bottleneck variational, or leave --beta out",
        )
    choices["beta"] = 1.0 if choices["beta"] is None else choices["beta"]


def _check_codes(choices: dict[str, Any], model: ModelConfig | None) -> None:
    """Raise UsageError if nested codes, or codes of vectors, do not go with the bottleneck or the recipe."""
    kind = choices["bottleneck"] if model is None else model.bottleneck
    if choices["recipe"] == VECTORS and kind != "none":
        raise UsageError(
            f"--recipe vectors makes codes for a search by cosine, and cannot be used with --bottleneck {kind}",
            hint="leave --bottleneck out, or choose another --recipe",
        )
    if choices["nested"] and choices["latent_dim"] == 1:
        raise UsageError(
            "--nested cuts a code to its half, and this one is 1 value",
            hint="choose a --latent-dim of at least 2, or leave --nested out",
        )
    if choices["nested"] and (kind != "none" or choices["recipe"] == MAP):
        other = f"--bottleneck {kind}" if kind != "none" else "--recipe map"
        raise UsageError(
            f"--nested orders the values of a code by importance, and cannot be used with {other}",
            hint="leave --nested out",
        )


def _choose_dictionary(choices: dict[str, Any], options: FitOptions, inputs: int, model: ModelConfig | None) -> None:
    """Set the options of a dictionary: a sparse code at least as wide as a row, without other layers."""
    is_sparse = choices["bottleneck"] == "sparse"
    free = choices["hidden_dims"] is None and not choices["channels"]
    if model is None and is_sparse and free and choices["latent_dim"] >= inputs:
        choices["channels"] = choices["hidden_dims"] = ()
    is_dictionary = model.is_dictionary if model else is_sparse and choices["channels"] == choices["hidden_dims"] == ()
    if is_dictionary and options.optimizer is None and choices["optimizer"] == "muon":
        choices["optimizer"] = "adam"
        choices["lr"] = ATOMS_LR if options.lr is None else options.lr


def _check(
    model: ModelConfig, train: TrainConfig, image_shape: tuple[int, ...] | None, *, bounded: bool, going_on: bool
) -> None:
    """Raise DataError if the configs do not suit the data."""
    if train.augment_shift and image_shape is None:
        raise DataError("--augment-shift moves images, and these rows are not images", hint="leave it out")
    if train.loss == "bce" and not (bounded and model.output_activation == "sigmoid"):
        is_free = train.recipe != VECTORS  # vectors never have the sigmoid
        found = (
            "needs a sigmoid output, which the model does not have"
            if bounded or not is_free
            else "this scaling has no bounds"
        )
        raise DataError(
            f"--loss bce is for values from 0 to 1, and {found}",
            hint="--loss mse or huber takes any values"
            + "; --scale minmax brings them to that range" * (is_free and not going_on),
        )
    if model.kept >= model.inputs:
        if model.inputs == 1:
            raise DataError(
                "a row of this data is one value, which cannot be compressed", hint="train on two columns or more"
            )
        flag, verb = ("--latent-dim", "holds") if model.active is None else ("--active", "keeps")
        raise DataError(
            f"the bottleneck {verb} {model.kept} values, a row of this data has {model.inputs}: nothing is compressed",
            hint=f"choose {'an' if flag == '--active' else 'a'} {flag} below {model.inputs}",
        )


def _check_batch(train: TrainConfig, rows: int) -> None:
    """Raise DataError for batches too small to be compared, or to be cut to the widths of nested codes."""
    found = min(train.batch_size, rows)
    if (train.recipe == VECTORS or train.nested) and found < LEAST_BATCH:
        whose = "--nested" if train.nested else "--recipe vectors"
        raise DataError(
            f"{whose} needs batches of at least {LEAST_BATCH} rows, and these have {found}",
            hint="train on more rows" if rows < LEAST_BATCH else f"choose a --batch-size of at least {LEAST_BATCH}",
        )


def hidden_dims(rows: int, inputs: int, latent_dim: int, *, images: bool) -> tuple[int, ...]:
    """Return the encoder's dense widths: smaller ones, or fewer, for few values or few rows; more for few latents.

    Chosen on small tables and on parts of MNIST: see tests/bench/tables.py.
    """
    few = rows < FEW_ROWS * inputs
    if not images and (few or inputs <= NARROW):
        return 64, 64
    if latent_dim <= FLAT:
        return DEEP
    return (256,) if few else (256, 128)


def _choose_steps(choices: dict[str, Any], rows: int) -> None:
    is_map, factor, decay = choices["recipe"] == MAP, 155 if choices["channels"] else 87, 250
    most = 512
    if choices["channels"]:
        most, decay = most if is_map else 128, 500
    if choices["batch_size"] is None:
        choices["batch_size"] = min(most, max(16, rows // 16), rows)
    steps = MAP_STEPS if is_map else factor * rows**0.3
    if choices["epochs"] is None:
        steps *= 2 if choices["nested"] else 1  # three codes need twice the time of one
        some = min(steps, max(FEWEST_STEPS, STEPS_A_ROW * rows)) if is_map else steps
        choices["epochs"] = max(1 if is_map else 2, round(some * choices["batch_size"] / rows))
    if choices["weight_decay"] is None:  # in a short run, more of it would undo training
        choices["weight_decay"] = decay / max(steps, rows * choices["epochs"] / choices["batch_size"])


def _choose_neighbours(choices: dict[str, Any], rows: int, *, bounded: bool, model: ModelConfig | None) -> None:
    """Set the options of a map. Noise keeps its encoder from learning by heart which rows are neighbours."""
    is_map = choices["recipe"] == MAP
    kind = choices["bottleneck"] if model is None else model.bottleneck
    if choices["neighbours"] is None:
        some = min(NEIGHBOURS, max(FEWEST_NEIGHBOURS, NEIGHBOURS * TOGETHER // rows))
        choices["neighbours"] = some if is_map else 0
    if choices["noise"] is None:
        choices["noise"] = 0.2 if bounded else 0.5 if choices["scale"] in ("standard", "robust", "quantile") else 0.0
    if choices["neighbours"] and kind != "none":
        raise UsageError(
            f"--recipe map keeps neighbours together, and cannot be used with --bottleneck {kind}",
            hint="leave --bottleneck out, or choose another --recipe",
        )


def _model(
    choices: dict[str, Any], inputs: int, rows: int, *, bounded: bool, image_shape: tuple[int, ...] | None
) -> ModelConfig:
    if choices["channels"] and image_shape is None:
        raise DataError("--channels is for convolutions over images, and these rows are not images", hint=SHAPE)
    if choices["hidden_dims"] is None:
        of_images, latent_dim = image_shape is not None, choices["latent_dim"]
        if choices["recipe"] == VECTORS:
            choices["hidden_dims"] = (max(256, 4 * latent_dim),)
        elif choices["recipe"] == MAP:
            deep = NARROW_DEEP if rows < NARROW_ROWS else DEEP
            choices["hidden_dims"] = DEEP[1:] if choices["channels"] else deep
        else:
            dense = hidden_dims(rows, inputs, latent_dim, images=of_images)
            choices["hidden_dims"] = () if choices["channels"] else dense
    if choices["activation"] is None:  # on images they are equally good, and silu is faster
        choices["activation"] = "silu" if choices["channels"] else "gelu"
    if choices["init"] in (FROM_MODEL, PCA):
        raise UsageError(f"init is {choices['init']!r}, and there is no model", hint="init_from names one")
    is_dictionary = choices["bottleneck"] == "sparse" and not (choices["hidden_dims"] or choices["channels"])
    return ModelConfig(
        inputs=inputs,
        output_activation="sigmoid" if bounded and not (is_dictionary and choices["loss"] != "bce") else "none",
        image_shape=(*image_shape, 1)[:3] if choices["channels"] and image_shape else None,
        **{name: choices[name] for name in ARCHITECTURE},
    )
