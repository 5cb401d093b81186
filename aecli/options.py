"""Every option that a user may set, declared once: a flag of the command line, and a keyword of the library.

Each field of a class is an option: its name, its type, its default and its help.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from aecli.errors import UsageError

T = TypeVar("T")
MODEL, TRAINING, TABLE, READING, RUN = "Model", "Training", "Tables", "Reading", "Running"  # the panels of --help


@dataclass(frozen=True)
class Option:
    """The help of an option.

    `default` is the default in words, for options whose field is None until a rule decides. `columns` is True if the
    value names columns of the data.
    """

    help: str
    panel: str
    metavar: str
    default: str | None = None
    low: float | None = None
    high: float | None = None
    columns: bool = False


@dataclass(frozen=True)
class FitOptions:
    """The options of a model and its training. None leaves the choice to the recipe, or to a rule.

    Fields without an `Option` have no flag.
    """

    recipe: Annotated[
        Literal["modern", "map", "vectors", "classic", "classic-2d"] | None,
        Option(
            "The defaults of all other options: modern; map, for two values that keep near rows together; vectors, "
            "for short codes with which a search by cosine finds the same rows; classic or classic-2d, those of the "
            "tutorial.",
            MODEL,
            "NAME",
            "modern, or the recipe of --init-from",
        ),
    ] = None
    hidden_dims: Annotated[
        tuple[int, ...] | None,
        Option(
            "The widths of the encoder's dense layers before the bottleneck, such as 512,64; '' for none. The decoder "
            "mirrors them.",
            MODEL,
            "WIDTHS",
            "by the data: 64,64 for a table, 256,128 for a large one, more for two or three values; none with "
            "--channels except for a map, and none for a sparse code at least as wide as a row",
        ),
    ] = None
    channels: Annotated[
        tuple[int, ...] | None,
        Option(
            "Convolutions for images: the encoder's channels, such as 16,32; '' for none. Each convolution has stride "
            "2 and halves the image. The dense layers of --hidden-dims follow.",
            MODEL,
            "WIDTHS",
            "16,32 for images of 16 × 16 pixels or more; none for two or three values, for a sparse code at least as "
            "wide as a row, and with --hidden-dims",
        ),
    ] = None
    latent_dim: Annotated[
        int | None,
        Option(
            "The bottleneck's width: the number of values that a row is compressed to. Above 512, only a variational "
            "model can draw --samples.",
            MODEL,
            "N",
            "a twelfth of the inputs, 2 to 64; for a sparse bottleneck 16 times --active, at most 1024",
            low=1,
        ),
    ] = None
    bottleneck: Annotated[
        Literal["none", "variational", "sparse"] | None,
        Option(
            "The bottleneck between encoder and decoder: none; variational, a Gaussian for each row, held near "
            "N(0, 1), so that new rows can be drawn; or sparse, which keeps the --active largest values of a wide "
            "code.",
            MODEL,
            "NAME",
        ),
    ] = None
    active: Annotated[
        int | None,
        Option(
            "The number of values that --bottleneck sparse keeps in each code. The others are 0.",
            MODEL,
            "N",
            "a twelfth of the inputs, 2 to 64; at most a sixteenth of a given --latent-dim",
            low=1,
        ),
    ] = None
    nested: Annotated[
        bool,
        Option(
            "Train codes whose first half and first quarter are good codes by themselves. decode accepts these, too. "
            "Training takes twice as many steps.",
            MODEL,
            "",
        ),
    ] = False
    activation: Annotated[
        Literal["gelu", "relu", "silu", "elu", "tanh", "sigmoid"] | None,
        Option(
            "The function between layers: gelu, relu, silu, elu, tanh or sigmoid.",
            MODEL,
            "NAME",
            "gelu; silu with convolutions",
        ),
    ] = None
    latent_activation: str | None = None
    epochs: Annotated[int | None, Option("Passes over the training rows.", TRAINING, "N", low=1)] = None
    batch_size: Annotated[int | None, Option("Rows per step.", TRAINING, "N", low=1)] = None
    lr: Annotated[
        float | None,
        Option("The highest learning rate.", TRAINING, "RATE", "0.01; 0.007 for a sparse code without other layers"),
    ] = None
    optimizer: Annotated[
        Literal["muon", "adam"] | None,
        Option("The optimizer: muon or adam.", TRAINING, "NAME", "muon; adam for a sparse code without other layers"),
    ] = None
    schedule: str | None = None
    init: str | None = None
    weight_decay: float | None = None
    neighbours: int | None = None
    loss: Annotated[
        Literal["mse", "bce", "huber"] | None,
        Option(
            "The loss: mse, the mean squared error; bce, the cross-entropy of pixels, or of columns scaled to [0, 1] "
            "with --scale minmax; or huber, on which outliers have less effect.",
            TRAINING,
            "NAME",
            "mse; bce with --bottleneck variational if scaled values are in [0, 1]",
        ),
    ] = None
    beta: Annotated[
        float | None,
        Option(
            "The weight of the KL divergence of --bottleneck variational, relative to a row's loss summed over its "
            "values. Above 1, the code uses fewer values; below 1, rows are rebuilt better.",
            TRAINING,
            "WEIGHT",
            "1",
        ),
    ] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None,
        Option(
            "The precision of matrix products: fp32, bf16, or auto, which is bf16 if that saves time. Weights "
            "stay fp32.",
            TRAINING,
            "NAME",
        ),
    ] = None
    noise: Annotated[
        float | None,
        Option(
            "Denoising: add noise of this standard deviation, in the model's units, to the input only.",
            TRAINING,
            "STD",
            "0; for a map 0.2 if values are from 0 to 1, else 0.5",
            low=0,
        ),
    ] = None
    augment_shift: Annotated[
        int | None,
        Option(
            "Move the images of each batch by up to this many pixels.",
            TRAINING,
            "PIXELS",
            "1 for images of 16 × 16 or more if the model has over 20 weights per row, else 0",
            low=0,
            high=16,
        ),
    ] = None
    patience: Annotated[
        int | None,
        Option(
            "Stop after this many epochs without a better error on the validation rows, and keep the best weights. A "
            "tenth of the training rows are validation rows. 0 trains to the end.",
            TRAINING,
            "EPOCHS",
            low=0,
        ),
    ] = None
    seed: Annotated[int, Option("Equal seeds give equal checkpoints.", TRAINING, "N", low=0)] = 0
    holdout: Annotated[
        float | None,
        Option(
            "The share of the rows to hold out. The error on them is reported, and no choice depends on it.",
            TRAINING,
            "SHARE",
            "0.1, or a built-in set's test split",
            low=0,
            high=0.9,
        ),
    ] = None
    holdout_last: Annotated[
        float | None,
        Option(
            "Hold out this share of the rows from the end of the data, instead of random rows. Use it for rows in time "
            "order. The validation rows of --patience are then the last of the remaining rows.",
            TRAINING,
            "SHARE",
            low=0,
            high=0.9,
        ),
    ] = None
    store_rows: Annotated[
        int,
        Option(
            "Store the codes of up to N training rows. score compares rows with them. Anyone can decode them to rows "
            "that resemble the training rows; 0 stores none.",
            TRAINING,
            "N",
            low=0,
        ),
    ] = 2000  # a quarter of it is a little worse, more takes longer
    scale: Annotated[
        Literal["standard", "minmax", "robust", "quantile", "common", "none"] | None,
        Option(
            "How to scale columns: standard, minmax, robust (by median and quartiles), quantile (by rank), common (one "
            "factor for all columns, for values of one unit) or none. Pixels are divided by their full scale.",
            TABLE,
            "HOW",
        ),
    ] = None


@dataclass(frozen=True)
class Columns:
    """The options of the data that the checkpoint stores. Only training has them.

    All but `label` accept globs. `image_size` is (width, height) in pixels. `image_shape` is, too, with the channels
    after or before.
    """

    label: Annotated[
        str | None,
        Option(
            "The column of labels. It is not learnt, but copied to the output. FILE:COLUMN is a column of another "
            "table, which is matched by row, or by its column path or the column that holds the images' names.",
            TABLE,
            "COLUMN",
            "label",
            columns=True,
        ),
    ] = None
    features: Annotated[
        tuple[str, ...],
        Option(
            "A column to learn, or a glob such as 'sensor_*'. All other columns are left out. Repeatable.",
            TABLE,
            "COLUMN",
            "every column but the label",
            columns=True,
        ),
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Option("A column to leave out, or a glob. Repeatable.", TABLE, "COLUMN", columns=True)
    ] = ()
    categorical: Annotated[
        tuple[str, ...],
        Option("A column of categories, or a glob, to encode one-hot. Repeatable.", TABLE, "COLUMN", columns=True),
    ] = ()
    max_categories: Annotated[
        int,
        Option("If a column has more categories than this, merge the rare ones into one.", TABLE, "N", low=2),
    ] = 1000
    missing: Annotated[
        Literal["mean", "drop"] | None,
        Option(
            "What to do with empty cells in training: mean uses the column's mean and leaves the cell out of the loss, "
            "drop leaves out the row. A row without any value is always left out. Commands that apply the model accept "
            "empty cells in any case.",
            TABLE,
            "HOW",
            "an error",
        ),
    ] = None
    image_size: Annotated[
        tuple[int, int] | None,
        Option(
            "Resize all images to this size, such as 28 or 64x48. The checkpoint stores it.",
            READING,
            "SIZE",
            "the size of the first image; all must have it",
        ),
    ] = None
    image_shape: Annotated[
        tuple[int, ...] | None,
        Option(
            "Read the rows of an array or a table as images of this shape: WIDTHxHEIGHT, such as 28x28; 32x32x3 for "
            "colour; 3x32x32 for colour with the channels first.",
            READING,
            "SHAPE",
            "the array's own shape",
        ),
    ] = None
    fit: Annotated[
        Literal["crop", "pad", "stretch"],
        Option(
            "How --image-size treats other proportions: crop cuts off the sides, pad adds background, stretch "
            "distorts.",
            READING,
            "HOW",
        ),
    ] = "crop"
    background: Annotated[
        Literal["white", "black"], Option("The background of transparent pixels: white or black.", READING, "COLOUR")
    ] = "white"
    alpha: Annotated[
        bool, Option("Learn the transparency of pixels, as a fourth channel of the images.", READING, "")
    ] = False

    def __post_init__(self) -> None:
        if self.image_size is not None and len(self.image_size) == 1:  # 28 is 28 by 28
            object.__setattr__(self, "image_size", self.image_size * 2)


@dataclass(frozen=True)
class Writing:
    """How a table is written. What is not given is detected, and a model stores it for later data."""

    input_format: Annotated[
        Literal["csv", "tsv", "jsonl", "parquet", "arrow"] | None,
        Option(
            "The format of a table: csv, tsv, jsonl, parquet or arrow.",
            READING,
            "FORMAT",
            "detected from the first bytes; text of no other format is csv",
        ),
    ] = None
    input_header: Annotated[
        bool | None,
        Option("Whether a CSV begins with the names of the columns.", READING, "", "detected from the first rows"),
    ] = None
    delimiter: Annotated[
        str | None,
        Option("The character between the cells of a CSV, such as ';' or '\\t'.", READING, "CHAR", "detected"),
    ] = None
    decimal: Annotated[
        Literal[".", ","] | None, Option("The decimal mark of numbers in text: . or ,", READING, "CHAR", ".")
    ] = None
    thousands: Annotated[
        str | None, Option("The thousands separator of numbers in text, such as ',' or '.'.", READING, "CHAR")
    ] = None
    comment: Annotated[str | None, Option("The start of comment lines in a CSV, such as '#'.", READING, "TEXT")] = None
    skip_rows: Annotated[int | None, Option("Skip this many lines at the top of a CSV.", READING, "N", low=0)] = None
    encoding: Annotated[
        str | None,
        Option("The encoding of text, such as cp1252.", READING, "NAME", "UTF-8, or UTF-16 with a byte order mark"),
    ] = None
    date_format: Annotated[
        str | None, Option("The format of dates in text, such as %d.%m.%Y.", READING, "FORMAT", "ISO 8601")
    ] = None
    na: Annotated[
        tuple[str, ...],
        Option("A value that means an empty cell, in addition to the usual ones. Repeatable.", READING, "VALUE"),
    ] = ()


@dataclass(frozen=True)
class Reading(Writing):
    """How the data is written, tables and images."""

    input_range: Annotated[
        tuple[float, float] | None,
        Option(
            "The values of black and white pixels, such as 0,1. Pixels are converted to the model's range.",
            READING,
            "LOW,HIGH",
            "0,255 for 8 bits; the range of the training rows",
        ),
    ] = None
    skip_broken: Annotated[bool, Option("Skip images that cannot be read.", READING, "")] = False

    def __post_init__(self) -> None:
        """Raise UsageError if the range is not two values, the smaller first."""
        given = self.input_range or (0, 1)
        if len(given) != 2 or not given[0] < given[1]:
            raise UsageError(f"input_range is {self.input_range}, and must be two values, the smaller first")


BadRows = Annotated[
    Literal["error", "blank", "skip"],
    Option(
        "What to do with a row that cannot be read: error; blank, write a row of empty cells; or skip it.",
        READING,
        "HOW",
    ),
]
Keep = Annotated[tuple[str, ...], Option("A column to copy to the output. Repeatable.", TABLE, "COLUMN", columns=True)]


@dataclass(frozen=True)
class Matching:
    """The options of rows that a model cannot use as they are."""

    unknown: Annotated[
        Literal["error", "ignore"],
        Option(
            "What to do with a category that the model does not know: error, or ignore, which encodes it as none of "
            "the known ones.",
            READING,
            "HOW",
        ),
    ] = "error"
    bad_rows: BadRows = "error"


@dataclass(frozen=True)
class Applying(Matching):
    """The options of reading rows for a model."""

    keep: Keep = ()
    keep_all: bool = False  # every column, as it is
    aside: tuple[str, str] | None = None  # an option, and the column of labels or colours that it names
    line_buffered: bool = False  # each row of a CSV or of JSON Lines is answered as it comes
    further: bool = False  # the rows are for training, or held out of it, so none can be blank
    shorter: tuple[int, ...] = ()  # these numbers of first columns make a row, too: the rest of a nested code is 0

    @property
    def ways(self) -> str:
        """The options that accept rows that cannot be read."""
        return "--bad-rows skip" if self.further else "--bad-rows blank or --bad-rows skip"


@dataclass(frozen=True)
class Decoding(Writing):
    """The options of reading codes for a model."""

    bad_rows: BadRows = "error"
    keep: Keep = ()
    keep_all: bool = False  # every column, as it is
    line_buffered: bool = False  # each row of a CSV or of JSON Lines is answered as it comes


AS_IT_IS, ALL_COLUMNS, PLAINLY = Reading(), Columns(), Applying()


def hints(group: type[Any]) -> dict[str, tuple[Any, Option | None]]:
    """Return each field's type, and its `Option` if it has one."""
    found: dict[str, tuple[Any, Option | None]] = {}
    for name, hint in get_type_hints(group, include_extras=True).items():
        annotated = get_origin(hint) is Annotated
        kind, option = get_args(hint)[:2] if annotated else (hint, None)
        found[name] = kind, option
    return found


