"""The results of a run in words: the summary of train, and the lines on the loss and the codes, also for info."""

from typing import TYPE_CHECKING

from aecli.cli import console
from aecli.config import PCA, ModelConfig, TrainConfig, prefixes

if TYPE_CHECKING:
    from aecli.model.checkpoint import Checkpoint

SHOWN_NATS = 20


def loss_name(model: ModelConfig, train: TrainConfig) -> str | None:
    """Return the name of the loss, None for the mean squared error."""
    if model.bottleneck == "variational":
        return f"{train.loss} + {'' if train.beta == 1 else f'{train.beta:g} '}KL"
    return None if train.loss == "mse" else train.loss


def loss(made: "Checkpoint") -> str | None:
    """Return the final loss in words, a mean over values; None for the mean squared error.

    For a variational model the loss is given in nats per row, too: with a beta of 1, the negative evidence lower bound
    up to a constant. It is not if rows may have holes, because their numbers of values then differ.
    """
    results = made.results
    if results.train_loss is None:
        return None
    losses = {"training": results.train_loss, "held-out": results.test_loss}
    said = ", ".join(f"{name} {value:.5g}" for name, value in losses.items() if value is not None)
    if made.model.bottleneck != "variational" or made.schema.missing == "mean":
        return said
    a_row = made.model.inputs / (2 if made.train.loss == "mse" else 1)
    nats = ", ".join(f"{value * a_row:.5g}" for value in losses.values() if value is not None)
    return f"{said}; in nats per row {nats}"


def codes(made: "Checkpoint") -> str | None:
    """Return in words how many latent values are used; None for a bottleneck that uses all."""
    results, values = made.results, made.model.latent_dim
    if results.active_dims is None:
        return None
    if results.active_values is not None:
        rows = "training" if results.test_mse is None else "held-out"
        explained = results.explained_variance
        said = "" if explained is None else f"{rows} explained variance {explained:.3f}; "
        return f"{said}{results.active_values:.1f} active values per row; {results.dead_latents:.1%} of latents dead"
    if not results.kl:
        return f"{results.active_dims:,} of {values:,} latent values are used, {made.model.kept:,} in each row"
    nats = results.kl
    shown = " ".join(f"{value:.2f}" for value in nats[:SHOWN_NATS]) + " ..." * (values > SHOWN_NATS)
    return f"{sum(nats):.2f} nats per row, {results.active_dims} of {values} latent values active: {shown}"


def prefixes_of(made: "Checkpoint") -> str | None:
    """Return in words how well the first values of nested codes alone rebuild rows; None if codes are not nested."""
    errors = made.results.prefix_mse
    if not errors:
        return None
    rows = "held-out" if made.results.test_rows else "training"
    each = (f"{error:.5g} with the first {n}" for n, error in zip(prefixes(made.model.latent_dim), errors, strict=True))
    return f"{rows} MSE {', '.join(each)}"


def recall_of(made: "Checkpoint") -> str | None:
    """Return in words how well a search by cosine finds held-out rows; None if nothing was searched for."""
    recall, of_pca = made.results.test_recall, made.results.pca_recall
    if recall is None or of_pca is None:
        return None
    values = console.counted(made.model.latent_dim, "value")
    found = f"{recall:.3f} with {values}, PCA's {of_pca:.3f}: a search by cosine among the training rows"
    return f"{found}; PCA finds more" if of_pca > recall and made.train.init != PCA else found


def summary(made: "Checkpoint", seconds: float) -> list[str]:
    """Return sentences on the results of the run, with PCA's error on the same rows."""
    results = made.results
    how = "of PCA" if made.train.init == PCA else f"after {_epochs(made)}"
    lines = [f"training MSE {results.train_mse:.5g} {how}, {seconds:.1f} s", *_judged(made)]
    if results.test_mse is None:
        return [*lines, "held-out MSE: no rows were held out"]
    held_out = f"held-out MSE {results.test_mse:.5g} on {console.counted(results.test_rows or 0, 'row')}"
    if results.pca_mse is None:
        return [*lines, f"{held_out}; without PCA, because a row has {made.model.inputs:,} inputs", *_alarms(made)]
    components = console.counted(made.model.kept, "component")
    if results.pca_mse > 1e-12:
        ratio = results.test_mse / results.pca_mse
        lines.append(f"{held_out}, {ratio:.2f} times PCA's {results.pca_mse:.5g} ({components})")
    else:
        lines.append(f"{held_out}; PCA with {components} makes no error")
    lines += _alarms(made)
    plain = made.train.init != PCA and results.train_loss is None and not made.train.neighbours
    plain = plain and results.test_recall is None
    if plain and results.pca_mse > 1e-12 and results.test_mse > 1.005 * results.pca_mse:
        images = made.schema.image_shape is not None and not made.model.channels
        way = "" if made.model.channels else f" or {'--channels 16,32' if images else 'smaller --hidden-dims'}"
        lines.append(f"PCA does better on these rows: more --epochs{way} may help")
    return lines


def _alarms(made: "Checkpoint") -> list[str]:
    """Return a sentence on how many held-out rows are anomalies; none without held-out rows or a score."""
    alarms, rows = made.results.test_alarms, made.results.test_rows
    if made.score is None or alarms is None or not rows:
        return []
    from aecli.model.checkpoint import smallest

    return [
        f"scores: anomalies at p <= {smallest(made.score.alpha)}: {alarms:,} of "
        f"{console.counted(rows, 'held-out row')} ({alarms / rows:.1%})"
    ]


def _judged(made: "Checkpoint") -> list[str]:
    """Return sentences on the loss, if it is not the mean squared error, and on the codes."""
    minimised, used = loss(made), codes(made)
    lines = [] if minimised is None else [f"loss ({loss_name(made.model, made.train)}): {minimised}"]
    lines += [] if used is None else [f"{'KL ' * bool(made.results.kl)}{used}"]
    lines += [] if (recall := recall_of(made)) is None else [f"held-out recall@10 {recall}"]
    lines += [] if (nested := prefixes_of(made)) is None else [f"nested codes: {nested}"]
    columns = made.schema.columns
    if made.results.active_dims == 0 and not (columns and all(column.is_constant for column in columns)):
        bounded = made.model.output_activation == "sigmoid"
        scale = (
            ""
            if made.schema.image_shape is not None
            else f", or {'--scale standard' if bounded else '--scale minmax, for --loss bce'}"
        )
        lines.append(f"the codes say nothing about the rows: try a smaller --beta{scale}")
    return lines


def _epochs(made: "Checkpoint") -> str:
    run, best = len(made.history.loss), made.history.validation_loss
    said = console.counted(run, "epoch") if made.fingerprint else f"{run:,} of {made.train.epochs:,} epochs"
    return f"{said}, with the weights of epoch {best.index(min(best)) + 1}" if best else said
