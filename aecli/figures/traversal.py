"""What a decoder makes of each latent value as it goes through its range."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aecli.figures import mosaic, style

Array = np.ndarray[Any, Any]
MAX_VALUES = 10
MAX_PANELS = 4  # for tables
MAX_COLUMNS = 20
STEPS = 11
EDGES = (0.01, 0.99)
RANGE = "from its 1% to its 99% quantile"


def images(
    z: Array,
    decode: Callable[[Array], Array],
    shape: tuple[int, ...],
    white: tuple[float, float],
    look: style.Look,
) -> Figure:
    """Draw images of `shape` (H, W, ...) that `decode` makes, (N, D): a row for each value of latent rows `z` (N, K).

    The value goes from its 1% to its 99% quantile, the others are at their medians. Of more than ten values, or of more
    than a terminal has room for, the ones of the largest variance are shown.
    """
    height, width = shape[:2]
    between = mosaic.gap(height, width)
    margin = len(f"z{z.shape[1]}") + 1
    most, steps, grid = MAX_VALUES, STEPS, None
    if look.window:
        wanted = 5 * min(z.shape[1], 4)
        grid = mosaic.fit(shape, wanted, look, margin=margin + 12, lines=None, notes=2, legible=mosaic.LEGIBLE - 3)
        most, steps = min(MAX_VALUES, grid.lines), min(STEPS, grid.columns)
    chosen = largest(z, most)
    codes, ends = sweep(z, chosen, steps)
    made = decode(codes.reshape(-1, z.shape[1])).reshape(len(chosen), steps, *shape)
    cell = (style.width_of(look) / 72 - 1.4) / steps
    figure = style.figure(look, height=len(chosen) * cell * height / width + 0.45)
    top = len(style.title_lines(look))
    axes = mosaic.axes_at(figure, look, made.shape, grid, margin=margin, top=top) if grid else figure.add_subplot()
    mosaic.draw(axes, made, white)
    axes.set_yticks(mosaic.centres(len(chosen), height, between), [f"z{i}" for i in chosen])
    axes.set_xticks([])
    for place, (low, high) in zip(mosaic.centres(len(chosen), height, between), ends, strict=True):
        axes.text(
            made.shape[1] + 0.1,
            place,
            f"{style.number(low, 2)} to {style.number(high, 2)}",
            va="center_baseline",
            ha="left",
            fontsize=look.small,
        )
    made_lines = (len(chosen) * (height + between) - between) * grid.scale / 2 if grid else 0
    below = 2 + (math.ceil(made_lines) - made_lines) * 2 * style.CELL if grid else None
    axes.set_xlabel(_said(len(chosen), z.shape[1], look), loc="left", fontsize=look.small, labelpad=below)
    mosaic.trim(figure, look)
    return figure


def columns(z: Array, decode: Callable[[Array], Array], names: Sequence[str], look: style.Look) -> Figure:
    """Draw how the columns that `decode` makes, (N, E) in standard deviations from their means, follow latent values.

    A panel for each value of latent rows `z` (N, K), at most four, those of the largest variance; a line for each
    column, at most 20, those that change most.
    """
    chosen = largest(z, MAX_PANELS)
    steps = 33 if look.window is None else max(3, (look.window[0] - 24) // len(chosen) - 3)
    codes, ends = sweep(z, chosen, steps)
    made = decode(codes.reshape(-1, z.shape[1])).reshape(len(chosen), steps, -1)  # (panels, steps, E)
    most = MAX_COLUMNS if look.window is None else max(1, min(MAX_COLUMNS, look.window[1] - 6))
    swing = (made.max(axis=1) - made.min(axis=1)).max(axis=0)  # (E,)
    kept = np.sort(np.argsort(-swing, kind="stable")[:most])
    figure = style.figure(look, height=0.9 + 0.2 * len(kept))
    grid = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    bound = max(float(np.abs(made[:, :, kept]).max()), 1e-6)
    look_up = ScalarMappable(Normalize(-bound, bound), look.diverging())
    limit = int(0.35 * style.width_of(look) / (look.small * style.CHARACTER))
    for axes, panel, value, (low, high) in zip(grid, made, chosen, ends, strict=True):
        axes.imshow(
            panel[:, kept].T,
            cmap=look_up.cmap,
            norm=look_up.norm,
            aspect="auto",
            interpolation="nearest",
            extent=(0, 1, len(kept), 0),
        )
        axes.set_title(f"z{value}", fontsize=look.small)
        axes.set_xticks([0, 1], [style.number(low, 2), style.number(high, 2)])
        for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
            label.set_horizontalalignment(side)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    grid[0].set_yticks(np.arange(len(kept)) + 0.5, [style.shorten(names[i], limit, look) for i in kept])
    bar = figure.colorbar(look_up, ax=list(grid), aspect=25, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.set_title("std", loc="left", fontsize=look.small)
    left_out = f"; {len(kept)} of {made.shape[2]} columns" if len(kept) < made.shape[2] else ""
    figure.supxlabel(_said(len(chosen), z.shape[1], look) + left_out, fontsize=look.small)
    return figure


def largest(z: Array, most: int) -> Array:
    """Choose the values of latent rows `z` (N, K) of the largest variance, at most so many, in their order."""
    return np.sort(np.argsort(-z.var(axis=0), kind="stable")[:most])


def sweep(z: Array, chosen: Array, steps: int) -> tuple[Array, list[tuple[float, float]]]:
    """Return latent rows (C, steps, K) that go through the range of each chosen value, and the ranges' ends."""
    codes = np.tile(np.median(z, axis=0), (len(chosen), steps, 1)).astype(np.float32)
    ends = []
    for row, value in enumerate(chosen):
        low, high = np.quantile(z[:, value], EDGES)
        codes[row, :, value] = np.linspace(low, high, steps)
        ends.append((float(low), float(high)))
    return codes, ends


def _said(shown: int, values: int, look: style.Look) -> str:
    which = f"{shown} of {values} values, of largest variance, each" if shown < values else "each value"
    text = f"{which} {RANGE}, the others at their medians"
    return style.wrapped(text, int(style.width_of(look) / (look.small * style.CHARACTER)) - 4)
