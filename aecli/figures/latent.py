"""The latent rows as a scatter: classes as islands with their names, coloured numbers, or the density of the rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.dates import AutoDateFormatter, AutoDateLocator
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator, MaxNLocator

from aecli.data.labels import dates
from aecli.figures import islands, style
from aecli.figures.labels import Classes, classes, numbers
from aecli.figures.principal import principal

Array = np.ndarray[Any, Any]
MAX_POINTS = 50_000  # above it, points cover each other, so their density is drawn
MAX_VECTOR_POINTS = 5000  # above it, an SVG or a PDF holds them as one image
AT_RANDOM = "(at random)"
DOT = 1.0  # points: the size of a density's dot
MARGIN = 0.03  # of the points' range, on each side
LONGER = 4.0  # times: if the range of one latent value is so much larger, each has its own scale
HEIGHT = (2.9, 4.8)  # inches, the least and the most for a width of 4.8
COVER = 0.11  # the share of the axes that all points would cover without overlap
POINT = (2.2, 16.0)  # the smallest and the largest point, in square points
OPAQUE = (0.5, 0.85)  # the opacity of points, for 50,000 points and for 100


def latent(z: Array, labels: Array | None, look: style.Look, *, name: str = "label") -> Figure:
    """Scatter latent rows `z` (N, K), by PCA if K > 2, coloured by `labels` (N,), whose column is called `name`.

    Up to 64 classes that are separate have their names at their islands. Other classes, up to 20, and those in a
    terminal have a legend. More numbers have a colour bar; without labels, the colour shows how dense the rows are.
    Rows without a class, and rows of unnamed classes, are beneath all others. Above 50,000 rows, and in a terminal,
    each dot has the mixed colour of the rows on it, stronger for more rows. Both axes have the same scale, unless the
    range of one value is more than four times the other.
    """
    points, names = project(z)
    equal = z.shape[1] > 2 or (z.shape[1] == 2 and _alike(points))
    if (found := None if look.window else classes(labels, islands.MOST)) is not None:
        entries = [entry for entry, quiet in zip(found.entries(look), found.are_quiet, strict=True) if quiet]
        figure, axes = _axes(points, names, entries, look, equal=equal)
        _settle(figure, axes, look)
        if _write(figure, axes, points, found, look):
            _draw(figure, axes, points, _colours(found, None, axes, points, look), _beneath(found, None, points), look)
            return figure
    found, values = classes(labels), numbers(labels)
    figure, axes = _axes(points, names, found.entries(look) if found else [], look, equal=equal)
    if found is None and values is not None:
        _colour_bar(figure, axes, values, name, look, dated=dates(labels) is not None)
    _settle(figure, axes, look)
    colours, beneath = _colours(found, values, axes, points, look), _beneath(found, values, points)
    rounds = None if found is None else found.of // len(style.PALETTE)
    _draw(figure, axes, points, colours, beneath, look, rounds)
    return figure


def project(z: Array) -> tuple[Array, tuple[str, str]]:
    """Return two coordinates (N, 2) of latent rows (N, K), and the names of the axes.

    One latent value is drawn at random heights; more than two are projected on their first principal components.
    """
    if z.shape[1] == 1:
        return np.column_stack([z, np.random.default_rng(0).uniform(size=len(z))]), ("z0", AT_RANDOM)
    if z.shape[1] == 2:
        return z, ("z0", "z1")
    found = principal(z, 2)
    names = [f"PC {i + 1} ({share:.0%} of variance)" for i, share in enumerate(found.shares)]
    return found.project(z, 2), (names[0], names[1])


def _alike(points: Array) -> bool:
    """Return whether the two values of points (N, 2) have similar ranges, so that one scale fits both."""
    across, up = np.ptp(points, axis=0)
    return bool(0 < max(across, up) <= LONGER * min(across, up))


def _axes(
    points: Array, names: tuple[str, str], entries: Sequence[style.Entry], look: style.Look, *, equal: bool
) -> tuple[Figure, Axes]:
    """Return a figure with axes that hold all points (N, 2), and a legend if there are entries."""
    across, up = np.ptp(points, axis=0) if equal else (4.0, 3.0)
    height = style.WIDTH * up / across if across > 0 else HEIGHT[0]
    least = max(HEIGHT[0], style.SMALL * (style.LINE * len(entries) + 2) / 72)
    figure = style.figure(look, height=max(least, min(height, HEIGHT[1])))
    axes = style.quiet(figure.add_subplot(), look)
    style.name_axes(axes, *names, look)
    axes.update_datalim(points)
    axes.margins(MARGIN)
    axes.autoscale_view()
    if not look.window:
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelcolor=look.colours.quiet)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_color(look.colours.quiet)
            axis.set_major_locator(MaxNLocator(4))
    if names[1] == AT_RANDOM:
        axes.set_yticks([])
    if equal:
        axes.set_aspect("equal", adjustable="datalim")
    if entries:
        style.legend(figure, entries, look)
    return figure, axes


def _write(figure: Figure, axes: Axes, points: Array, found: Classes, look: style.Look) -> bool:
    """Write the names of classes at their islands. Return False if they are not islands, or a name has no place."""
    count = len(found.names) - sum(found.are_quiet)
    named = found.of < count
    box, places = axes.get_window_extent(), _within(axes, points)[named]
    dense = islands.density(places, found.of[named], count, box.height / box.width)
    if not islands.are_apart(dense, places, found.of[named]):
        return False
    lands = islands.islands(dense, places, found.of[named])
    return islands.write(figure, axes, found.names[:count], found.colours(look)[:count], lands, look)


def _settle(figure: Figure, axes: Axes, look: style.Look) -> None:
    """Fix the layout, and the limits of the axes.

    While the layout tries shapes, limits with equal scales only grow, and so do ticks and their room. So the limits
    from the first shape are kept while the room is computed.
    """
    engine, aspect = figure.get_layout_engine(), axes.get_aspect()
    if aspect != "auto" and engine is not None:
        with style.checked(figure, look):
            engine.execute(figure)
        _fit(axes)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(list(axis.get_majorticklocs())))
        axes.set_aspect("auto")
    style.settle(figure, look)
    axes.set_aspect(aspect, adjustable="datalim")
    _fit(axes)
    axes.autoscale(enable=False)


def _fit(axes: Axes) -> None:
    axes.autoscale_view()
    axes.apply_aspect()


def _within(axes: Axes, points: Array) -> Array:
    """Return the positions of points (N, 2) on axes, from 0 to 1."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    places: Array = (points - [left, low]) / [right - left, high - low]
    return places


