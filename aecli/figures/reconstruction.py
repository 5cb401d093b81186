"""Originals above their reconstructions."""

from itertools import islice
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aecli.figures import style

Array = np.ndarray[Any, Any]
MAX_COLUMNS = 24


def pick(labels: Array | None, rows: int, examples: int) -> Array:
    """Choose which rows to show: the first of each label, in the labels' order, then whatever comes first."""
    chosen: list[int] = []
    if labels is not None:
        _, firsts = np.unique(labels, return_index=True)
        chosen = firsts[:examples].tolist()
    firsts_of_labels = frozenset(chosen)
    others = (i for i in range(rows) if i not in firsts_of_labels)
    chosen += islice(others, examples - len(chosen))
    return np.array(chosen)


def images(x: Array, recon: Array, mse: Array, full_scale: float) -> Figure:
    """Draw images `x` above `recon`, both (N, H, W) or (N, H, W, C), white at `full_scale`; `mse` (N,) stands below."""
    count, height, width = x.shape[:3]
    cell = style.WIDTH / (count + 0.9)
    figure = style.figure(height=cell * 2.04 * height / width + 0.28)
    grid = figure.subplots(2, count, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for row, (kind, pictures) in enumerate((("original", x), ("rebuilt", recon))):
        for axes, picture in zip(grid[row], pictures, strict=True):
            shown = np.clip(picture.astype(np.float64) / full_scale, 0, 1)
            shown = shown[..., 0] if shown.shape[2:] == (1,) else shown
            axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        grid[row, 0].set_ylabel(kind, fontsize=min(10, cell * 15))
    for i, (axes, error) in enumerate(zip(grid[1], mse, strict=True)):
        text = f"MSE {error:.2g}" if i == 0 else f"{error:.2g}"
        axes.set_xlabel(text, fontsize=min(8, cell * 13), color=style.QUIET, labelpad=3)
    return figure


def columns(x: Array, recon: Array, names: tuple[str, ...]) -> Figure:
    """Draw how much of each column's variance is rebuilt: tables `x` and `recon` (N, D), best to worst.

    Above 24 columns the middle is left out.
    """
    variance = np.maximum(x.var(axis=0, dtype=np.float64), 1e-30)
    rebuilt = 1 - np.square(x - recon).mean(axis=0, dtype=np.float64) / variance  # (D,), 1 is perfect
    order = np.argsort(-rebuilt)
    half = MAX_COLUMNS // 2
    shown = order if len(order) <= MAX_COLUMNS else np.concatenate([order[:half], order[-half:]])
    left_out = len(order) - len(shown)
    figure = style.figure(height=0.9 + 0.22 * len(shown))
    axes = style.quiet(figure.add_subplot())
    places = -np.arange(len(shown)) - (np.arange(len(shown)) >= half) * (left_out > 0)
    axes.barh(places, np.clip(rebuilt[shown], 0, 1), color=style.PALETTE[0], height=0.72)
    for place, share in zip(places, rebuilt[shown], strict=True):
        axes.text(1.01, place, f"{share:.0%}", va="center", fontsize=9)
    if left_out:
        axes.text(0.01, -half, f"... {left_out} columns between ...", va="center", fontsize=9, color=style.QUIET)
    axes.set_yticks(places, [names[i].replace("$", r"\$")[:40] for i in shown])
    axes.set(xlim=(0, 1.08), xlabel="share of the column's variance that is rebuilt")
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.tick_params(axis="y", length=0)
    return figure
