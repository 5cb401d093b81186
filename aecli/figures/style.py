"""What all figures share: the look, the palettes, quiet axes, legends, and text that fits."""

import contextlib
import math
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from aecli.errors import AecliError

# Ten colours that stay apart under colour-vision deficiency. Source: Petroff 2021, arXiv:2107.02270.
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
MARKERS = ("o", "^")  # the second round of the palette has the second marker
WIDTH = 4.8  # inches: scaled to a paper's column of 3.4, its text of 10 points has 7
FONT = 10.0
SMALL = 9.0
CHARACTER = 0.62  # the mean width of a character, in its font's size
LINE = 1.48  # the height of a legend's line, in its font's size
CELL = 8  # dots per column of a terminal; a line has twice as many
MONO = CELL / 0.60205  # the font size at which a character of DejaVu Sans Mono is as wide
LARGEST = 60.0  # inches, either way
LEAST = 0.2  # of a figure, either way: the least room for the axes
BULLET = "●"  # begins an entry of a legend in a terminal
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


class Theme(NamedTuple):
    """Colours of the background, text, quiet text, rows without a class, and the palette's second round."""

    ground: str
    ink: str
    quiet: str
    faint: str
    second: str


THEMES = {
    "light": Theme("#ffffff", "#222222", "#6b6b6b", "#cfcfcf", "#000000"),
    "dark": Theme("#14171c", "#e8e8e8", "#9c9c9c", "#4d5157", "#ffffff"),
}


