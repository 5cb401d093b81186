"""Whether a network is worth its while: where PCA rebuilds other rows better, the model is PCA's.

A network that finds nothing beyond PCA, or learns its rows by heart, rebuilds other rows worse than PCA does. Nothing
is chosen on held-out rows: a network is judged by the error on its training rows in the end, and where these are so few
that it may learn them by heart, by cross-validation before.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from aecli import metrics
from aecli.config import PCA, ModelConfig, TrainConfig
from aecli.data.part import Part
from aecli.errors import TrainingError
from aecli.model.module import Autoencoder, initialise
from aecli.options import FitOptions
from aecli.recipes import DEFAULT_RECIPE, resolve
from aecli.training import loop
from aecli.training.fit import Prepared
from aecli.training.rows import Rows

Array = np.ndarray[Any, Any]
FOLDS, FOLDS_OF_IMAGES = 5, 2  # that are looked at, of five; convolutions take longer, and an image has many values
SAMPLE = 5_000  # rows that are looked at first
BY_HEART = 10  # of fewer values for each weight a network may learn some by heart, and its own rows tell nothing
CLEAR = 0.9  # a first fold in which the network's error is below this share of PCA's decides,
CLEARLY_WORSE, ENOUGH = 1.2, 50  # and one above this, on at least so many rows
MANY = 100  # times; by how many more does not matter
GRACE = 0.01  # for a network that has fewer rows to learn from than the model will have
SAID = (
    "hidden_dims",
    "channels",
    "activation",
    "latent_activation",
    "init",
    "epochs",
    "batch_size",
    "lr",
    "optimizer",
    "schedule",
    "weight_decay",
    "noise",
    "augment_shift",
    "patience",
    "loss",
    "beta",
    "bottleneck",
    "active",
)


@dataclass(frozen=True)
class Verdict:
    """A network's error over PCA's: by cross-validation over so many `folds`, or on the training rows themselves."""

    ratio: float
    folds: int = 0

    @property
    def pca_wins(self) -> bool:
        """Whether PCA rebuilds such rows better."""
        return self.ratio >= 1 + (GRACE if self.folds else 0)

    @property
    def sentence(self) -> str:
        """What is said where PCA wins."""
        where = "by cross-validation" if self.folds else "on the training rows"
        times = f"{self.ratio:.3f}" if self.ratio < MANY else f"more than {MANY}"
        return f"the model is PCA's, a linear autoencoder: {where} a network's error is {times} times PCA's"


def is_free(asked: FitOptions) -> bool:
    """Return whether the model is ours to choose: of the network and its training nothing was said."""
    return asked.recipe in (None, DEFAULT_RECIPE) and all(getattr(asked, name) is None for name in SAID)


def by_cross_validation(
    rows: Prepared, model: ModelConfig, asked: FitOptions, device: torch.device, announce: Callable[[str], None]
) -> Verdict | None:
    """Train networks of the `model`'s widths on parts of the training rows; compare them with PCA on those left out.

    None where the rows are so many that their own errors tell, or too few.
    """
    count, inputs = len(rows.training), rows.scaler.inputs
    if rows.training.blocks is not None or count < 2 * FOLDS or count * inputs > BY_HEART * model.parameters:
        return None
    if min(count, inputs) > metrics.PCA_MAX:
        return None
    if model.channels:  # takes a while
        announce("few images: a network and PCA are compared first, by cross-validation")
    asked = dataclasses.replace(
        asked, channels=model.channels, hidden_dims=model.hidden_dims, latent_dim=model.latent_dim
    )
    x, order = rows.training.x[:], np.random.default_rng((asked.seed, count)).permutation(count)
    folds = FOLDS_OF_IMAGES if model.channels else FOLDS
    verdict = _folded(rows, x[order[:SAMPLE]], folds, asked, device)
    if verdict.pca_wins and count > SAMPLE:  # a network gains more by further rows than PCA does
        verdict = _folded(rows, x[order], 1, asked, device)
    return verdict


def _folded(rows: Prepared, x: Array, most: int, asked: FitOptions, device: torch.device) -> Verdict:
    """Compare on rows (N, D) in random order, each fold of which is left out in turn, up to so many of them."""
    errors = np.zeros(2)  # the network's, PCA's
    for fold in range(most):
        left_out = np.arange(len(x)) % FOLDS == fold
        errors += _errors(rows, Part(x[~left_out]), Part(x[left_out]), asked, device)
        worse = errors[0] > CLEARLY_WORSE * errors[1] and left_out.sum() >= ENOUGH
        if fold == 0 and (worse or errors[0] < CLEAR * errors[1]):
            break
    return Verdict(float(errors[0] / max(errors[1], 1e-30)), fold + 1)


def _errors(rows: Prepared, rest: Part, left_out: Part, asked: FitOptions, device: torch.device) -> Array:
    """Return the errors on unseen rows of a network and of PCA, (2,). That of a network that diverges is infinite."""
    image_shape, scaler = rows.schema.image_shape, rows.scaler
    model_config, config = resolve(asked, scaler.inputs, len(rest), bounded=scaler.bounded, image_shape=image_shape)
    training, others = (Rows(part, scaler, device) for part in (rest, left_out))
    model = Autoencoder(model_config)
    initialise(model, model_config, config.init, training.mean().cpu(), torch.Generator().manual_seed(config.seed))
    model.to(device)
    pca = metrics.Pca(rest, scaler, model_config.latent_dim)  # rows are few enough for one of its ways
    try:
        loop.Trainer(model, config, training, image_shape=image_shape).run(lambda _: None)
    except TrainingError:
        return np.array([np.inf, pca.mse(left_out)])
    return np.array([loop.evaluate(model, others), pca.mse(left_out)])


def as_pca(model: ModelConfig, config: TrainConfig) -> tuple[ModelConfig, TrainConfig]:
    """Return the configs of PCA with as many latent values: no hidden layer, no activation, nothing trained."""
    return ModelConfig(model.inputs, (), model.latent_dim), dataclasses.replace(config, init=PCA)


def tensors(pca: metrics.Pca) -> dict[str, torch.Tensor]:
    """Return PCA as the state dict of an autoencoder without hidden layers."""
    weights = {
        "encoder.0.weight": pca.basis.T,
        "encoder.0.bias": -pca.mean @ pca.basis,
        "decoder.0.weight": pca.basis,
        "decoder.0.bias": pca.mean,
    }
    return {name: torch.from_numpy(np.ascontiguousarray(each, np.float32)) for name, each in weights.items()}