def _colours(found: Classes | None, values: Array | None, axes: Axes, points: Array, look: style.Look) -> Array:
    """Return each row's colour, (N, 3)."""
    if found is not None:
        return np.array([to_rgb(colour) for colour in found.colours(look)])[found.of]
    if values is not None:
        coloured = ScalarMappable(_norm(values), "viridis").to_rgba(values)[:, :3]
        return np.where(np.isfinite(values)[:, None], coloured, to_rgb(look.colours.faint))
    if look.window:
        return np.tile(to_rgb(look.colour(0)), (len(points), 1))
    box = axes.get_window_extent()
    shares = islands.shares(_within(axes, points), box.height / box.width)
    return np.asarray(look.crowding()(shares))[:, :3]


def _beneath(found: Classes | None, values: Array | None, points: Array) -> Array:
    """Return a mask (N,) of rows drawn beneath the others: those whose colour means nothing."""
    if found is not None:
        return np.array(found.are_quiet)[found.of]
    return np.zeros(len(points), bool) if values is None else ~np.isfinite(values)


def _norm(values: Array) -> Normalize:
    finite = values[np.isfinite(values)]
    return Normalize(float(finite.min()), float(finite.max()))


def _colour_bar(figure: Figure, axes: Axes, values: Array, name: str, look: style.Look, *, dated: bool) -> None:
    bar = figure.colorbar(ScalarMappable(_norm(values), "viridis"), ax=axes, aspect=30 if look.window else 25)
    bar.outline.set_visible(False)
    if dated:
        locator: Any = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
        bar.ax.yaxis.set_major_locator(locator)
        bar.ax.yaxis.set_major_formatter(AutoDateFormatter(locator))  # type: ignore[no-untyped-call]
    limit = max(8, int((0.25 if look.window else 0.45) * style.width_of(look) / (look.small * style.CHARACTER)))
    title = style.shorten(name, limit, look)
    at_end = style.width_in_characters(title) > 8  # a longer name extends to the left, over the axes
    bar.ax.set_title(title, loc="right" if at_end else "left", fontsize=look.small)


