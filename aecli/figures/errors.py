"""The distribution of the rows' scores or errors: one histogram, or one per label; and the strangest images."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aecli.figures import mosaic, style
from aecli.figures.labels import Classes, groups

if TYPE_CHECKING:
    from aecli.figures.examples import Strangest
    from aecli.scoring import Score

Array = np.ndarray[Any, Any]
QUANTILES = ((0.5, "median", "-"), (0.95, "95%", "--"), (0.99, "99%", ":"))
ROW = 0.72  # the height of the highest bar, as a share of a label's row
AXIS = 1.2  # times the threshold, or a little more: rows beyond it share the last bar
LEAST = {"paper": 0.06, "terminal": 0.15}  # of the highest bar: the least height, so that a single row is visible
SHARE = 0.42  # the most of the height that images take
TEXT = 0.75  # inches, of the text below the images
STRANGEST = 8  # images, at most


def errors(mse: Array, labels: Array | None, look: style.Look, *, name: str = "label") -> Figure:
    """Draw the distribution of the rows' errors `mse` (N,), on a log scale, with lines at three quantiles.

    With `labels` (N,), whose column is called `name`, each of up to 20 classes, or each of 8 ranges of more numbers,
    has its own histogram. All histograms have the same height. The worst median is on top. A stroke, which the legend
    explains, marks each median.
    """
    found = groups(labels)
    positive = mse[mse > 0]
    smallest = float(positive.min()) if len(positive) else 1e-12
    values = np.maximum(mse, smallest)  # an error of zero is drawn at the smallest other error
    low, high = (smallest / 1.1, max(float(values.max()), smallest) * 1.1)
    edges = np.geomspace(low, high, _bins(len(values), found) + 1)
    figure = style.figure(look, height=_height(found))
    axes = style.quiet(figure.add_subplot(), look)
    style.log_axis(axes, "x", low, high, 0.5 * style.width_of(look) / (look.small * style.CHARACTER))
    _histograms(axes, values, found, edges, "mean squared error of a row", look)
    entries = []
    for share, what, line in QUANTILES:
        place = float(np.quantile(values, share))
        entries.append(_line(axes, place, f"{what} {style.number(place)}", line, look))
    style.legend(figure, entries + _medians(found, name, look), look, above=True)
    return figure


def scores(
    values: Array,
    score: "Score",
    labels: Array | None,
    look: style.Look,
    *,
    name: str = "label",
    strangest: "Strangest | None" = None,
    white: tuple[float, float] = (0, 1),
) -> Figure:
    """Draw the distribution of the rows' scores (N,), in nats, with a line at the threshold.

    If there are rows beyond about 1.2 times the threshold, they share the last bar, whose tick says so. `labels` are
    drawn as in `errors`. The `strangest` images are drawn below, above the maps of their squared errors; `white` are
    the values drawn black and white. In a terminal there is no room for images.
    """
    found, threshold = groups(labels), score.threshold
    end = float(MaxNLocator(8).tick_values(0, max(AXIS * threshold, 1e-6))[-1])
    far = values > end
    edges = np.linspace(0, end, min(60, 2 * _bins(len(values), found)) + 1)
    if far.any():  # a gap, and the bar beyond it
        edges = np.append(edges, end * np.array([1.04, 1.1]))
        values = np.where(far, end * 1.07, values)
    images = None if look.window else strangest
    tall = 0.0 if images is None else _tall(images, look)
    figure = style.figure(look, height=_height(found) + tall)
    share = min(SHARE, tall / figure.get_figheight())
    rows = figure.add_gridspec(1 if images is None else 2, 1, height_ratios=[1 - share, share][: 1 + (share > 0)])
    axes = style.quiet(figure.add_subplot(rows[0]), look)
    axes.set_xlim(0, edges[-1])
    ticks = [tick for tick in MaxNLocator(4).tick_values(0, end) if tick <= 0.8 * end]
    last = (end * 1.07, f">{style.number(end)}") if far.any() else (end, style.number(end))
    axes.set_xticks([*ticks, last[0]], [*map(style.number, ticks), last[1]])
    _histograms(axes, values, found, edges, "score of a row (nats)", look)
    beyond = int((values >= threshold).sum())
    text = f"score at p {style.number(score.alpha, 2)}: {style.number(threshold)}; {beyond:,} of {len(values):,} rows"
    entries = [_line(axes, threshold, f"{text} beyond", "--", look)]
    style.legend(figure, entries + _medians(found, name, look), look, above=True)
    if images is not None:
        _strangest(figure.add_subplot(rows[1]), images, white, look)
    return figure


def _bins(rows: int, found: Classes | None) -> int:
    return int(np.clip(2 * (rows / (len(found.names) if found else 1)) ** 0.5, 8, 60))


def _height(found: Classes | None) -> float:
    return 3.0 if found is None else 1.3 + 0.26 * len(found.names)


def _line(axes: Axes, place: float, text: str, line: str, look: style.Look) -> style.Entry:
    """Draw a vertical line, and return its entry in the legend. A terminal has no room for the line."""
    if not look.window:
        axes.axvline(place, color=look.colours.ink, linestyle=line, linewidth=1)
    return style.Entry(text, look.colours.ink, {"linestyle": line})


def _medians(found: Classes | None, name: str, look: style.Look) -> list[style.Entry]:
    """Return the legend's entry for the strokes at medians, if there are classes."""
    stroke = {"marker": "|", "markersize": 8, "markeredgewidth": 2.5}
    text = f"{'▐ ' * bool(look.window)}median of each {name}"
    return [] if found is None else [style.Entry(text, look.colours.ink, stroke)]


