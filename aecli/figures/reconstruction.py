"""Originals above their reconstructions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aecli.figures import mosaic, style

Array = np.ndarray[Any, Any]
MAX_COLUMNS = 20
IN_A_ROW = 10
LEAST_IN_A_ROW = 4  # with fewer images in a row, they do not get larger
MARGIN = 9  # columns of a terminal for "original"


def images(
    x: Array,
    recon: Array,
    mse: Array,
    white: tuple[float, float],
    look: style.Look,
    origins: Sequence[tuple[str, int]] = (),
) -> Figure:
    """Draw images `x` above `recon`, both (N, H, W) or (N, H, W, C), with their errors `mse` (N,) below.

    `white` are the values drawn black and white. There are ten images in a row; in a terminal as many as fit, see
    `fitting`. `origins` are pairs of a title and the number of images that it stands above; further images of an origin
    continue in the next row.
    """
    count, height, width = x.shape[:3]
    origins = origins or [("", count)]
    between = mosaic.gap(height, width)
    grid = _grid(x.shape[1:], count, look, origins) if look.window else None
    most = grid.columns if grid else IN_A_ROW
    bands = _bands(origins, count, most)
    in_a_row = max(len(mine) for _, mine in bands)
    if not grid:
        in_a_row = max(in_a_row, LEAST_IN_A_ROW)
    cell = (style.width_of(look) / 72 - 0.75) / in_a_row
    named = sum(bool(name) for name, _ in bands)
    tall = 2 * cell * (height + between) / (width + between) + 0.2
    figure = style.figure(look, height=len(bands) * tall + named * 0.2 + 0.3)
    pairs = np.stack([x, recon])  # (2, N, H, W, ...)
    top = len(style.title_lines(look))
    for band, (name, mine) in enumerate(bands):
        shown = pairs[:, mine]
        if grid:
            top += bool(name)
            axes = mosaic.axes_at(figure, look, shown.shape, grid, margin=MARGIN, top=top)
            top += math.ceil(2 * (height + between) * grid.scale / 2) + 1
        else:
            axes = figure.add_subplot(len(bands), 1, band + 1)
            axes.set_anchor("W")
        mosaic.draw(axes, shown, white)
        if name:
            axes.set_title(name, loc="left", fontsize=look.small)
        if not grid:  # a band with fewer images is as wide as the others
            axes.set_xlim(0, in_a_row)
        axes.set_yticks(mosaic.centres(2, height, between), ["original", "rebuilt"])
        axes.set_xticks(mosaic.centres(shown.shape[1], width, between), [style.number(error, 2) for error in mse[mine]])
        room = cell * 72 / max(len(style.number(error, 2)) + 1 for error in mse)
        axes.tick_params(axis="x", labelsize=style.MONO if grid else min(style.SMALL, room / style.CHARACTER))
        if band == len(bands) - 1:
            axes.set_xlabel("mean squared error of each", loc="left", fontsize=look.small)
    mosaic.trim(figure, look)
    return figure


def fitting(shape: tuple[int, ...], count: int, look: style.Look, origins: Sequence[tuple[str, int]] = ()) -> int:
    """Return how many of `count` images of `shape` with these `origins` fit in a figure of this look."""
    if look.window is None:
        return count
    grid = _grid(shape, count, look, origins)
    return sum(len(mine) for _, mine in _bands(origins or [("", count)], count, grid.columns)[: grid.bands])


def _bands(origins: Sequence[tuple[str, int]], count: int, most: int) -> list[tuple[str, range]]:
    """Return the first `count` images as rows of at most `most`, each of one origin, named above its first row."""
    bands, first = [], 0
    for name, size in origins:
        end = min(first + size, count)
        starts = range(first, end, most)
        bands += [(name if start == first else "", range(start, min(start + most, end))) for start in starts]
        first = end
    return bands


def _grid(shape: tuple[int, ...], count: int, look: style.Look, origins: Sequence[tuple[str, int]]) -> mosaic.Grid:
    named = sum(bool(name) for name, _ in origins)
    return mosaic.fit(shape, count, look, margin=MARGIN, lines=2, notes=1 + named)


def columns(rebuilt: Array, names: Sequence[str], look: style.Look) -> Figure:
    """Draw the share of each column's variance that is rebuilt, `rebuilt` (D,), from the best column to the worst.

    1 is perfect, 0 is no better than the column's mean, NaN is a constant column, which is left out. If there are more
    than 20 columns, the middle ones are left out.
    """
    constant = int(np.isnan(rebuilt).sum())
    order = np.argsort(-rebuilt, kind="stable")[: len(rebuilt) - constant]
    most = MAX_COLUMNS if look.window is None else max(3, min(MAX_COLUMNS, look.window[1] - 5))
    half = most // 2
    left_out = len(order) - most if len(order) > most else 0
    shown = np.concatenate([order[:half], order[half - most :]]) if left_out else order
    figure = style.figure(look, height=0.75 + 0.2 * (len(shown) + bool(left_out)))
    axes = style.quiet(figure.add_subplot(), look)
    places = -np.arange(len(shown)) - (np.arange(len(shown)) >= half) * bool(left_out)
    axes.barh(places, np.clip(rebuilt[shown], 0, 1), color=look.colour(0), height=1 if look.window else 0.72)
    for place, share in zip(places, rebuilt[shown], strict=True):
        axes.text(1.02, place, f"{share:.0%}", va="center", fontsize=look.small)
    if left_out:
        axes.text(0.01, -half, f"{left_out:,} columns between", va="center", fontsize=look.small, style="italic")
    limit = int(0.45 * style.width_of(look) / (look.small * style.CHARACTER))
    axes.set_yticks(places, [style.shorten(names[i], limit, look) for i in shown])
    note = f"; {constant:,} constant columns left out" if constant else ""
    per_line = int(0.5 * style.width_of(look) / (style.FONT * style.CHARACTER))
    axes.set_xlabel(style.wrapped(f"share of variance rebuilt{note}", per_line), loc="left")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "50%", "100%"])
    axes.tick_params(axis="y", length=0)
    return figure
