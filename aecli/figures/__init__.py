"""Pictures: one file per kind, arrays in, a matplotlib figure out. Nothing else imports matplotlib."""

import io
from typing import TYPE_CHECKING, BinaryIO

from aecli.data.places import Where
from aecli.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
DPI = 240  # a picture scaled to a paper's column then has 340


def save(figure: "Figure", stream: BinaryIO, form: str, dpi: int = DPI) -> str:
    """Write a figure as png, svg or pdf. Equal figures give equal bytes.

    Returns the characters that the font lacks, which are drawn as boxes.
    Raises AecliError if the figure is too small for its text.
    """
    from aecli.figures import style

    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    buffer = io.BytesIO()  # savefig seeks, and a pipe cannot
    with style.checked(figure) as lacking:
        figure.savefig(buffer, format=form, dpi=dpi, metadata=undated)
    stream.write(buffer.getvalue())
    return "".join(sorted(lacking))


def format_of(path: Where) -> str:
    """Return the format by the ending of a figure's name.

    Raises UsageError for an unknown ending.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"{path}: the name ends in {path.suffix or 'nothing'!r}, which is no known picture format",
            hint=f"the endings are {', '.join(ENDINGS)}",
        )
    return ENDINGS[path.suffix.lower()]