@dataclass(frozen=True)
class Look:
    """The look of a figure: a theme, a size in inches, a title; or a terminal `window` of columns and lines."""

    theme: str = "light"
    size: tuple[float, float] | None = None
    title: str | None = None
    window: tuple[int, int] | None = None

    @property
    def colours(self) -> Theme:
        """The theme's colours."""
        return THEMES[self.theme]

    @property
    def small(self) -> float:
        """The size of a note's text, in points. A terminal has one size."""
        return MONO if self.window else SMALL

    def colour(self, number: int) -> str:
        """Return the colour of class `number`: ten, then these again, darker or lighter as the theme needs."""
        colour = PALETTE[number % len(PALETTE)]
        strength = (0.25 if self.theme == "dark" else 0.0) + (0.38 if number >= len(PALETTE) else 0.0)
        return _mixed(colour, self.colours.second, strength)

    def inky(self, colour: str) -> str:
        """Return a class's colour for text: darker on a light background, lighter on a dark one."""
        return _mixed(colour, self.colours.second, 0.55)

    def graded(self, share: float) -> str:
        """Return the colour for a share of a range, 0 to 1; not the palest, which is hard to see on paper."""
        return to_hex(colormaps["viridis"](0.95 * share))

    def heat(self, shares: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the colours (..., 4) in [0, 1] for shares (...) of a range, as `graded` does."""
        found: np.ndarray[Any, Any] = colormaps["viridis"](0.95 * shares)
        return found

    def crowding(self) -> LinearSegmentedColormap:
        """Return a colour map from single rows to dense rows: pale blue to deep blue."""
        pale = _mixed(PALETTE[0], self.colours.ground, 0.5)
        return LinearSegmentedColormap.from_list("crowding", [pale, PALETTE[0], self.inky(PALETTE[0])])

    def diverging(self) -> LinearSegmentedColormap:
        """Return a colour map from blue through the background colour to orange."""
        return LinearSegmentedColormap.from_list("diverging", ["#3f90da", self.colours.ground, "#f08a00"])


def figure(look: Look, height: float) -> Figure:
    """Return an empty figure. `height` is its default height in inches, for a width of 4.8."""
    theme = look.colours
    terminal = look.window is not None
    size = MONO if terminal else FONT
    settings: Any = (
        {
            "font.family": "DejaVu Sans Mono" if terminal else "DejaVu Sans",
            "font.size": size,
            "axes.labelsize": size,
            "axes.titlesize": size,
            "xtick.labelsize": look.small,
            "ytick.labelsize": look.small,
            "legend.fontsize": look.small,
            "figure.titlesize": size,
            "axes.edgecolor": theme.quiet,
            "axes.facecolor": "none",
            "axes.labelcolor": theme.ink,
            "axes.linewidth": CELL if terminal else 0.8,
            "axes.labelpad": 2.0 if terminal else 4.0,
            "axes.titlepad": 2.0 if terminal else 6.0,
            "lines.linewidth": 0.8 * CELL if terminal else 1.5,
            "text.color": theme.ink,
            "text.parse_math": False,  # a label that holds $ is not a formula
            "svg.fonttype": "none",  # text stays text
            "pdf.fonttype": 42,
            "svg.hashsalt": "aecli",
        }
        | {f"{axis}tick.color": theme.quiet for axis in "xy"}
        | {f"{axis}tick.labelcolor": theme.ink for axis in "xy"}
        | {f"{axis}tick.major.size": 0.0 if terminal else 3.0 for axis in "xy"}
        | {f"{axis}tick.major.pad": 2.0 if axis == "x" and terminal else CELL if terminal else 3.0 for axis in "xy"}
    )
    mpl.rcParams.update(settings)
    if look.window is not None:
        columns, lines = look.window
        layout = ConstrainedLayoutEngine(w_pad=CELL / 144, h_pad=0.01, wspace=0, hspace=0)
        made = Figure((columns * CELL / 72, lines * 2 * CELL / 72), dpi=72, layout=layout, facecolor="none")
    else:
        made = Figure(look.size or (WIDTH, height), layout="constrained", facecolor=theme.ground)
    if look.title:
        made.text(0.01, 0.995, "\n".join(title_lines(look)), va="top", fontsize=size)
        leave_room(made, look)
    return made


def title_lines(look: Look) -> list[str]:
    """Return the title's lines."""
    per_line = int(width_of(look) / ((MONO if look.window else FONT) * CHARACTER))
    return wrapped(look.title or "", per_line).splitlines()


def leave_room(made: Figure, look: Look) -> None:
    """Keep everything else below the title, for the figure's current height.

    Raises AecliError if that leaves too little room.
    """
    engine = made.get_layout_engine()
    if look.title and isinstance(engine, ConstrainedLayoutEngine):
        if (share := _title_share(made, look)) > 1 - LEAST:
            raise _too_small(made, look)
        engine.set(rect=(0, 0, 1, 1 - share))


def _title_share(made: Figure, look: Look) -> float:
    return len(title_lines(look)) * (2 * CELL if look.window else 1.35 * FONT) / (made.get_figheight() * 72)


def width_of(look: Look) -> float:
    """Return a figure's width in points, which are dots in a terminal."""
    return look.window[0] * CELL if look.window else (look.size or (WIDTH, 0))[0] * 72


def quiet(axes: Axes, look: Look) -> Axes:
    """Return axes without the frame's top and right; in a terminal, where lines are a dot wide, without a frame."""
    axes.spines[["top", "right"]].set_visible(False)
    if look.window:
        axes.spines[:].set_visible(False)
    return axes


def name_axes(axes: Axes, x: str, y: str, look: Look) -> None:
    """Name the axes. A terminal cannot turn text, so there the name of the vertical axis is above it."""
    axes.set_xlabel(x)
    if look.window:
        axes.set_title(y, loc="left", fontsize=MONO)
    else:
        axes.set_ylabel(y)


def log_axis(axes: Axes, which: str, low: float, high: float, room: float = math.inf) -> None:
    """Make an axis ("x" or "y") logarithmic from `low` to `high`, with 3 to 7 ticks, as plain numbers if possible.

    If the axis has `room` for a limited number of characters, there are only as many ticks as fit side by side.
    """
    ticks: list[float] = []
    for locator in (LogLocator(numticks=7), LogLocator(subs=(1, 3), numticks=7), LogLocator(subs=(1, 2, 5))):
        ticks = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
        if len(ticks) >= 3:
            break
    else:
        ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    shown: list[float] = []
    for tick in ticks:
        share = math.log(tick / shown[-1]) / math.log(high / low) if shown else 1
        if share * room > len(number(tick)) + 1:
            shown.append(tick)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis.set_major_locator(FixedLocator(shown))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


class Entry(NamedTuple):
    """An entry of a legend: a name, a colour, and the Line2D arguments for its symbol."""

    name: str
    colour: str
    line: dict[str, Any]


def legend(made: Figure, entries: Sequence[Entry], look: Look, *, above: bool = False) -> None:
    """Put a legend beside or above the axes, in as many columns as it needs; long names lose their middle."""
    size, width, height = look.small, width_of(look), made.get_figheight() * 72
    longest = max(width_in_characters(entry.name) for entry in entries)
    if above:
        fitting = int((width / (size * CHARACTER) - 2) // (longest + 5.5))
        columns = max(1, min(fitting, len(entries)))
        limit = int(width / (size * CHARACTER)) - 8
    else:
        height *= 1 - (_title_share(made, look) if look.title else 0)
        lines = max(1, int((height - size) / (size * LINE)))
        columns = math.ceil(len(entries) / lines)
        limit = max(4, int(0.4 * width / columns / (size * CHARACTER)) - 3)
    names = [shorten(entry.name, limit, look) for entry in entries]
    words: dict[str, Any] = {"labelspacing": 0.35, "columnspacing": 1.2, "borderpad": 0}
    words |= {"handletextpad": 0.4, "handlelength": 2.0} if above else {"handletextpad": 0.3, "handlelength": 1.0}
    handles = [Line2D([], [], **({"linestyle": "", "color": e.colour} | e.line)) for e in entries]
    if look.window:
        named = zip(names, entries, strict=True)
        names = [name if entry.colour == look.colours.ink else f"{BULLET} {name}" for name, entry in named]
        handles = [Line2D([], [], linestyle="") for _ in entries]
        words = {"handletextpad": 0, "handlelength": 0, "labelspacing": 0.15, "columnspacing": 1.0, "borderpad": 0}
        words["labelcolor"] = [entry.colour for entry in entries]
    share = _title_share(made, look) if look.title else 0.0
    words |= {"loc": "upper left" if above else "upper right", "bbox_to_anchor": (0, 0, 1, 1 - share)}
    drawn = made.legend(handles, names, frameon=False, ncols=columns, borderaxespad=0.2, **words)
    with checked(made, look):
        box = drawn.get_window_extent()
    pad = CELL / 2 if look.window else 6 * made.dpi / 72
    right = 1.0 if above else 1 - (box.width + pad) / made.bbox.width
    top = 1 - share - ((box.height + (0 if look.window else pad)) / made.bbox.height if above else 0)
    engine = made.get_layout_engine()
    if min(right, top) < LEAST:
        raise _too_small(made, look)
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, 0, right, top))