def grouped(given: Mapping[str, Any], *groups: type[Any]) -> list[Any]:
    """Return keywords as one object of each group. A value of None means the default.

    Raises UsageError for a keyword that no group has, or a value of the wrong type.
    """
    known = {name: group for group in groups for name in hints(group)}
    for name in given.keys() - known.keys():
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"there is no option {name!r}", hint=f"did you mean {near[0]}?" if near else f"they are {', '.join(known)}"
        )
    made = []
    for group in groups:
        fields = {field.name: field.default for field in dataclasses.fields(group)}
        kinds = hints(group)
        values = {name: given[name] for name in fields if given.get(name) is not None}
        made.append(group(**{name: _typed(name, value, kinds[name][0]) for name, value in values.items()}))
    return made


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Return a keyword's value in the type of its field: one name becomes a tuple of one, a list a tuple."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if _is_union(hint) else [hint]
    kind = kinds[0]
    if get_origin(kind) is tuple:
        items = [value] if isinstance(value, str | int) else list(value)
        item = get_args(kind)[0]
        if item is int and any(isinstance(each, str) for each in items):
            raise UsageError(f"{name} is {value!r}, and must be an int or a tuple of ints")
        return tuple(_typed(name, each, item) for each in items)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UsageError(f"{name} is {value!r}, and must be one of {', '.join(get_args(kind))}")
        return value
    number = kind in (int, float) and not isinstance(value, bool) and hasattr(value, "__float__")
    if number and float(value) == kind(value):
        return kind(value)
    if not isinstance(value, kind):
        raise UsageError(f"{name} is {value!r}, and must be of type {kind.__name__}")
    return value


def _is_union(hint: Any) -> bool:
    return type(None) in get_args(hint)


def with_options(function: T, *groups: type[Any]) -> T:
    """Replace `**options` in a function's signature with the keywords of the groups, for help() and notebooks."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    for group in groups:
        kinds = hints(group)
        parameters += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=kinds[field.name][0]
            )
            for field in dataclasses.fields(group)
        ]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function
