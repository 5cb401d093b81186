"""Images decoded from draws of the mixture that was fitted to the training codes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aecli.figures import mosaic, style

Array = np.ndarray[Any, Any]
NARROW = 0.55  # the mean width of the words below, in their font's size
ON_PAPER = (8, 12)  # images down and across


def samples(
    drawn: Callable[[int], Array], gaussians: int, shape: tuple[int, ...], white: tuple[float, float], look: style.Look
) -> Figure:
    """Draw the images of `shape` (H, W, ...) that `drawn` returns, (N, D), for as many draws as fit.

    The draws are from a mixture of `gaussians` Gaussians, or from N(0, I) if it is 0; a note below says so.
    """
    height, width = shape[:2]
    fitted = "a Gaussian" if gaussians == 1 else f"a mixture of {gaussians} Gaussians"
    what = f"{fitted} fitted to the training codes" if gaussians else "N(0, I), which training kept the codes near"
    per_line = int(style.width_of(look) / (style.CELL if look.window else look.small * NARROW))
    below = style.wrapped(f"draws from {what}", per_line)
    if look.window:
        notes = 1 + below.count("\n")
        grid = mosaic.fit(shape, 64, look, margin=0, lines=None, notes=notes, legible=mosaic.LEGIBLE - 3)
        down, across = grid.lines, grid.columns
    else:
        grid, (down, across) = None, ON_PAPER
    images = drawn(down * across).reshape(down, across, *shape)
    figure = style.figure(look, height=style.WIDTH * (down * height) / (across * width) + 0.3)
    title = len(style.title_lines(look))
    axes = mosaic.axes_at(figure, look, images.shape, grid, margin=0, top=title) if grid else figure.add_subplot()
    mosaic.draw(axes, images, white)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(below, fontsize=look.small)
    mosaic.trim(figure, look)
    return figure
