"""The latent rows as a scatter, coloured by label."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aecli.figures import style

Array = np.ndarray[Any, Any]
MAX_CLASSES = 20
MARKERS = ("o", "^")  # the palette's second round wears the second


def latent(z: Array, labels: Array | None) -> Figure:
    """Scatter latent rows `z` (N, K), projected by PCA where K > 2, coloured by `labels` (N,).

    Up to 20 different labels get a legend; more, where they are numbers, a colour bar; others stay one colour.
    """
    points, names = project(z)
    figure = style.figure(height=4.6)
    axes = style.quiet(figure.add_subplot())
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    if z.shape[1] > 2:
        axes.set_aspect("equal", adjustable="datalim")  # components share a unit, latent values do not
    order = np.random.default_rng(0).permutation(len(points))  # so that no class is painted over the others
    points, labels = points[order], None if labels is None else labels[order]
    look: dict[str, Any] = {
        "s": float(np.clip(12_000 / len(points), 2.5, 22)),
        "linewidths": 0,
        "alpha": 0.75,
        "rasterized": True,
    }
    classes = [] if labels is None else _sorted(labels)
    numbers = _as_numbers(labels) if labels is not None else None
    if labels is not None and len(classes) <= MAX_CLASSES:
        _by_class(axes, points, labels, classes, look)
    elif numbers is not None:
        drawn = axes.scatter(points[:, 0], points[:, 1], c=numbers, cmap="viridis", **look)
        figure.colorbar(drawn, ax=axes, label="label").outline.set_visible(False)
    else:
        axes.scatter(points[:, 0], points[:, 1], color=style.PALETTE[0], **look)
    return figure


def project(z: Array) -> tuple[Array, tuple[str, str]]:
    """Give two coordinates (N, 2) of latent rows (N, K), and the names of the axes.

    One latent value is set against a random height; more than two are projected on their first principal components.
    """
    if z.shape[1] == 1:
        return np.column_stack([z, np.random.default_rng(0).uniform(size=len(z))]), ("z0", "(no meaning: spread)")
    if z.shape[1] == 2:
        return z, ("z0", "z1")
    centred = z - z.mean(axis=0)
    variances, vectors = np.linalg.eigh(centred.T @ centred)
    shares = variances[::-1] / max(float(variances.sum()), 1e-30)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1, 1)  # a sign is arbitrary: pick one
    names = [f"principal component {i + 1} ({share:.0%} of variance)" for i, share in enumerate(shares[:2])]
    return centred @ axes, (names[0], names[1])


def _by_class(axes: Axes, points: Array, labels: Array, classes: list[Any], look: dict[str, Any]) -> None:
    handles = []
    number = {name: i for i, name in enumerate(classes)}
    numbers = np.array([number[label] for label in labels.tolist()])
    colours = np.array(style.PALETTE)[numbers % len(style.PALETTE)]
    for turn, marker in enumerate(MARKERS[: -(-len(classes) // len(style.PALETTE))]):
        mine = numbers // len(style.PALETTE) == turn
        axes.scatter(points[mine, 0], points[mine, 1], c=colours[mine], marker=marker, **look)
    for i, name in enumerate(classes):
        shape: dict[str, Any] = {
            "marker": MARKERS[i // len(style.PALETTE)],
            "color": style.PALETTE[i % len(style.PALETTE)],
        }
        text = str(name).replace("$", r"\$")
        handles.append(Line2D([], [], linestyle="", markersize=6, label=text, **shape))
    axes.figure.legend(
        handles=handles, loc="outside right center", frameon=False, handletextpad=0.2, ncols=1, borderpad=0
    )


def _sorted(labels: Array) -> list[Any]:
    """List the different labels, as numbers where they all are."""
    different = list(dict.fromkeys(labels.tolist()))
    try:
        return sorted(different, key=float)
    except (TypeError, ValueError):
        return sorted(different, key=str)


def _as_numbers(labels: Array) -> Array | None:
    try:
        return labels.astype(np.float64)
    except (TypeError, ValueError):
        return None
