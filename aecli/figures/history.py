"""Loss by epoch."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aecli.config import History
from aecli.figures import style


def history(losses: History, pca_mse: float | None, look: style.Look, minimised: str = "mean squared error") -> Figure:
    """Draw training, validation and held-out loss by epoch on a log scale, and PCA's error as a line.

    `minimised` names the loss; PCA's error is None if the loss is not a mean squared error.

    If validation rows selected the weights, the selected epoch is marked.
    """
    figure = style.figure(look, height=3.0)
    axes = style.quiet(figure.add_subplot(), look)
    curves = {"training": losses.loss, "validation": losses.validation_loss, "held-out": losses.test_loss}
    entries: list[style.Entry] = []
    seen: list[float] = []
    for name, number in (("training", 0), ("validation", 1), ("held-out", 2)):
        values = curves[name]
        if values:
            drawn: Any = {
                "linestyle": "-",
                "marker": "o" if len(values) <= 40 and not look.window else "",
                "markersize": 3,
            }
            drawn |= {"marker": "o", "markersize": style.CELL} if len(values) == 1 else {}
            axes.plot(range(1, len(values) + 1), values, color=look.colour(number), clip_on=False, **drawn)
            entries.append(style.Entry(name, look.colour(number), drawn))
            seen += values
    if losses.validation_loss:
        best = losses.validation_loss.index(min(losses.validation_loss))
        ring: Any = {"marker": "o", "markersize": style.CELL, "markerfacecolor": look.colours.ground}
        ring |= {"markeredgecolor": look.colours.ink, "markeredgewidth": 1.5, "linestyle": ""}
        if look.window:
            ring |= {"markerfacecolor": look.colours.ink, "markeredgewidth": 0}
        axes.plot([best + 1], [losses.validation_loss[best]], clip_on=False, zorder=5, **ring)
        entries.append(style.Entry(f"{'● ' * bool(look.window)}weights of epoch {best + 1}", look.colours.ink, ring))
    if pca_mse is not None:
        axes.axhline(pca_mse, color=look.colours.quiet, linestyle="--")
        entries.append(style.Entry("PCA, held-out", look.colours.quiet, {"linestyle": "--"}))
        seen.append(pca_mse)
    if not seen:
        seen = [0.0]
    style.name_axes(axes, "epoch", minimised, look)
    if min(seen) > 0:
        style.log_axis(axes, "y", min(seen) / 1.15, max(seen) * 1.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))
    epochs = max(len(values) for values in curves.values())
    axes.set_xlim(*((1, epochs) if epochs > 1 else (0, 2)))
    if entries:
        style.legend(figure, entries, look, above=True)
    return figure