def _draw(
    figure: Figure,
    axes: Axes,
    points: Array,
    colours: Array,
    beneath: Array,
    look: style.Look,
    rounds: Array | None = None,
) -> None:
    """Draw points (N, 2) in their colours (N, 3); each of the palette's `rounds` (N,) has its own marker."""
    if len(points) > MAX_POINTS or look.window:
        _density(figure, axes, points, colours, beneath, look)
    else:
        _scatter(figure, axes, points, colours, beneath, np.zeros(len(points), int) if rounds is None else rounds)


def _scatter(figure: Figure, axes: Axes, points: Array, colours: Array, beneath: Array, rounds: Array) -> None:
    order = np.random.default_rng(0).permutation(len(points))  # so that no class covers the others
    order = order[np.argsort(~beneath[order], kind="stable")]
    box = axes.get_window_extent()
    room = box.width * box.height * (72 / figure.dpi) ** 2  # square points
    size = float(np.clip(COVER * room / len(points), *POINT))
    many = np.log(max(len(points), 100) / 100) / np.log(MAX_POINTS / 100)  # 0 for few, 1 for most
    turn = np.where(beneath, -1, rounds)
    for i in range(-1, int(turn.max()) + 1):
        mine = order[turn[order] == i]
        if not len(mine):
            continue
        axes.scatter(
            points[mine, 0],
            points[mine, 1],
            c=colours[mine],
            marker=style.MARKERS[max(i, 0)],
            s=size,
            linewidths=0,
            alpha=OPAQUE[1] + many * (OPAQUE[0] - OPAQUE[1]),
            rasterized=len(points) > MAX_VECTOR_POINTS,
        )


def _density(figure: Figure, axes: Axes, points: Array, colours: Array, beneath: Array, look: style.Look) -> None:
    places = _within(axes, points)
    box = axes.get_window_extent()
    dot = style.CELL if look.window else DOT * figure.dpi / 72  # half a cell in a terminal
    width, height = max(1, round(box.width / dot)), max(1, round(box.height / dot))
    weakest = 0.7 if look.window else 0.45
    cell = islands.cells(places, height, width)
    picture = shade(cell, colours, width * height, weakest, beneath).reshape(height, width, 4)
    extent = (*axes.get_xlim(), *axes.get_ylim())
    image = AxesImage(axes, interpolation="nearest" if look.window else "antialiased", origin="lower", extent=extent)
    image.set_data(picture)
    image.set_clip_path(axes.patch)
    axes.add_image(image)


def shade(place: Array, colours: Array, places: int, weakest: float, beneath: Array | None = None) -> Array:
    """Return the colour of each place, (places, 4), for rows that fall on `place` (N,) with `colours` (N, 3).

    The colours on one place are mixed by the squares of their counts, so that the most frequent one stands out; rows
    `beneath` (N,) are visible only where there are no others. The opacity of a place grows with the logarithm of its
    number of rows, from `weakest` for a single one.
    """
    different, which = np.unique(colours, axis=0, return_inverse=True)
    counts = np.bincount(place, minlength=places).astype(np.float64)
    pairs, together = np.unique(place * len(different) + which.ravel(), return_counts=True)
    weights = together.astype(np.float64) ** 2
    if beneath is not None:
        quiet = np.zeros(len(different), bool)
        quiet[which.ravel()[beneath]] = True
        weights[quiet[pairs % len(different)]] *= 1e-12
    total = np.bincount(pairs // len(different), weights, minlength=places)
    picture = np.zeros((places, 4))
    for channel in range(3):
        mixed = np.bincount(
            pairs // len(different), weights * different[pairs % len(different), channel], minlength=places
        )
        picture[:, channel] = mixed / np.maximum(total, 1e-12)
    full = max(float(np.quantile(counts[counts > 0], 0.99)), 2.0)
    strength = weakest + (1 - weakest) * np.minimum(np.log(np.maximum(counts, 1)) / np.log(full), 1)
    picture[:, 3] = np.where(counts > 0, strength, 0)
    return picture
