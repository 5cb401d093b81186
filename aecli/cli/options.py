"""The options that only the command line has, each defined once. `flags` makes the flags of `aecli.options`.

Nothing heavy is imported here, because --help and TAB load this module.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aecli.cli import completion
from aecli.data.places import place
from aecli.options import READING, RUN


def parse_device(text: str) -> str:
    """Check a device's name. Whether this machine has the device is checked later."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text):
        raise typer.BadParameter(f"{text!r} is not one of auto, cpu, cuda, cuda:N, mps")
    return text


def parse_shard(text: str | tuple[int, int]) -> tuple[int, int]:
    """Read "0/4", the first of four, as (0, 4)."""
    if isinstance(text, tuple):
        return text
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    of, shards = (int(found[1]), int(found[2])) if found else (0, 0)
    if of >= shards:
        raise typer.BadParameter(f"{text!r} is not a share such as 0/4, the first of four")
    return of, shards


def parse_column(text: str) -> str:
    """Read the name of a column to write."""
    if not text:
        raise typer.BadParameter("the name of a column cannot be empty")
    return text


def parse_place(text: str) -> Any:
    """Return the path that a text names, local or remote."""
    return place(text)


Model = Annotated[
    Any,
    typer.Argument(
        parser=parse_place,
        metavar="MODEL",
        help="A checkpoint written by train: a file or a URL (s3://, gs://, https://).",
        show_default=False,
        autocompletion=completion.models,
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA",
        autocompletion=completion.data,
        help="A built-in set (digits, mnist, ...; name:train or name:test), files of one kind, a folder of images, "
        "a URL (s3://, gs://, https://), or - for standard input.",
        show_default=False,
    ),
]

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Write to this file or URL (s3://, gs://). - is stdout.",
        show_default=False,
        autocompletion=completion.files,
    ),
]
OutputOrParts = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Write to this file or URL (s3://, gs://). - is stdout. A name that ends in / is a folder: it gets one "
        "Parquet file per input file. Files from an earlier run are kept.",
        show_default=False,
        autocompletion=completion.files,
    ),
]
ReplaceParts = Annotated[
    bool,
    typer.Option(
        "--force",
        help="In a folder, replace files that were written with other options, another model or other input.",
        rich_help_panel=RUN,
    ),
]
Shard = Annotated[
    Any,
    typer.Option(
        parser=parse_shard,
        metavar="I/N",
        envvar="AECLI_SHARD",
        help="In a folder, write only the I-th of N shares of the input files. I counts from 0.",
        show_default=False,
        rich_help_panel=RUN,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.", rich_help_panel=RUN)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel=RUN)]
Device = Annotated[
    Any,
    typer.Option(
        parser=parse_device,
        metavar="DEVICE",
        autocompletion=completion.devices,
        envvar="AECLI_DEVICE",
        help="auto, cpu, cuda, cuda:N or mps.",
        rich_help_panel=RUN,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="AECLI_DATA_DIR",
        metavar="FOLDER",
        autocompletion=completion.folders,
        help="The folder of the built-in sets, which are downloaded to it.",
        show_default="the user's cache folder",
        rich_help_panel=RUN,
    ),
]


LineBuffered = Annotated[
    bool,
    typer.Option(
        "--line-buffered", help="Answer each row of a CSV or JSON Lines as it arrives.", rich_help_panel=READING
    ),
]
TopFeatures = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="With --error, append worst1, share1, worst2, ...: the N columns that make the row strange, and their "
        "shares of its strangeness. If the model cannot score, shares of its squared error.",
        show_default=False,
    ),
]
FillHoles = Annotated[
    bool,
    typer.Option(
        "--fill-holes",
        help="Write the table's own values, and fill its empty cells with the values that the model expects. A model "
        "trained with --missing mean fills them best.",
    ),
]
CarryLabel = Annotated[bool, typer.Option("--label/--no-label", help="Copy the label, if the data has it.")]
Header = Annotated[bool, typer.Option("--header/--no-header", help="Begin with the names of the columns.")]
Error = Annotated[
    bool, typer.Option("--error", help="Append mse: each row's mean squared reconstruction error, in scaled units.")
]
AsVector = Annotated[
    str | None,
    typer.Option(
        "--as-vector",
        parser=parse_column,
        metavar="[=NAME]",
        help="Write one column of lists, z or NAME, instead of z0, z1, ...",
        show_default=False,
    ),
]
CodeType = Annotated[
    Literal["float32", "float16"],
    typer.Option(
        "--dtype", metavar="TYPE", help="The type of the latent values in Parquet, Arrow and NPY: float32 or float16."
    ),
]
HeldOut = Annotated[
    bool,
    typer.Option(
        "--held-out",
        help="Append held_out: 1 for rows that were held out of training, 0 for rows that were trained on. DATA must "
        "be the data that the model was trained on, and is read twice.",
    ),
]
Format = Annotated[
    Literal["csv", "tsv", "jsonl", "parquet", "arrow", "npy"] | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="The output's format: csv, tsv, jsonl, parquet, arrow or npy.",
        show_default="by the output's file extension, else csv",
    ),
]
