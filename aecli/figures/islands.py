"""Classes as islands of points: whether they are, and where the name of each is written.

Shape letters: N rows, C classes, L lines of W cells over the axes.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.patheffects import Stroke
from matplotlib.text import Text

from aecli.figures import style

Array = np.ndarray[Any, Any]
CELLS = 96  # along the longer side
WIDTH = 3.5  # of the kernel that makes a density of counts, in cells
APART = 0.5  # how far the mean row's neighbours are of its own class, from 0 where all are mixed to 1
CROWD = 30  # rows in a place that are many, however few there are in all
DENSE = 0.6  # of a class's largest density: where it is less dense, its name is not written
MOST = 64  # names that are written
SIZES = (12.0, 10.5, 9.0, 7.5)  # points, the first at which all names find room, on axes of 300 points
SCALES = (0.7, 1.8)  # how much smaller or larger they are on others
SIDES = (0.0, -0.9, 0.9)  # from a place of its class to the centre of a name, in halves of its box
LONGEST = 28  # characters of a name
HALO = 2.2  # points, all around
GAP = 2.0  # points between two names, and between a name and the edge


def density(places: Array, of: Array, classes: int, aspect: float) -> Array:
    """Return how dense each class is in each cell, (C, L, W), in rows; the first line of cells is the lowest.

    Rows lie at `places` (N, 2), from 0 to 1 over the axes, and their classes are `of` (N,). `aspect` is the axes'
    height over their width. Source: Gaussian kernels over counts on a grid, after Silverman 1982, AS 176.
    """
    lines, columns = max(1, round(CELLS * min(1, aspect))), max(1, round(CELLS * min(1, 1 / aspect)))
    cell = cells(places, lines, columns)
    counts = np.bincount(of * lines * columns + cell, minlength=classes * lines * columns).astype(np.float64)
    dense: Array = _kernel(lines) @ counts.reshape(classes, lines, columns) @ _kernel(columns)
    return dense


def cells(places: Array, lines: int, columns: int) -> Array:
    """Return the cell (N,) that each place lies in, counted along lines from the lowest."""
    found = (places * [columns, lines]).astype(int).clip(0, [columns - 1, lines - 1])
    cell: Array = found[:, 1] * columns + found[:, 0]
    return cell


def _kernel(count: int) -> Array:
    away = np.subtract.outer(np.arange(count), np.arange(count)) / WIDTH
    kernel: Array = np.exp(-(away**2) / 2) / (WIDTH * np.sqrt(2 * np.pi))
    return kernel


def are_apart(dense: Array, places: Array, of: Array) -> bool:
    """Return whether the classes lie apart: most rows (N,) have mostly rows of their own class around them.

    The mean share of the own class is compared with what it would be were all rows mixed.
    """
    lines, columns = dense.shape[1:]
    cell, alone = cells(places, lines, columns), _kernel(1)[0, 0] ** 2
    own = dense.reshape(len(dense), -1)[of, cell] - alone
    every = dense.sum(axis=0).ravel()[cell] - alone
    near = every > alone / 10  # rows that have others around
    mixed = float(((np.bincount(of) / len(of)) ** 2).sum())
    return bool(near.any() and (own[near] / every[near]).mean() >= APART + (1 - APART) * mixed - 1e-6)


def shares(places: Array, aspect: float) -> Array:
    """Return how dense the rows at `places` (N, 2) lie, each (N,), from 0 for a row alone to 1 for the densest."""
    dense = density(places, np.zeros(len(places), int), 1, aspect)[0]
    around = dense.ravel()[cells(places, *dense.shape)] / _kernel(1)[0, 0] ** 2
    shares: Array = np.log(around) / np.log(max(float(around.max()), CROWD))
    return shares.clip(0, 1)


class Name(Text):
    """A text with a halo of the ground's colour. The text itself stays text in an SVG, which outlines would not."""

    def __init__(self, text: str, colour: str, size: float, look: style.Look) -> None:
        super().__init__(0, 0, text, color=look.inky(colour), fontsize=size, fontweight="bold")
        self.set(horizontalalignment="center", verticalalignment="center", parse_math=False)
        self._halo = Stroke(linewidth=2 * HALO, foreground=look.colours.ground, alpha=0.8, joinstyle="round")

    def draw(self, renderer: RendererBase) -> None:
        """Draw the halo as an outline, and the text over it."""
        self.set_path_effects([self._halo])
        super().draw(renderer)
        self.set_path_effects([])
        super().draw(renderer)


def write(figure: Figure, axes: Axes, names: list[str], colours: list[str], dense: Array, look: style.Look) -> bool:
    """Write each of C names where its class is densest and least mixed with others. The figure is settled.

    Names lie within the axes, and none over another: a name that would goes to the next best place of its class.
    Return False, with nothing written, where that leaves some name without a place at any size.
    """
    shown = [style.shorten(name, LONGEST, look) for name in names]
    box = axes.get_window_extent()
    times = float(np.clip(min(box.width, box.height) * 72 / figure.dpi / 300, *SCALES))
    for size in [times * size for size in SIZES]:
        made = [Name(name, colour, size, look) for name, colour in zip(shown, colours, strict=True)]
        for text in made:
            text.set_figure(figure)
        places = _places([_size(figure, text) for text in made], dense, axes)
        if places is not None:
            for text, place in zip(made, places, strict=True):
                text.set_position((float(place[0]), float(place[1])))
                text.set_transform(axes.transAxes)
                text.set_zorder(5)
                axes.add_artist(text)
            return True
    return False


def _size(figure: Figure, text: Text) -> Array:
    """Return a text's width and height in dots, with the gap around it."""
    with style.checked(figure):
        box = text.get_window_extent()
    return np.array([box.width, box.height]) + 2 * GAP * figure.dpi / 72


def _places(sizes: list[Array], dense: Array, axes: Axes) -> list[Array] | None:
    """Find the centres of names of so many dots, from 0 to 1 over the axes; None where one has no place.

    Those with the fewest cells to choose from are placed first.
    """
    box = axes.get_window_extent()
    whole = np.array([box.width, box.height])
    lines, columns = dense.shape[1:]
    score = dense * np.sqrt(dense / np.maximum(dense.sum(axis=0), 1e-12))
    allowed = dense >= DENSE * dense.max(axis=(1, 2), keepdims=True)
    aside = np.array([(x, y) for x in SIDES for y in SIDES])
    centres: list[Array | None] = [None] * len(sizes)
    taken = np.zeros((0, 4))  # centre and half of width and height of each name, in dots
    for i in np.argsort(allowed.sum(axis=(1, 2)), kind="stable"):
        half = sizes[i] / 2
        if (2 * half > whole).any():
            return None
        cell = np.flatnonzero(allowed[i])
        cell = cell[np.argsort(-score[i].ravel()[cell], kind="stable")]
        at = (np.column_stack([cell % columns, cell // columns]) + 0.5) / [columns, lines] * whole
        at = (at + aside[:, None] * half).reshape(-1, 2).clip(half, whole - half)
        apart = np.abs(at[:, None] - taken[:, :2]) >= half + taken[:, 2:]  # (places, names, 2)
        free = apart.any(axis=2).all(axis=1)
        if not free.any():
            return None
        place = at[free.argmax()]
        taken = np.vstack([taken, [*place, *half]])
        centres[i] = place / whole
    return [centre for centre in centres if centre is not None]
