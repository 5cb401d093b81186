"""Images side by side and in rows, as one image; in a terminal, with whole dots."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aecli.figures import style

Array = np.ndarray[Any, Any]
LEGIBLE = 12  # dots: the least width or height of an image in a terminal, unless it has fewer pixels
SCALES = (*range(16, 1, -1), *(1 / n for n in range(1, 200)))  # whole dots per pixel, or whole pixels per dot


@dataclass(frozen=True)
class Grid:
    """Room for images in a terminal: `lines` by `columns` of them, in `bands` of lines, at `scale` dots per pixel."""

    bands: int
    lines: int
    columns: int
    scale: float


def gap(height: int, width: int) -> int:
    """Return the number of pixels between images of this size."""
    return max(1, round(min(height, width) / 16))


def fit(
    shape: tuple[int, ...],
    wanted: int,
    look: style.Look,
    *,
    margin: int,
    lines: int | None,
    notes: int = 1,
    legible: int = LEGIBLE,
) -> Grid:
    """Return the grid with the largest scale at which a terminal holds `wanted` images of `shape` (H, W, ...).

    The images are in bands of `lines` lines, each band with one line of text below; if `lines` is None, they are in a
    single band of as many lines as fit. `margin` columns beside them and `notes` lines below them are reserved. If they
    would not be legible, the grid holds fewer.
    """
    assert look.window is not None  # noqa: S101, the caller checked it
    height, width = shape[:2]
    between = gap(height, width)
    dots_across = look.window[0] - margin
    lines_down = look.window[1] - notes - len(style.title_lines(look))
    best = Grid(1, 1, 1, 1 / max(1, math.ceil(width / max(1, dots_across))))
    for scale in SCALES:
        if scale * min(height, width) < min(legible, height, width):
            break
        columns = int((dots_across + between * scale) // ((width + between) * scale))
        rows = lines or max(1, int((2 * (lines_down - 1)) // ((height + between) * scale)))
        deep = math.ceil(rows * (height + between) * scale / 2) + 1
        bands = lines_down // deep if lines else 1
        if columns < 1 or bands < 1 or deep > lines_down:
            continue
        best = Grid(bands, rows, columns, scale)
        if bands * columns * (rows if lines is None else 1) >= wanted:
            break
    return best


def coloured(images: Array, white: tuple[float, float]) -> Array:
    """Return images (..., H, W, channels), with 1 to 4 channels, as colours (..., H, W, 4) in [0, 1].

    `white` are the values drawn black and white. Without an alpha channel, the colours are opaque.
    """
    black, full = white
    shown = np.clip((images.astype(np.float64) - black) / (full - black), 0, 1)
    if shown.shape[-1] in (1, 2):
        shown = np.concatenate([np.repeat(shown[..., :1], 3, axis=-1), shown[..., 1:]], axis=-1)
    return shown if shown.shape[-1] == 4 else np.concatenate([shown, np.ones_like(shown[..., :1])], axis=-1)


def join(images: Array, white: tuple[float, float], opaque: Array | None = None) -> Array:
    """Return images (R, C, H, W) or (R, C, H, W, channels) joined to one image, (H', W', 4) in [0, 1].

    `white` are the values drawn black and white; `opaque` (R, C) is the opacity of each image, by default 1.
    """
    lines, columns, height, width = images.shape[:4]
    shown = coloured(images.reshape(lines, columns, height, width, -1), white)
    if opaque is not None:
        shown[..., 3] *= opaque[:, :, None, None]
    between = gap(height, width)
    made = np.zeros((lines * (height + between) - between, columns * (width + between) - between, 4))
    for line in range(lines):
        for column in range(columns):
            top, left = line * (height + between), column * (width + between)
            made[top : top + height, left : left + width] = shown[line, column]
    return made


def draw(axes: Axes, images: Array, white: tuple[float, float], opaque: Array | None = None) -> None:
    """Draw images (R, C, H, W) or (R, C, H, W, channels) on axes whose unit is an image and the gap after it.

    `opaque` (R, C) is the opacity of each image, by default 1.
    """
    height, width = images.shape[2:4]
    between = gap(height, width)
    made = join(images, white, opaque)
    tall, wide = made.shape[0] / (height + between), made.shape[1] / (width + between)
    axes.imshow(
        made,
        interpolation="antialiased",
        extent=(0, wide, tall, 0),
        aspect=(height + between) / (width + between),
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def centres(count: int, pixels: int, between: int) -> Array:
    """Return the centres of `count` images on the axes of `draw`."""
    return np.arange(count) + pixels / (pixels + between) / 2


def axes_at(figure: Figure, look: style.Look, images: tuple[int, ...], grid: Grid, *, margin: int, top: int) -> Axes:
    """Return axes for images of shape (R, C, H, W, ...) in a terminal, `margin` columns and `top` lines away."""
    assert look.window is not None  # noqa: S101, the caller checked it
    figure.set_layout_engine("none")
    lines, columns, height, width = images[:4]
    between = gap(height, width)
    wide = (columns * (width + between) - between) * grid.scale / look.window[0]
    dots = (lines * (height + between) - between) * grid.scale
    tall = dots / look.window[1] / 2
    axes = figure.add_axes((margin / look.window[0], 1 - top / look.window[1] - tall, wide, tall))
    axes.xaxis.set_tick_params(pad=2 + (math.ceil(dots / 2) * 2 - dots) * style.CELL)  # text begins at a whole line
    return axes


def trim(figure: Figure, look: style.Look) -> None:
    """Fit a figure's height to its images, unless the user or a terminal sets its size."""
    if look.window or look.size:
        return
    engine = figure.get_layout_engine()
    for _ in range(2):  # a new height slightly moves what is beside the images
        if engine:
            with style.checked(figure, look):
                engine.execute(figure)
        room = sum(axes.get_position(original=True).height for axes in figure.axes) * figure.get_figheight()
        taken = 0.0
        for axes in figure.axes:
            (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
            wide = axes.get_position(original=True).width * figure.get_figwidth()
            taken += wide * float(axes.get_aspect()) * (low - high) / (right - left)
        figure.set_figheight(figure.get_figheight() + taken - room)
        style.leave_room(figure, look)