def settle(made: Figure, look: Look) -> None:
    """Fix the layout. In a terminal, axes begin and end at whole columns and lines."""
    engine = made.get_layout_engine()
    if not isinstance(engine, ConstrainedLayoutEngine):
        return
    with checked(made, look):
        engine.execute(made)
    made.set_layout_engine("none")
    if look.window is None:
        return
    width, height = made.bbox.width, made.bbox.height
    for axes in made.axes:
        axes.apply_aspect()
        box = axes.get_position()
        left, right = (round(edge * width / CELL) * CELL / width for edge in (box.x0, box.x1))
        low, high = (round(edge * height / CELL / 2) * CELL * 2 / height for edge in (box.y0, box.y1))
        axes.set_position((left, low, max(right - left, CELL / width), max(high - low, 2 * CELL / height)))


@contextlib.contextmanager
def checked(made: Figure, look: Look | None = None) -> Iterator[set[str]]:
    """Yield a set that collects the characters that the font lacks while text is measured or drawn.

    Raises AecliError if a figure is too small for its text.
    """
    lacking: set[str] = set()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield lacking
    for warning in found:
        text = str(warning.message)
        if "axes sizes collapsed" in text:
            raise _too_small(made, look)
        if missing := re.match(r"Glyph (\d+)", text):
            lacking.add(chr(int(missing[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _too_small(made: Figure, look: Look | None) -> AecliError:
    """Return the error for a figure without room for its text, with a way to give it more."""
    if look is not None and look.window:
        way = "make the window larger, or draw to a file instead of --show: -o picture.png"
    else:
        width, height = (min(LARGEST, 1.5 * inches) for inches in made.get_size_inches())
        way = f"give it more room: --size {max(WIDTH, width):.3g}x{max(3.5, height):.3g}"
    return AecliError("the picture is too small for its text", hint=way)


def number(value: float, digits: int = 3) -> str:
    """Return a number as text with `digits` significant digits: 0.0019, −12, 3e−5."""
    text = re.sub(r"e([+-])0*", lambda found: f"e{found[1].strip('+')}", f"{value:.{digits}g}")
    return text.replace("-", "−")


def width_in_characters(text: str) -> int:
    """Return the width of a text in characters; ideographs and similar characters count as two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def shorten(text: object, limit: int, look: Look) -> str:
    """Return a text on one line of at most `limit` characters; a longer text loses its middle.

    In a terminal, a character that takes two columns is followed by a non-breaking space, which is removed later.
    """
    plain = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(text))
    if width_in_characters(plain) > limit:
        head, tail = plain[: (limit + 1) // 2], plain[len(plain) - (limit - 1) // 2 + 1 :]
        while width_in_characters(head) + width_in_characters(tail) >= limit and (head or tail):
            head, tail = (head[:-1], tail) if len(head) > len(tail) else (head, tail[1:])
        plain = f"{head}…{tail}"
    if look.window:
        plain = "".join(c + "\xa0" * (width_in_characters(c) - 1) for c in plain)
    return plain


def wrapped(text: str, per_line: int) -> str:
    """Return a text broken between words into lines of at most `per_line` characters."""
    import textwrap

    lines = [line for part in text.splitlines() for line in textwrap.wrap(CONTROL.sub(" ", part), max(8, per_line))]
    return "\n".join(lines)


def _mixed(colour: str, other: str, share: float) -> str:
    red, green, blue = (round(255 * (a + (b - a) * share)) for a, b in zip(to_rgb(colour), to_rgb(other), strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"
