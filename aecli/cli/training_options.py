"""The options of train alone, each with its default. Nothing heavy is imported here: --help and TAB load it."""

import re
from typing import Annotated, Any, Literal

import typer

from aecli.cli import completion
from aecli.cli.options import MODEL, READING, RUN, TABLE, TRAINING
from aecli.config import RECIPES, resolve

MODERN = RECIPES["modern"]
ON_MNIST, ON_DIGITS = (
    resolve("modern", inputs, rows, bounded=True, seed=0, holdout=0.0)[1]
    for inputs, rows in ((784, 60_000), (64, 1437))
)


def parse_dims(text: str) -> tuple[int, ...]:
    """Read "256,128" as (256, 128); an empty text is no hidden layer at all."""
    if isinstance(text, tuple):
        return text
    try:
        dims = tuple(int(width) for width in text.split(",")) if text.strip() else ()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of widths such as 256,128") from None
    if any(width < 1 for width in dims):
        raise typer.BadParameter(f"{text!r} holds a width below 1")
    return dims


def parse_size(text: str) -> tuple[int, int]:
    """Read "64x48" as (64, 48), and "28" as (28, 28): width and height in pixels."""
    if isinstance(text, tuple):
        return text
    found = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text)
    size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if min(size) < 1:
        raise typer.BadParameter(f"{text!r} is no size such as 28 or 64x48")
    return size


def _widths(dims: tuple[int, ...]) -> str:
    return ",".join(map(str, dims))


TrainData = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA",
        autocompletion=completion.data,
        help="A built-in set, with or without :train or :test; files of one kind; a folder of images; - for standard "
        "input.",
        show_default="digits",
    ),
]
RecipeName = Annotated[
    Literal["modern", "classic", "classic-2d"],
    typer.Option(
        metavar="NAME",
        help="modern, classic or classic-2d: the defaults for all that no other option says.",
        rich_help_panel=MODEL,
    ),
]
HiddenDims = Annotated[
    Any,
    typer.Option(
        parser=parse_dims,
        metavar="WIDTHS",
        help="The encoder's widths before the bottleneck, such as 512,64; the decoder mirrors them.",
        show_default=_widths(MODERN.hidden_dims),
        rich_help_panel=MODEL,
    ),
]
LatentDim = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="The bottleneck's width: how many values a row is compressed to.",
        show_default="a twelfth of the inputs, 2 to 64",
        rich_help_panel=MODEL,
    ),
]
Activation = Annotated[
    Literal["gelu", "relu", "silu", "elu", "tanh", "sigmoid"] | None,
    typer.Option(
        metavar="NAME",
        help="The function between layers: gelu, relu, silu, elu, tanh or sigmoid.",
        show_default=MODERN.activation,
        rich_help_panel=MODEL,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Passes over the training rows.",
        show_default=f"by the rows: {ON_MNIST.epochs} for mnist, {ON_DIGITS.epochs} for digits",
        rich_help_panel=TRAINING,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Rows a step.",
        show_default=f"by the rows: {ON_MNIST.batch_size} for mnist, {ON_DIGITS.batch_size} for digits",
        rich_help_panel=TRAINING,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--lr",
        min=0.0,
        metavar="RATE",
        help="The highest learning rate.",
        show_default=str(MODERN.lr),
        rich_help_panel=TRAINING,
    ),
]
OptimizerName = Annotated[
    Literal["muon", "adam"] | None,
    typer.Option(
        metavar="NAME",
        help="What takes the steps: muon or adam.",
        show_default=MODERN.optimizer,
        rich_help_panel=TRAINING,
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"] | None,
    typer.Option(
        metavar="NAME",
        help="What training multiplies in: fp32, bf16, or auto: bf16 where the hardware does. Weights stay fp32.",
        show_default=MODERN.precision,
        rich_help_panel=TRAINING,
    ),
]
Noise = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="STD",
        help="Denoising: the standard deviation, in the model's units, of noise that is added to the input alone.",
        show_default="0",
        rich_help_panel=TRAINING,
    ),
]
AugmentShift = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=16,
        metavar="PIXELS",
        help="Move the images of each batch by up to so many pixels.",
        show_default="1 for images of 16 × 16 or more where the model has over 20 weights a row, else 0",
        rich_help_panel=TRAINING,
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="EPOCHS",
        help="Stop after so many epochs without a better error on validation rows, a tenth cut from the training rows, "
        "and keep the best weights. 0 trains to the end.",
        show_default="0",
        rich_help_panel=TRAINING,
    ),
]
Seed = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Equal seeds give equal checkpoints.", rich_help_panel=TRAINING),
]
Holdout = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=0.9,
        metavar="SHARE",
        help="The share of the rows that is held out, to be reported on alone.",
        show_default="0.1, or a built-in set's test split",
        rich_help_panel=TRAINING,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        autocompletion=completion.columns,
        help="The column of labels: no feature, but carried along.",
        show_default="label",
        rich_help_panel=TABLE,
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        autocompletion=completion.columns,
        help="A column, or a glob such as 'sensor_*', to learn; all others are left out. Repeatable.",
        show_default="every column but the label and the kept",
        rich_help_panel=TABLE,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="A column, or a glob, to leave out. Repeatable.",
        rich_help_panel=TABLE,
        autocompletion=completion.columns,
    ),
]
Categorical = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        autocompletion=completion.columns,
        help="A column, or a glob, of categories, to encode one-hot. Repeatable.",
        rich_help_panel=TABLE,
    ),
]
Missing = Annotated[
    Literal["mean", "drop"] | None,
    typer.Option(
        metavar="HOW",
        help="What becomes of an empty or NaN cell: mean, its column's over the training rows, or drop, its row is. "
        "The checkpoint remembers.",
        show_default="an error",
        rich_help_panel=TABLE,
    ),
]
Scale = Annotated[
    Literal["standard", "minmax", "none"] | None,
    typer.Option(
        metavar="HOW",
        help="How columns are scaled: standard, minmax or none. Pixels are divided by their full scale.",
        show_default=MODERN.scale,
        rich_help_panel=TABLE,
    ),
]
ImageSize = Annotated[
    Any,
    typer.Option(
        parser=parse_size,
        metavar="SIZE",
        help="Bring all images to this size, such as 28 or 64x48. The checkpoint remembers.",
        show_default="the first image's, and all must have it",
        rich_help_panel=READING,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the run that was stopped before its end, if there was one: the same data, the same options.",
        rich_help_panel=RUN,
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace a file that is no checkpoint; forget a stopped run.", rich_help_panel=RUN),
]
