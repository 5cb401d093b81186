"""What all figures share: a palette, and quiet axes."""

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
INK = "#222222"
QUIET = "#767676"
WIDTH = 6.4  # inches: a text column and a half

SETTINGS: Any = {
    "font.size": 10,
    "svg.hashsalt": "aecli",
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def figure(height: float, width: float = WIDTH) -> Figure:
    """Make an empty figure, sizes in inches."""
    mpl.rcParams.update(SETTINGS)
    return Figure(figsize=(width, height), layout="constrained")


def quiet(axes: Axes) -> Axes:
    """Take away the frame's upper and right side."""
    axes.spines[["top", "right"]].set_visible(False)
    return axes
