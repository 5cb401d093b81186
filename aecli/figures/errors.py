"""The rows' errors as a histogram, and one for each label."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aecli.figures import style
from aecli.figures.labels import Classes, groups

Array = np.ndarray[Any, Any]
QUANTILES = ((0.5, "median", "-"), (0.95, "95%", "--"), (0.99, "99%", ":"))
ROW = 0.72  # how much of a label's row its highest bar takes


def errors(mse: Array, labels: Array | None, look: style.Look, *, name: str = "label") -> Figure:
    """Draw how the rows' errors `mse` (N,) are distributed, on a log scale, with lines at three quantiles.

    With `labels` (N,), which are called `name`, each of up to 20 classes has a histogram of its own, as high as the
    others, and so has each of 8 ranges of more numbers. The worst median is on top, and a stroke, which the legend
    explains, marks each median.
    """
    found = groups(labels)
    positive = mse[mse > 0]
    smallest = float(positive.min()) if len(positive) else 1e-12
    values = np.maximum(mse, smallest)  # an error of zero stands with the smallest that is none
    low, high = (smallest / 1.1, max(float(values.max()), smallest) * 1.1)
    bins = int(np.clip(2 * (len(values) / (len(found.names) if found else 1)) ** 0.5, 8, 60))
    edges = np.geomspace(low, high, bins + 1)
    figure = style.figure(look, height=3.0 if found is None else 1.3 + 0.26 * len(found.names))
    axes = style.quiet(figure.add_subplot(), look)
    style.log_axis(axes, "x", low, high, 0.5 * style.width_of(look) / (look.small * style.CHARACTER))
    if found is None:
        counts, _ = np.histogram(values, edges)
        axes.stairs(counts, edges, fill=True, color=look.colour(0))
        style.name_axes(axes, "mean squared error of a row", "rows", look)
        axes.set_ylim(0, counts.max() * 1.05)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    else:
        _ridges(axes, values, found, edges, look)
        axes.set_xlabel("mean squared error of a row")
    entries = []
    for share, what, line in QUANTILES:
        place = float(np.quantile(values, share))
        if not look.window:
            axes.axvline(place, color=look.colours.ink, linestyle=line, linewidth=1)
        entries.append(style.Entry(f"{what} {style.number(place)}", look.colours.ink, {"linestyle": line}))
    if found is not None:
        stroke = {"marker": "|", "markersize": 8, "markeredgewidth": 2.5}
        entries.append(style.Entry(f"{'▐ ' * bool(look.window)}median of each {name}", look.colours.ink, stroke))
    style.legend(figure, entries, look, above=True)
    return figure


def _ridges(axes: Axes, values: Array, found: Classes, edges: Array, look: style.Look) -> None:
    members = [values[found.of == i] for i in range(len(found.names))]
    order = sorted(range(len(members)), key=lambda i: np.median(members[i]))
    colours = found.colours(look)
    for place, i in enumerate(order):
        counts, _ = np.histogram(members[i], edges)
        heights = counts / counts.max() * ROW
        axes.stairs(place + heights, edges, baseline=place, fill=True, color=colours[i])
        median = [np.median(members[i])] * 2
        if not look.window:
            axes.plot(median, [place, place + ROW], color=look.colours.ground, linewidth=5, solid_capstyle="butt")
        width = 0.8 * style.CELL if look.window else 2.5
        axes.plot(median, [place, place + ROW], color=look.colours.ink, linewidth=width, solid_capstyle="butt")
    limit = int(0.4 * style.width_of(look) / (look.small * style.CHARACTER))
    names = []
    for i in order:
        rows = f" ({len(members[i]):,})"
        names.append(style.shorten(found.names[i], max(3, limit - len(rows)), look) + rows)
    axes.set_yticks(np.arange(len(order)) + (0.5 if look.window else ROW / 3), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(0, len(order))
