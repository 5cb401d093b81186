"""What a decoder returns for codes along each of their principal directions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aecli.figures import mosaic, style
from aecli.figures.principal import Principal, principal

Array = np.ndarray[Any, Any]
MAX_DIRECTIONS = 10
MAX_PANELS = 4  # for tables
MAX_COLUMNS = 20
STEPS = 11
EDGES = (0.01, 0.99)


def images(
    z: Array,
    decode: Callable[[Array], Array],
    shape: tuple[int, ...],
    white: tuple[float, float],
    look: style.Look,
) -> Figure:
    """Draw images of `shape` (H, W, ...) that `decode` returns, (N, D): one row per principal direction of `z` (N, K).

    Each row covers the range of the latent rows in its direction, from their 1% to their 99% quantile, with the others
    at their means. The ten directions with the largest variance are shown, or as many as fit in a terminal.
    """
    height, width = shape[:2]
    between = mosaic.gap(height, width)
    found = directions(z)
    margin = max(len(found.name(i)) for i in range(min(MAX_DIRECTIONS, len(found.shares)))) + 1
    most, steps, grid = MAX_DIRECTIONS, STEPS, None
    if look.window:
        wanted = 5 * min(len(found.shares), 4)
        grid = mosaic.fit(shape, wanted, look, margin=margin + 12, lines=None, notes=2, legible=mosaic.LEGIBLE - 3)
        most, steps = min(MAX_DIRECTIONS, grid.lines), min(STEPS, grid.columns)
    count = min(most, len(found.shares))
    codes, ends = sweep(z, found, count, steps)
    made = decode(codes.reshape(-1, z.shape[1])).reshape(count, steps, *shape)
    cell = (style.width_of(look) / 72 - 1.9) / steps
    figure = style.figure(look, height=count * cell * height / width + 0.45)
    top = len(style.title_lines(look))
    axes = mosaic.axes_at(figure, look, made.shape, grid, margin=margin, top=top) if grid else figure.add_subplot()
    mosaic.draw(axes, made, white)
    axes.set_yticks(mosaic.centres(count, height, between), [found.name(i) for i in range(count)])
    axes.set_xticks([])
    for place, (low, high) in zip(mosaic.centres(count, height, between), ends, strict=True):
        axes.text(
            made.shape[1] + 0.1,
            place,
            f"{style.number(low, 2)} to {style.number(high, 2)}",
            va="center_baseline",
            ha="left",
            fontsize=look.small,
        )
    made_lines = (count * (height + between) - between) * grid.scale / 2 if grid else 0
    below = 2 + (math.ceil(made_lines) - made_lines) * 2 * style.CELL if grid else None
    axes.set_xlabel(_said(found, count, look), loc="left", fontsize=look.small, labelpad=below)
    mosaic.trim(figure, look)
    return figure


def columns(z: Array, decode: Callable[[Array], Array], names: Sequence[str], look: style.Look) -> Figure:
    """Draw how columns, which `decode` returns (N, E) in standard deviations from their means, follow the latent rows.

    There is a panel for each principal direction of `z` (N, K), at most the four with the largest variance, and a line
    for each column, at most 20, or in a terminal as many as fit: the columns that change most.
    """
    found = directions(z)
    count = min(MAX_PANELS, len(found.shares))
    steps = 33 if look.window is None else max(3, (look.window[0] - 24) // count - 3)
    codes, ends = sweep(z, found, count, steps)
    made = decode(codes.reshape(-1, z.shape[1])).reshape(count, steps, -1)  # (panels, steps, E)
    panel_room = (0.6 if look.window else 0.5) * style.width_of(look) / count / (look.small * style.CHARACTER)
    between = " " if panel_room > len(found.name(0)) else "\n"
    most = MAX_COLUMNS
    if look.window:  # a line for each column, besides the lines of the titles, the ticks and the note below
        note = _said(found, count, look, "; 20 of 1000 columns").count("\n") + 1
        most = max(1, look.window[1] - 2 - note - (between == "\n"))
    swing = (made.max(axis=1) - made.min(axis=1)).max(axis=0)  # (E,)
    kept = np.sort(np.argsort(-swing, kind="stable")[:most])
    figure = style.figure(look, height=0.9 + 0.2 * len(kept))
    grid = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    bound = max(float(np.abs(made[:, :, kept]).max()), 1e-6)
    look_up = ScalarMappable(Normalize(-bound, bound), look.diverging())
    limit = int(0.35 * style.width_of(look) / (look.small * style.CHARACTER))
    for axes, panel, place, (low, high) in zip(grid, made, range(count), ends, strict=True):
        axes.imshow(
            panel[:, kept].T,
            cmap=look_up.cmap,
            norm=look_up.norm,
            aspect="auto",
            interpolation="nearest",
            extent=(0, 1, len(kept), 0),
        )
        axes.set_title(found.name(place).replace(" (", f"{between}("), fontsize=look.small)
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
    figure.supxlabel(_said(found, count, look, left_out), fontsize=look.small)
    return figure


def directions(z: Array) -> Principal:
    """Return the principal directions along which latent rows `z` (N, K) differ; for equal rows, one direction."""
    found = principal(z, MAX_DIRECTIONS)
    count = max(1, int((found.shares > 0).sum()))
    return Principal(found.mean, found.directions[:count], found.shares[:count])


def sweep(z: Array, found: Principal, count: int, steps: int) -> tuple[Array, list[tuple[float, float]]]:
    """Return latent rows (count, steps, K) along each of the first directions, and the ends of their ranges."""
    projected = found.project(z, count)
    codes, ends = np.empty((count, steps, z.shape[1]), np.float32), []
    for place in range(count):
        low, high = np.quantile(projected[:, place], EDGES)
        codes[place] = found.mean + np.linspace(low, high, steps)[:, None] * found.directions[place]
        ends.append((float(low), float(high)))
    return codes, ends


def _said(found: Principal, shown: int, look: style.Look, more: str = "") -> str:
    values = len(found.mean)
    which = f"{shown} of {values} principal components, each" if shown < values else "each principal component"
    text = f"{which} from its 1% to its 99% quantile{', the others at their means' * (values > 1)}{more}"
    if not found.shares[0]:
        text = f"the codes of all rows are equal{more}"
    return style.wrapped(text, int(style.width_of(look) / (look.small * style.CHARACTER)) - 4)