def _histograms(axes: Axes, values: Array, found: Classes | None, edges: Array, what: str, look: style.Look) -> None:
    """Draw values (N,) as one histogram, or as one for each class."""
    if found is not None:
        _ridges(axes, values, found, edges, look)
        axes.set_xlabel(what)
        return
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts, edges, fill=True, color=look.colour(0))
    style.name_axes(axes, what, "rows", look)
    axes.set_ylim(0, counts.max() * 1.05)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))


def _heights(counts: Array, look: style.Look) -> Array:
    """Return the heights of bars relative to the highest; a bar with rows is high enough to be visible."""
    shares = np.maximum(counts / counts.max(), LEAST["terminal" if look.window else "paper"])
    heights: Array = np.where(counts > 0, shares, 0)
    return heights


def _ridges(axes: Axes, values: Array, found: Classes, edges: Array, look: style.Look) -> None:
    members = [values[found.of == i] for i in range(len(found.names))]
    order = sorted(range(len(members)), key=lambda i: np.median(members[i]))
    colours = found.colours(look)
    for place, i in enumerate(order):
        counts, _ = np.histogram(members[i], edges)
        heights = _heights(counts, look) * ROW
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


def _tall(images: "Strangest", look: style.Look) -> float:
    """Return the height in inches of the images and their maps, if they are as wide as the figure."""
    height, width = images.x.shape[1:3]
    between = mosaic.gap(height, width)
    return 2 * _cell(look) * (height + between) / (width + between) + TEXT


def _cell(look: style.Look) -> float:
    """Return the width of an image in inches, with the gap after it."""
    return (style.width_of(look) / 72 - 0.75) / STRANGEST


def _strangest(axes: Axes, images: "Strangest", white: tuple[float, float], look: style.Look) -> None:
    """Draw images above the maps of their squared errors, with the score and the number of each below."""
    count, height, width = images.x.shape[:3]
    between = mosaic.gap(height, width)
    x = images.x.reshape(count, height, width, -1)
    squares = np.minimum(images.squares, 1e30).reshape(x.shape).mean(axis=-1)  # (n, H, W), also for infinite errors
    brightest = float(np.quantile(squares, 0.99))
    maps = look.heat(np.clip(squares / (brightest or 1), 0, 1))
    mosaic.draw(axes, np.stack([mosaic.coloured(x, white), maps]), (0, 1))
    axes.set_anchor("NW")
    axes.set_xlim(0, STRANGEST)
    axes.set_yticks(mosaic.centres(2, height, between), ["image", "error"])
    below = [f"{style.number(score)}\n{row + 1:,}" for score, row in zip(images.score, images.row, strict=True)]
    axes.set_xticks(mosaic.centres(count, width, between), below)
    room = _cell(look) * 72 / (max(len(line) for text in below for line in text.splitlines()) + 1)
    axes.tick_params(axis="x", labelsize=min(style.SMALL, room / style.CHARACTER))
    bright = style.number(brightest, 2)
    text = f"the strangest, with score and row; squared errors from 0, dark, to {bright} or more, bright"
    per_line = int(0.9 * style.width_of(look) / (look.small * style.CHARACTER))
    axes.set_xlabel(style.wrapped(text, per_line), loc="left", fontsize=look.small)
