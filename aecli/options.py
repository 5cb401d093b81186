"""Every option that a user may set, declared once: a flag of the command line, and a keyword of the library.

A field is the option: its name, its type, what holds where nothing is said, and what people are told of it.
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
    """What people are told of an option.

    `default` says in words what holds where nothing is said, for options whose field is None until a rule decides.
    `columns` tells that the value names columns of the data.
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
    """What a user may choose of a model and its training. None leaves the choice to the recipe, or to a rule.

    Fields without an `Option` have no flag.
    """

    recipe: Annotated[
        Literal["modern", "map", "vectors", "classic", "classic-2d"] | None,
        Option(
            "The defaults of all other options: modern; map, two values in which rows that are near each other lie "
            "together; vectors, short codes that a search by cosine finds the same rows with; classic or classic-2d, "
            "the tutorial's.",
            MODEL,
            "NAME",
            "modern, or that of --init-from",
        ),
    ] = None
    hidden_dims: Annotated[
        tuple[int, ...] | None,
        Option(
            "The encoder's dense widths before the bottleneck, such as 512,64; '' is none. The decoder mirrors them.",
            MODEL,
            "WIDTHS",
            "by the data: 64,64 for a table, 256,128 for much of it, more for two or three values; none with "
            "--channels, but for a map, and for a sparse code at least as wide as a row",
        ),
    ] = None
    channels: Annotated[
        tuple[int, ...] | None,
        Option(
            "Convolutions for images, such as 16,32: the encoder's channels; '' is none. Each has stride 2 and halves "
            "the image; dense layers follow, those of --hidden-dims before the bottleneck.",
            MODEL,
            "WIDTHS",
            "16,32 of images of 16 × 16 pixels and more, but for two or three values, a sparse code at least as wide "
            "as a row, and --hidden-dims",
        ),
    ] = None
    latent_dim: Annotated[
        int | None,
        Option(
            "The bottleneck's width: to how many values a row is compressed. Above 512 a model gives no --samples, "
            "but a variational one.",
            MODEL,
            "N",
            "a twelfth of the inputs, 2 to 64; of a sparse bottleneck 16 times --active, at most 1024",
            low=1,
        ),
    ] = None
    bottleneck: Annotated[
        Literal["none", "variational", "sparse"] | None,
        Option(
            "What lies between encoder and decoder: none; variational, a Gaussian for each row, held near N(0, 1), so "
            "that new rows can be drawn; or sparse, which keeps the --active largest values of a wide code.",
            MODEL,
            "NAME",
        ),
    ] = None
    active: Annotated[
        int | None,
        Option(
            "How many values of a code --bottleneck sparse keeps. The others are 0.",
            MODEL,
            "N",
            "a twelfth of the inputs, 2 to 64; of a given --latent-dim at most a sixteenth",
            low=1,
        ),
    ] = None
    nested: Annotated[
        bool,
        Option(
            "Train codes whose first half and first quarter are good codes by themselves. decode takes these, too. "
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
    batch_size: Annotated[int | None, Option("Rows in a step.", TRAINING, "N", low=1)] = None
    lr: Annotated[
        float | None,
        Option("The highest learning rate.", TRAINING, "RATE", "0.01; 0.007 of a sparse code without other layers"),
    ] = None
    optimizer: Annotated[
        Literal["muon", "adam"] | None,
        Option("The optimizer: muon or adam.", TRAINING, "NAME", "muon; adam of a sparse code without other layers"),
    ] = None
    schedule: str | None = None
    init: str | None = None
    weight_decay: float | None = None
    neighbours: int | None = None
    loss: Annotated[
        Literal["mse", "bce", "huber"] | None,
        Option(
            "What training minimises: mse, the mean squared error; bce, the cross-entropy of pixels, or of columns "
            "in [0, 1] by --scale minmax; or huber, which far-off values pull at less.",
            TRAINING,
            "NAME",
            "mse; with --bottleneck variational bce, where scaling keeps values in [0, 1]",
        ),
    ] = None
    beta: Annotated[
        float | None,
        Option(
            "The weight of the KL divergence of --bottleneck variational, beside a row's loss summed over its values. "
            "Above 1, fewer values of the code are used; below 1, rows are rebuilt better.",
            TRAINING,
            "WEIGHT",
            "1",
        ),
    ] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None,
        Option(
            "The precision of matrix products: fp32, bf16, or auto, which is bf16 where it saves time. Weights "
            "stay fp32.",
            TRAINING,
            "NAME",
        ),
    ] = None
    noise: Annotated[
        float | None,
        Option(
            "Denoising: add noise of this standard deviation, in the model's units, to the input alone.",
            TRAINING,
            "STD",
            "0; of a map 0.2 for values from 0 to 1, 0.5 for others",
            low=0,
        ),
    ] = None
    augment_shift: Annotated[
        int | None,
        Option(
            "Move the images of each batch by up to this many pixels.",
            TRAINING,
            "PIXELS",
            "1 for images of 16 × 16 or more where the model has over 20 weights a row, else 0",
            low=0,
            high=16,
        ),
    ] = None
    patience: Annotated[
        int | None,
        Option(
            "Stop after this many epochs without a better error on validation rows, a tenth of the training rows, and "
            "keep the best weights. 0 trains to the end.",
            TRAINING,
            "EPOCHS",
            low=0,
        ),
    ] = None
    seed: Annotated[int, Option("Equal seeds give equal checkpoints.", TRAINING, "N", low=0)] = 0
    holdout: Annotated[
        float | None,
        Option(
            "The share of the rows that is held out. The error on them is reported, and nothing is chosen by it.",
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
            "Hold out the last rows, this share of them, in place of random ones: for rows in time order. The "
            "validation rows of --patience are then the last of the others.",
            TRAINING,
            "SHARE",
            low=0,
            high=0.9,
        ),
    ] = None
    store_rows: Annotated[
        int,
        Option(
            "Store the codes of up to so many training rows, which score compares rows with. They can be decoded to "
            "rows that are like those trained on; 0 stores none.",
            TRAINING,
            "N",
            low=0,
        ),
    ] = 2000  # a quarter of them is a little worse, more take longer to compare with
    scale: Annotated[
        Literal["standard", "minmax", "robust", "quantile", "common", "none"] | None,
        Option(
            "How columns are scaled: standard, minmax, robust (by the median and the quartiles), quantile (by rank), "
            "common (one factor for all, of values of one unit) or none. Pixels are divided by their full scale.",
            TABLE,
            "HOW",
        ),
    ] = None


@dataclass(frozen=True)
class Columns:
    """What the checkpoint stores of the data: an option of training alone.

    Columns are named, or chosen by globs in all but `label`. `image_size` is (width, height) in pixels; `image_shape`
    too, with the channels behind or before.
    """

    label: Annotated[
        str | None,
        Option(
            "The column of labels: not learnt, but carried along. FILE:COLUMN is that of another table, matched by row "
            "or by its column path, or that of the images' names.",
            TABLE,
            "COLUMN",
            "label",
            columns=True,
        ),
    ] = None
    features: Annotated[
        tuple[str, ...],
        Option(
            "A column to learn, or a glob such as 'sensor_*'; all others are left out. Repeatable.",
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
        Option("Of a column with more categories than this, the rare ones are taken as one.", TABLE, "N", low=2),
    ] = 1000
    missing: Annotated[
        Literal["mean", "drop"] | None,
        Option(
            "What becomes of a cell without a value in training: mean takes its column's mean and counts it in no "
            "loss, drop leaves its row out. A row without any value is always left out. Later neither "
            "stops a command.",
            TABLE,
            "HOW",
            "an error",
        ),
    ] = None
    image_size: Annotated[
        tuple[int, int] | None,
        Option(
            "Bring all images to this size, such as 28 or 64x48. The checkpoint remembers.",
            READING,
            "SIZE",
            "the first image's, and all must have it",
        ),
    ] = None
    image_shape: Annotated[
        tuple[int, ...] | None,
        Option(
            "Rows of an array or a table are images of this shape: WIDTHxHEIGHT, such as 28x28; 32x32x3 in colour; "
            "3x32x32 in colour with the channels first.",
            READING,
            "SHAPE",
            "what the array's own shape says",
        ),
    ] = None
    fit: Annotated[
        Literal["crop", "pad", "stretch"],
        Option(
            "How --image-size treats other proportions: crop cuts the sides off, pad adds ground, stretch distorts.",
            READING,
            "HOW",
        ),
    ] = "crop"
    background: Annotated[
        Literal["white", "black"], Option("What lies under transparent pixels: white or black.", READING, "COLOUR")
    ] = "white"
    alpha: Annotated[
        bool, Option("Learn how transparent pixels are, as a fourth channel of the images.", READING, "")
    ] = False

    def __post_init__(self) -> None:
        if self.image_size is not None and len(self.image_size) == 1:  # 28 is 28 by 28
            object.__setattr__(self, "image_size", self.image_size * 2)


@dataclass(frozen=True)
class Writing:
    """How a table is written. What is not given is found in the data; a model remembers it for later data."""

    input_format: Annotated[
        Literal["csv", "tsv", "jsonl", "parquet", "arrow"] | None,
        Option(
            "The format of a table: csv, tsv, jsonl, parquet or arrow.",
            READING,
            "FORMAT",
            "its first bytes tell; text of no other format is csv",
        ),
    ] = None
    input_header: Annotated[
        bool | None,
        Option("Whether a CSV begins with the columns' names.", READING, "", "the first rows tell"),
    ] = None
    delimiter: Annotated[
        str | None,
        Option(
            "What stands between the cells of a CSV, such as ';' or '\\t'.", READING, "CHAR", "it is found in the data"
        ),
    ] = None
    decimal: Annotated[
        Literal[".", ","] | None, Option("The decimal mark of numbers in text: . or ,", READING, "CHAR", ".")
    ] = None
    thousands: Annotated[
        str | None, Option("What groups the digits of numbers in text, such as ',' or '.'.", READING, "CHAR")
    ] = None
    comment: Annotated[
        str | None, Option("What a line of a CSV that is a comment begins with, such as '#'.", READING, "TEXT")
    ] = None
    skip_rows: Annotated[int | None, Option("Leave out this many lines at the top of a CSV.", READING, "N", low=0)] = (
        None
    )
    encoding: Annotated[
        str | None, Option("The encoding of text, such as cp1252.", READING, "NAME", "UTF-8, or UTF-16 with its mark")
    ] = None
    date_format: Annotated[
        str | None, Option("How dates are written in text, such as %d.%m.%Y.", READING, "FORMAT", "ISO 8601")
    ] = None
    na: Annotated[
        tuple[str, ...],
        Option("A value that stands for a hole, beside the usual spellings. Repeatable.", READING, "VALUE"),
    ] = ()


@dataclass(frozen=True)
class Reading(Writing):
    """How the data is written."""

    input_range: Annotated[
        tuple[float, float] | None,
        Option(
            "The values of black and white pixels, such as 0,1. Another range than the model's is converted.",
            READING,
            "LOW,HIGH",
            "0,255 for 8 bits; what the training rows have",
        ),
    ] = None
    skip_broken: Annotated[bool, Option("Go on where an image cannot be read.", READING, "")] = False

    def __post_init__(self) -> None:
        """Raise UsageError for a range that is none."""
        told = self.input_range or (0, 1)
        if len(told) != 2 or not told[0] < told[1]:
            raise UsageError(f"input_range is {self.input_range}, and must be two values, the smaller first")


BadRows = Annotated[
    Literal["error", "blank", "skip"],
    Option(
        "What becomes of a row that cannot be read: error; blank, a row of empty cells; or skip, no row.",
        READING,
        "HOW",
    ),
]
Keep = Annotated[
    tuple[str, ...], Option("A column to carry along to the output. Repeatable.", TABLE, "COLUMN", columns=True)
]


@dataclass(frozen=True)
class Matching:
    """What becomes of rows that a model cannot take as they are."""

    unknown: Annotated[
        Literal["error", "ignore"],
        Option(
            "What becomes of a category that the model does not know: error, or ignore, which takes it as none of the "
            "known ones.",
            READING,
            "HOW",
        ),
    ] = "error"
    bad_rows: BadRows = "error"


@dataclass(frozen=True)
class Applying(Matching):
    """What is asked when rows are read for a model."""

    keep: Keep = ()
    keep_all: bool = False  # every column, as it is
    aside: tuple[str, str] | None = None  # an option, and the column of labels or colours that it names
    line_buffered: bool = False  # each row of a CSV or of JSON Lines is answered as it comes
    further: bool = False  # rows to train the model further, of which none can be blank
    shorter: tuple[int, ...] = ()  # so many of the first columns make a row, too: of nested codes the others are 0

    @property
    def ways(self) -> str:
        """What may be said of rows that cannot be read."""
        return "--bad-rows skip" if self.further else "--bad-rows blank or --bad-rows skip"


@dataclass(frozen=True)
class Decoding(Writing):
    """What is asked when codes are read for a model."""

    bad_rows: BadRows = "error"
    keep: Keep = ()
    keep_all: bool = False  # every column, as it is
    line_buffered: bool = False  # each row of a CSV or of JSON Lines is answered as it comes


AS_IT_IS, ALL_COLUMNS, PLAINLY = Reading(), Columns(), Applying()


def hints(group: type[Any]) -> dict[str, tuple[Any, Option | None]]:
    """Return each field's type, and its `Option` where it has one."""
    found: dict[str, tuple[Any, Option | None]] = {}
    for name, hint in get_type_hints(group, include_extras=True).items():
        annotated = get_origin(hint) is Annotated
        kind, option = get_args(hint)[:2] if annotated else (hint, None)
        found[name] = kind, option
    return found


def grouped(given: Mapping[str, Any], *groups: type[Any]) -> list[Any]:
    """Return keywords as one object of each group. None where a field takes none means what holds by default.

    Raises UsageError for a keyword that no group has, or a value of another type.
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
    """Return a keyword's value as its field has it: one name as a tuple of one, a list as a tuple."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if _is_union(hint) else [hint]
    kind = kinds[0]
    if get_origin(kind) is tuple:
        items = [value] if isinstance(value, str | int) else list(value)
        item = get_args(kind)[0]
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
    """Let a function's signature name the keywords that its `**options` takes, for help() and for notebooks."""
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
