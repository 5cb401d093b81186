"""What training minimised and what the codes tell, in words: for the summary of train, and for info."""

from typing import TYPE_CHECKING

from aecli.config import ModelConfig, TrainConfig

if TYPE_CHECKING:
    from aecli.model.checkpoint import Checkpoint

SHOWN_NATS = 20


def loss_name(model: ModelConfig, train: TrainConfig) -> str | None:
    """Return what training minimises, None where it is the mean squared error."""
    if model.bottleneck == "variational":
        return f"{train.loss} + {'' if train.beta == 1 else f'{train.beta:g} '}KL"
    if train.neighbours:
        return f"{train.loss} + neighbours"
    return None if train.loss == "mse" else train.loss


def loss(made: "Checkpoint") -> str | None:
    """Say what training minimised came to, a mean over values; None where it is the mean squared error.

    Of a variational model it is said in nats a row, too: with a beta of 1, the negative evidence lower bound but for a
    constant. Not where rows may have holes, and so have not all as many values.
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
    return f"{said}; in nats a row {nats}"


def codes(made: "Checkpoint") -> str | None:
    """Say how many latent values tell something; None for a bottleneck of which all do."""
    results, values = made.results, made.model.latent_dim
    if results.active_dims is None:
        return None
    if not results.kl:
        return f"{results.active_dims:,} of {values:,} latent values are used, {made.model.kept:,} in each row"
    nats = sorted(results.kl, reverse=True)
    shown = " ".join(f"{value:.2f}" for value in nats[:SHOWN_NATS]) + " ..." * (values > SHOWN_NATS)
    return f"{sum(nats):.2f} nats a row, {results.active_dims} of {values} latent values active: {shown}"
