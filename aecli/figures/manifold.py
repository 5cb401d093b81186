"""Decoded images for a grid on a plane through the codes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aecli.figures import mosaic, style
from aecli.figures.principal import principal

Array = np.ndarray[Any, Any]
ON_PAPER = 16
EDGES = (0.02, 0.98)
FAINT = 0.2  # the opacity of an image without rows near it
FEW = 0.12  # share of the rows per place if they were spread evenly, at which an image is half opaque
REACH = 0.7  # the reach of a row, in lines of the grid
MARGIN = 6  # columns of a terminal for the second value's ticks


def manifold(
    z: Array,
    decode: Callable[[Array], Array],
    shape: tuple[int, ...],
    white: tuple[float, float],
    look: style.Look,
) -> Figure:
    """Draw images of `shape` (H, W, ...) that `decode` returns, (N, D), for a grid over latent rows `z` (N, K).

    The plane is spanned by the two latent values; if there are more, by the first two principal components through the
    mean. The grid's lines are evenly spaced quantiles of each, from 2% to 98%: close together where the codes are. An
    image is faint if no row is near it, because the decoder never learned that place.
    """
    height, width = shape[:2]
    if look.window:
        grid = mosaic.fit(shape, 48, look, margin=MARGIN, lines=None, notes=2, legible=mosaic.LEGIBLE - 3)
        down, across = grid.lines, grid.columns
    else:
        grid, down, across = None, ON_PAPER, ON_PAPER
    on_plane, names = z, ("z0", "z1")
    if z.shape[1] > 2:
        found = principal(z, 2)
        on_plane, names = found.project(z, 2), (found.name(0), found.name(1))
    xs = np.quantile(on_plane[:, 0], np.linspace(*EDGES, across))
    ys = np.quantile(on_plane[:, 1], np.linspace(*EDGES, down))[::-1]  # upwards
    places = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    codes = places if z.shape[1] == 2 else found.mean + places @ found.directions
    images = decode(codes.astype(np.float32)).reshape(down, across, *shape)
    figure = style.figure(look, height=(style.WIDTH - 0.7) * height / width + 0.55)
    title = len(style.title_lines(look))
    axes = (
        mosaic.axes_at(figure, look, images.shape, grid, margin=MARGIN, top=title + 1) if grid else figure.add_subplot()
    )
    mosaic.draw(axes, images, white, FAINT + (1 - FAINT) * near(on_plane, xs, ys))
    between = mosaic.gap(height, width)
    few = 4 if look.window else 6
    for values, count, pixels, ticks in ((xs, across, width, axes.set_xticks), (ys, down, height, axes.set_yticks)):
        named = np.unique(np.linspace(0, count - 1, min(count, few)).round().astype(int))
        ticks(mosaic.centres(count, pixels, between)[named], [style.number(values[i], 2) for i in named])
    across_name = f"{names[0]}, at its quantiles from 2% to 98%"
    style.name_axes(axes, across_name, names[1] if look.window else f"{names[1]}, likewise", look)
    mosaic.trim(figure, look)
    return figure


def near(rows: Array, xs: Array, ys: Array) -> Array:
    """Return how many rows (N, 2) are near each place of a grid, (ys, xs), from 0 for none to 1 for many.

    Distances are measured in lines of the grid. `xs` rise, and `ys` fall. Rows beyond the outer lines count if they are
    within half a line.
    """
    counts = np.zeros((len(ys), len(xs)))
    line, column = _lines(rows[:, 1], ys[::-1]), _lines(rows[:, 0], xs)
    inside = (line >= 0) & (column >= 0)
    np.add.at(counts, (len(ys) - 1 - line[inside], column[inside]), 1)
    down, across = _kernel(len(ys)), _kernel(len(xs))
    found, even = down @ counts @ across, down.sum() * across.sum() / (len(ys) * len(xs)) ** 2
    shares: Array = found / (found + max(0.5, FEW * len(rows) * even))
    return shares


def _lines(values: Array, at: Array) -> Array:
    """Return the nearest line of a grid, in rising order, for each value (N,); -1 beyond the outer lines."""
    if len(at) == 1:
        return np.zeros(len(values), int)
    half = np.array([at[1] - at[0], at[-1] - at[-2]]) / 2
    inside = (values >= at[0] - half[0]) & (values <= at[-1] + half[1])
    return np.where(inside, np.searchsorted((at[1:] + at[:-1]) / 2, values), -1)


def _kernel(count: int) -> Array:
    away = np.subtract.outer(np.arange(count), np.arange(count)) / REACH
    kernel: Array = np.exp(-(away**2) / 2)
    return kernel
