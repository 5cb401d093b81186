"""Pictures in the terminal, drawn by rich, in the terminal's colours and at the size of its window."""

import os
import sys
from itertools import groupby
from typing import TYPE_CHECKING

from rich.color import Color
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from aecli.cli import console

if TYPE_CHECKING:
    from aecli.figures.terminal import Cell, Colour

BELOW = 2  # lines of the window for the next prompt and earlier messages
LEAST = (40, 12)


class Screen:
    """Shows pictures on standard output. Without colours if it is not a terminal, or if NO_COLOR is set."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False)
        self.has_colour = self._console.color_system is not None and not self._console.no_color

    @property
    def window(self) -> tuple[int, int]:
        """The numbers of columns and lines for a picture."""
        width, height = self._console.size
        return max(width, LEAST[0]), max(height - BELOW, LEAST[1])

    def show(self, cells: "list[list[Cell]]") -> None:
        """Print the cells. Empty lines at the end are left out."""
        while cells and not any(cell.text.strip() or cell.ground for cell in cells[-1]):
            cells.pop()
        segments = []
        for line in cells:
            drawn = len(line)
            while drawn and not (line[drawn - 1].text.strip() or line[drawn - 1].ground):
                drawn -= 1
            segments += [*self._segments(line[:drawn]), Segment.line()]
        with self._console.capture() as captured:
            self._console.print(Segments(segments), end="", soft_wrap=True)
        console.result(captured.get().rstrip("\n"))

    def _segments(self, line: "list[Cell]") -> list[Segment]:
        runs = groupby(line, key=lambda cell: (cell.colour, cell.ground, cell.quiet))
        segments = []
        for (colour, ground, quiet), run in runs:
            style = Style(color=_rich(colour), bgcolor=_rich(ground), dim=quiet or None) if self.has_colour else None
            segments.append(Segment("".join(console.printable(cell.text) for cell in run), style))
        return segments


def theme() -> str:
    """Return "dark" or "light", the terminal's background; "dark" if COLORFGBG does not define it."""
    ground = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return "light" if ground in ("7", "15") else "dark"


def _rich(colour: "Colour | None") -> Color | None:
    return None if colour is None else Color.from_rgb(*colour)
