"""The latent rows as a scatter, coloured by label; where they are many, as the density of one."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.dates import AutoDateFormatter, AutoDateLocator
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from aecli.figures import style
from aecli.figures.labels import Classes, classes, dates, numbers
from aecli.figures.principal import principal

Array = np.ndarray[Any, Any]
MAX_POINTS = 50_000  # above, points lie on points: their density is drawn
MAX_VECTOR_POINTS = 5000  # above, an SVG or a PDF holds them as one image


def latent(z: Array, labels: Array | None, look: style.Look, *, name: str = "label") -> Figure:
    """Scatter latent rows `z` (N, K), projected by PCA where K > 2, coloured by `labels` (N,), which are called `name`.

    Up to 20 classes have a legend, more numbers a colour bar. Rows of no class, and of those that the legend does not
    name, lie beneath all others. Above 50,000 rows, and in a terminal, each dot has the
    colour of the rows that fall on it, the stronger the more they are.
    """
    points, names = project(z)
    found, values = classes(labels), numbers(labels)
    lines = len(found.names) if found else 0
    figure = style.figure(look, height=max(3.5, style.SMALL * (style.LINE * lines + 2) / 72))
    axes = style.quiet(figure.add_subplot(), look)
    style.name_axes(axes, *names, look)
    axes.update_datalim(points)
    axes.margins(0.03)
    axes.autoscale_view()
    if z.shape[1] == 1:
        axes.set_yticks([])
    if z.shape[1] > 2:
        axes.set_aspect("equal", adjustable="datalim")  # components share a unit, latent values do not
    if found is not None:
        style.legend(figure, found.entries(look), look)
    elif values is not None:
        _colour_bar(figure, axes, values, name, look, dated=dates(labels) is not None)
    colours = _colours(found, values, len(points), look)  # (N, 3)
    beneath = _beneath(found, values, len(points))
    if len(points) > MAX_POINTS or look.window:
        _density(figure, axes, points, colours, beneath, look)
    else:
        _scatter(axes, points, colours, beneath, found)
    return figure


def project(z: Array) -> tuple[Array, tuple[str, str]]:
    """Return two coordinates (N, 2) of latent rows (N, K), and the names of the axes.

    One latent value is set against a random height; more than two are projected on their first principal components.
    """
    if z.shape[1] == 1:
        return np.column_stack([z, np.random.default_rng(0).uniform(size=len(z))]), ("z0", "(at random)")
    if z.shape[1] == 2:
        return z, ("z0", "z1")
    found = principal(z, 2)
    names = [f"PC {i + 1} ({share:.0%} of variance)" for i, share in enumerate(found.shares)]
    return found.project(z, 2), (names[0], names[1])


def _colours(found: Classes | None, values: Array | None, rows: int, look: style.Look) -> Array:
    """Return each row's colour, (N, 3)."""
    if found is not None:
        return np.array([to_rgb(colour) for colour in found.colours(look)])[found.of]
    if values is None:
        return np.tile(to_rgb(look.colour(0)), (rows, 1))
    coloured = ScalarMappable(_norm(values), "viridis").to_rgba(values)[:, :3]
    return np.where(np.isfinite(values)[:, None], coloured, to_rgb(look.colours.faint))


def _beneath(found: Classes | None, values: Array | None, rows: int) -> Array:
    """Return which rows (N,) are drawn beneath the others: those whose colour tells nothing."""
    if found is not None:
        return np.array(found.are_quiet)[found.of]
    return np.zeros(rows, bool) if values is None else ~np.isfinite(values)


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
    at_end = style.width_in_characters(title) > 8  # a longer name goes on to the left, over the axes
    bar.ax.set_title(title, loc="right" if at_end else "left", fontsize=look.small)


def _scatter(axes: Axes, points: Array, colours: Array, beneath: Array, found: Classes | None) -> None:
    order = np.random.default_rng(0).permutation(len(points))  # so that no class is painted over the others
    order = order[np.argsort(~beneath[order], kind="stable")]
    turn = np.zeros(len(points), int) if found is None else found.of // len(style.PALETTE)
    size = float(np.clip(9000 / len(points), 1.8, 18))
    turn[beneath] = -1
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
            alpha=0.75,
            rasterized=len(points) > MAX_VECTOR_POINTS,
        )


def _density(figure: Figure, axes: Axes, points: Array, colours: Array, beneath: Array, look: style.Look) -> None:
    style.settle(figure, look)
    axes.apply_aspect()
    box = axes.get_window_extent()
    dot = style.CELL if look.window else figure.dpi / 72  # one point on paper, half a cell in a terminal
    width, height = max(1, round(box.width / dot)), max(1, round(box.height / dot))
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    columns = ((points[:, 0] - left) / (right - left) * width).astype(int).clip(0, width - 1)
    lines = ((points[:, 1] - low) / (high - low) * height).astype(int).clip(0, height - 1)
    weakest = 0.7 if look.window else 0.35
    picture = shade(lines * width + columns, colours, width * height, weakest, beneath).reshape(height, width, 4)
    image = AxesImage(axes, interpolation="nearest", origin="lower", extent=(left, right, low, high))
    image.set_data(picture)
    image.set_clip_path(axes.patch)
    axes.add_image(image)


def shade(place: Array, colours: Array, places: int, weakest: float, beneath: Array | None = None) -> Array:
    """Return the colour of each place, (places, 4), for rows that fall on `place` (N,) with `colours` (N, 3).

    The colours that fall on one place are mixed by the squares of their counts, so that the commonest stands out; those
    of rows `beneath` (N,) are seen where no others are. How opaque a place is grows with the logarithm of its rows,
    from `weakest` for a single one.
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
