"""Classes as islands of points: whether they are islands, and where to write each name.

Shape letters: N rows, C classes, L lines of W cells over the axes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.patheffects import Stroke
from matplotlib.text import Text

from aecli.data.labels import MOST_NUMBERS
from aecli.figures import style

Array = np.ndarray[Any, Any]
CELLS = 96  # along the longer side
WIDTH = 3.5  # of the density's kernel, in cells
APART = 0.5  # the least mean share of neighbours of a row's own class, from 0 for mixed rows to 1
CROWD = 30  # this many rows in one place count as dense, however few there are in all
DENSE = 0.6  # of an island's largest density: its name is written only where it is at least as dense
LAND = 0.9  # of a class's rows: land is the densest cells that hold this share
BRIDGE = 1  # cells around land that join it to other land
LARGE, ENOUGH = 0.25, 8  # share of a class's rows, and number of rows: a larger island has its own name
HIDDEN = 0.6  # the most of the islands' points that a name may cover
MOST = MOST_NUMBERS  # the most names that are written
SIZES = (12.0, 10.5, 9.0, 7.5)  # points, on axes of 300 points; the first size with room for all names is used
SCALES = (0.7, 1.8)  # the range of factors for other axes
# Offsets from a place of an island to the centre of its name, in half boxes: over it, aside, and beside it.
OVER = (((0.0, 0.0), (0.0, 0.9), (0.0, -0.9)), tuple((x, y) for x in (-0.9, 0.9) for y in (0.0, 0.9, -0.9)))
BESIDE = ((0.0, 1.02), (0.0, -1.02), (1.02, 0.0), (-1.02, 0.0))
LONGEST = 28  # characters of a name
HALO = 2.2  # points, on each side
GAP = 2.0  # points between two names, and between a name and the edge


def density(places: Array, of: Array, classes: int, aspect: float) -> Array:
    """Return the density of each class in each cell, (C, L, W), in rows; the first line of cells is the lowest.

    Rows are at `places` (N, 2), from 0 to 1 over the axes, and have the classes `of` (N,). `aspect` is the axes' height
    over their width. Source: Gaussian kernels over counts on a grid, after Silverman 1982, AS 176.
    """
    lines, columns = max(1, round(CELLS * min(1, aspect))), max(1, round(CELLS * min(1, 1 / aspect)))
    cell = cells(places, lines, columns)
    counts = np.bincount(of * lines * columns + cell, minlength=classes * lines * columns).astype(np.float64)
    dense: Array = _kernel(lines) @ counts.reshape(classes, lines, columns) @ _kernel(columns)
    return dense


def cells(places: Array, lines: int, columns: int) -> Array:
    """Return the cell (N,) of each place, counted along lines from the lowest."""
    found = (places * [columns, lines]).astype(int).clip(0, [columns - 1, lines - 1])
    cell: Array = found[:, 1] * columns + found[:, 0]
    return cell


def _kernel(count: int) -> Array:
    away = np.subtract.outer(np.arange(count), np.arange(count)) / WIDTH
    kernel: Array = np.exp(-(away**2) / 2) / (WIDTH * np.sqrt(2 * np.pi))
    return kernel


def are_apart(dense: Array, places: Array, of: Array) -> bool:
    """Return whether the classes are separate: whether most rows (N,) have mostly rows of their own class around them.

    The mean share of the own class is compared with its value if all rows were mixed.
    """
    lines, columns = dense.shape[1:]
    cell, alone = cells(places, lines, columns), _kernel(1)[0, 0] ** 2
    own = dense.reshape(len(dense), -1)[of, cell] - alone
    every = dense.sum(axis=0).ravel()[cell] - alone
    near = every > alone / 10  # rows that have others around
    mixed = float(((np.bincount(of) / len(of)) ** 2).sum())
    return bool(near.any() and (own[near] / every[near]).mean() >= APART + (1 - APART) * mixed - 1e-6)


def shares(places: Array, aspect: float) -> Array:
    """Return the density at each row (N,) of `places` (N, 2), from 0 for a single row to 1 for the densest."""
    dense = density(places, np.zeros(len(places), int), 1, aspect)[0]
    around = dense.ravel()[cells(places, *dense.shape)] / _kernel(1)[0, 0] ** 2
    shares: Array = np.log(around) / np.log(max(float(around.max()), CROWD))
    return shares.clip(0, 1)


class Name(Text):
    """A text with a halo in the background colour. In an SVG it stays text, unlike outlined text."""

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


@dataclass(frozen=True, eq=False)
class Island:
    """A place with many rows of a class: their density and their number in each cell, (L, W).

    `first` is True for the largest island of its class.
    """

    of: int
    dense: Array
    counts: Array
    first: bool


def islands(dense: Array, places: Array, of: Array) -> list[Island]:
    """Return each class's islands with at least a quarter of its rows; the whole class if it has no such island.

    Rows are at `places` (N, 2), and have the classes `of` (N,). Land is the smallest region with nine tenths of a
    class. Source: Hyndman 1996, Computing and Graphing Highest Density Regions.
    """
    lines, columns = dense.shape[1:]
    cell, found = cells(places, lines, columns), []
    for i, mine in enumerate(dense):
        rows = cell[of == i]
        least = np.quantile(mine.ravel()[rows], 1 - LAND)
        part = _connected(mine >= least)
        part_of_row = part.ravel()[rows]
        sizes = np.bincount(part_of_row)
        sizes[0] = 0  # rows in no part
        large = np.flatnonzero(sizes >= max(LARGE * len(rows), ENOUGH))
        large = large[np.argsort(-sizes[large], kind="stable")]
        regions = [(part == number, rows[part_of_row == number]) for number in large] or [(part >= 0, rows)]
        for region, inside in regions:
            counts = np.bincount(inside, minlength=lines * columns).reshape(lines, columns)
            found.append(Island(i, np.where(region, mine, 0), counts, first=region is regions[0][0]))
    return found


def _connected(land: Array) -> Array:
    """Return the part of each cell (L, W) of land and around it, numbered from 1; 0 for no part."""
    reach = [(np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= BRIDGE).astype(np.float32) for n in land.shape]
    near = reach[0] @ land @ reach[1] > 0
    number, grown = np.zeros(land.shape, int), np.where(near, np.arange(1, land.size + 1).reshape(land.shape), 0)
    while (number != grown).any():
        number, padded = grown, np.pad(grown, 1)
        around = [padded[y : y + len(land), x : x + land.shape[1]] for y in range(3) for x in range(3)]
        grown = np.where(near, np.max(around, axis=0), 0)
    different, part = np.unique(number, return_inverse=True)
    found: Array = part.reshape(land.shape) + (different[0] > 0)
    return found


def write(
    figure: Figure, axes: Axes, names: list[str], colours: list[str], found: list[Island], look: style.Look
) -> bool:
    """Write each of C names at the islands of its class, where each is densest and least mixed with others.

    Call it after the figure's layout is fixed. Names are within the axes and do not overlap: a name that would overlap
    another moves to the next best place of its island. A name that would hide most points of islands is written beside
    its own. If there is no room for the name of an island that is not the first of its class, it has none.
    Returns False, with nothing written, if some class has no name at any size.
    """
    shown = [style.shorten(name, LONGEST, look) for name in names]
    box = axes.get_window_extent()
    times = float(np.clip(min(box.width, box.height) * 72 / figure.dpi / 300, *SCALES))
    for size in [times * size for size in SIZES]:
        sizes = [_size(figure, Name(name, colour, size, look)) for name, colour in zip(shown, colours, strict=True)]
        places = _places(sizes, found, axes)
        if places is not None:
            for island, place in zip(found, places, strict=True):
                if place is not None:
                    text = Name(shown[island.of], colours[island.of], size, look)
                    text.set(position=(float(place[0]), float(place[1])), transform=axes.transAxes, zorder=5)
                    axes.add_artist(text)
            return True
    return False


def _size(figure: Figure, text: Text) -> Array:
    """Return a text's width and height in dots, with the gap around it."""
    text.set_figure(figure)
    with style.checked(figure):
        box = text.get_window_extent()
    return np.array([box.width, box.height]) + 2 * GAP * figure.dpi / 72


