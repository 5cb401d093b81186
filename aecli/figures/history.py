"""Loss by epoch."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aecli.config import History
from aecli.figures import style


def history(losses: History, pca_mse: float | None) -> Figure:
    """Draw training and held-out loss by epoch on a log scale, and PCA's error as a line."""
    figure = style.figure(height=3.6)
    axes = style.quiet(figure.add_subplot())
    for values, name, colour in (
        (losses.loss, "training", style.PALETTE[0]),
        (losses.test_loss, "held-out", style.PALETTE[6]),
    ):
        if values:
            axes.plot(range(1, len(values) + 1), values, label=name, color=colour, marker="o", markersize=2.5)
    if pca_mse is not None:
        axes.axhline(pca_mse, label="PCA, held-out", color=style.QUIET, linestyle="--", linewidth=1)
    axes.set(xlabel="epoch", ylabel="mean squared error", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure
