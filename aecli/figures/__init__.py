"""Pictures: one file a kind, arrays in, a matplotlib figure out. Nothing else imports matplotlib."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from aecli import files
from aecli.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("latent", "reconstruction", "history")
ENDINGS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
DPI = 200


def save(figure: "Figure", stream: BinaryIO, form: str) -> None:
    """Write a figure as png, svg or pdf. Equal figures give equal bytes."""
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    buffer = io.BytesIO()  # savefig seeks, and a pipe cannot
    figure.savefig(buffer, format=form, dpi=DPI, metadata=undated)
    stream.write(buffer.getvalue())


def save_file(figure: "Figure", path: Path, form: str) -> None:
    """Write a figure to a file, which appears under its name only when it is whole."""
    with files.replacing(path) as stream:
        save(figure, stream, form)


def format_of(path: Path) -> str:
    """Give the format that the ending of a figure's name says.

    Raises UsageError for an ending of no known format.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"{path}: the name ends in {path.suffix or 'nothing'!r}, which is none of the formats that are drawn",
            hint=f"the endings are {', '.join(ENDINGS)}",
        )
    return ENDINGS[path.suffix.lower()]