def _places(sizes: list[Array], found: list[Island], axes: Axes) -> list[Array | None] | None:
    """Return the centres of the islands' names, from 0 to 1 over the axes; None if a class has no place for its name.

    `sizes` are the sizes of the classes' names in dots. Names with the fewest possible cells are placed first.
    """
    box = axes.get_window_extent()
    whole = np.array([box.width, box.height])
    lines, columns = found[0].dense.shape
    every = np.maximum(np.sum([island.dense for island in found], axis=0), 1e-12)
    shares = _sums(np.sum([island.counts / island.counts.sum() for island in found], axis=0))
    allowed = [island.dense >= DENSE * island.dense.max() for island in found]
    centres: list[Array | None] = [None] * len(found)
    taken = np.zeros((0, 4))  # centre and half of width and height of each name, in dots
    for i in sorted(range(len(found)), key=lambda i: (not found[i].first, allowed[i].sum())):
        island, half = found[i], sizes[found[i].of] / 2
        score = (island.dense * np.sqrt(island.dense / every)).ravel()
        cell = np.flatnonzero(allowed[i])
        cell = cell[np.argsort(-score[cell], kind="stable")]
        middles = (np.column_stack([cell % columns, cell // columns]) + 0.5) / [columns, lines] * whole
        asides = [(middles[:, None] + np.array(aside) * half).reshape(-1, 2) for aside in (*OVER, BESIDE)]
        at: Array = np.concatenate(asides).clip(half, whole - half)
        apart = np.abs(at[:, None] - taken[:, :2]) >= half + taken[:, 2:]  # (places, names, 2)
        fits = bool(np.all(2 * half <= whole))
        free = np.flatnonzero(np.all(np.any(apart, axis=2), axis=1) & fits)
        if not len(free):
            if island.first:
                return None
            continue
        hidden = _within(shares, (at[free] - half) / whole, (at[free] + half) / whole)
        few = (hidden <= HIDDEN) & (free < len(at) - len(asides[-1]))
        place = at[free[few.argmax() if few.any() else np.round(hidden, 1).argmin()]]
        taken = np.vstack([taken, [*place, *half]])
        centres[i] = place / whole
    return centres


def _sums(values: Array) -> Array:
    """Return the sums (L + 1, W + 1) of all cells (L, W) below and left of each corner."""
    return np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)


def _within(sums: Array, low: Array, high: Array) -> Array:
    """Return the sums (M,) of the cells that boxes from `low` to `high` (M, 2) touch, in units from 0 to 1."""
    most = np.array(sums.shape)[::-1] - 1
    left, bottom = np.floor(low * most + 1e-9).astype(int).clip(0, most).T
    right, top = np.ceil(high * most - 1e-9).astype(int).clip(0, most).T
    inside: Array = sums[top, right] - sums[bottom, right] - sums[top, left] + sums[bottom, left]
    return inside
