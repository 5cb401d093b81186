"""A figure as the characters of a terminal: two dots per character, and text as text.

The figure is made for the terminal: its letters are as wide as a column, so that matplotlib leaves the right room for
them. As the figure is drawn, its text is collected, and then written in its place. Everything else is drawn eight times
finer than the dots, and averaged.
"""

import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from aecli.figures import style

Array = np.ndarray[Any, Any]
Colour = tuple[int, int, int]
FAINT = 0.12  # less opaque dots are not drawn
NEAR = 0.2  # the largest distance from a class's colour for a dot to get its mark


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: a text, usually one character, a colour and a background; None is the terminal's own colour."""

    text: str = " "
    colour: Colour | None = None
    ground: Colour | None = None
    quiet: bool = False


class _Pen(RendererAgg):
    """Draws everything except text, which it collects."""

    def __init__(self, figure: Figure) -> None:
        super().__init__(figure.bbox.width, figure.bbox.height, figure.dpi)  # type: ignore[no-untyped-call]
        self.texts: list[tuple[float, float, str, Colour]] = []

    def draw_text(self, gc: Any, x: float, y: float, s: str, *_: Any, **__: Any) -> None:
        self.texts.append((x, y, s, _bytes(np.array(gc.get_rgb()[:3]))))


def draw(figure: Figure, look: style.Look, *, colour: bool) -> list[list[Cell]]:
    """Return the lines of cells that show a figure made for `look.window`.

    Without colour, a dot of a class shows the mark that stands before its name in the legend; other dots are shades.
    """
    assert look.window is not None  # noqa: S101, the figure was made for one
    columns, lines = look.window
    style.settle(figure, look)
    pen = _Pen(figure)
    with style.checked(figure, look):  # the terminal has its own font
        figure.draw(pen)
    drawn: Any = pen.buffer_rgba()  # type: ignore[no-untyped-call]
    fine = np.asarray(drawn, np.float64)[: lines * 2 * style.CELL, : columns * style.CELL] / 255
    fine[..., :3] *= fine[..., 3:]
    dots = fine.reshape(lines * 2, style.CELL, columns, style.CELL, 4).mean(axis=(1, 3))  # (2 lines, columns, 4)
    opaque = dots[..., 3:]
    rgb = dots[..., :3] / np.maximum(opaque, 1e-6)
    marks = _marks(pen) if not colour else {}
    if colour:
        on_ground = dots[..., :3] + (1 - opaque) * np.array(to_rgb(look.colours.ground))
        cells = _half_blocks((on_ground * 255).round().astype(int), dots[..., 3] > FAINT)
    else:
        cells = _shades(rgb, dots[..., 3], marks)
    for x, y, text, ink in pen.texts:
        column, line = round(x / style.CELL), int((y - 0.35 * style.MONO) // (2 * style.CELL))
        if 0 <= line < lines:
            _write(cells[line], column, text, ink, look, marks)
    return cells


def _half_blocks(rgb: Array, drawn: Array) -> list[list[Cell]]:
    """Return cells with two dots each, one above the other: `rgb` (2 lines, columns, 3), `drawn` (2 lines, columns)."""
    colours = [[tuple(dot) for dot in line] for line in rgb.tolist()]
    cells = []
    for above, below, has_above, has_below in zip(
        colours[::2], colours[1::2], drawn[::2].tolist(), drawn[1::2].tolist(), strict=True
    ):
        line = []
        for top, bottom, has_top, has_bottom in zip(above, below, has_above, has_below, strict=True):
            if has_top and has_bottom:
                line.append(Cell(" ", None, top) if top == bottom else Cell("▀", top, bottom))
            else:
                line.append(Cell("▀", top) if has_top else Cell("▄", bottom) if has_bottom else Cell())
        cells.append(line)
    return cells


def _shades(rgb: Array, opaque: Array, marks: dict[Colour, str]) -> list[list[Cell]]:
    """Return cells without colour: a class's mark, or a shade for the two dots."""
    light = rgb.mean(axis=-1) * opaque
    known = np.array(list(marks), float).reshape(-1, 3) / 255
    signs = list(marks.values())
    cells = []
    for line in range(0, len(rgb), 2):
        row = []
        for column in range(rgb.shape[1]):
            strong = line + int(opaque[line + 1, column] > opaque[line, column])
            sign = None
            if opaque[strong, column] > 2 * FAINT and len(known):
                away = np.abs(known - rgb[strong, column]).max(axis=1)
                sign = signs[int(away.argmin())] if away.min() < NEAR else None
            row.append(Cell(sign or _shade(float(light[line, column]), float(light[line + 1, column]))))
        cells.append(row)
    return cells


def _shade(top: float, bottom: float) -> str:
    if min(top, bottom) >= 0.5:
        return "█"
    if max(top, bottom) >= 0.5:
        return "▀" if top > bottom else "▄"
    mean = (top + bottom) / 2
    return "▒" if mean >= 0.3 else "░" if mean >= 0.12 else " "


def _marks(pen: _Pen) -> dict[Colour, str]:
    """Return a mark for each colour of the legend: the first letter of its name if these differ, else a, b, c, ..."""
    named = [(ink, text[2:]) for _, _, text, ink in pen.texts if text.startswith(style.BULLET)]
    first = [name[:1] for _, name in named]
    if len(set(first)) < len(first) or any(not letter.isalnum() for letter in first):
        first = [chr(ord("a") + i) for i in range(len(named))]
    return {ink: letter for (ink, _), letter in zip(named, first, strict=True)}


def _write(line: list[Cell], column: int, text: str, ink: Colour, look: style.Look, marks: dict[Colour, str]) -> None:
    """Write a text into a line of cells, from a column on; in a legend's entry, only the bullet is coloured."""
    theme = look.colours
    quiet = ink == _bytes(np.array(to_rgb(theme.quiet)))
    bullet = text.startswith(style.BULLET)
    column = max(0, min(column, len(line) - len(text)))
    for i, character in enumerate(text):
        if column + i >= len(line):
            return
        if character == "\xa0" and i and style.width_in_characters(text[i - 1]) == 2:
            line[column + i] = Cell("")  # the wide character before it takes this column
            continue
        if unicodedata.combining(character) and column + i:
            line[column + i] = Cell(character)
            continue
        mark = bullet and i == 0
        shown = marks.get(ink, character) if mark else character
        line[column + i] = Cell(shown, ink if mark else None, line[column + i].ground, quiet and not mark)


def _bytes(colour: Array) -> Colour:
    red, green, blue = (round(float(value) * 255) for value in colour)
    return red, green, blue
