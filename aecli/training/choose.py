"""Whether a network is worth its while: by cross-validation on training rows it is compared with PCA.

Where a network finds nothing that PCA does not, or learns its rows by heart, it rebuilds other rows worse.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from aecli import metrics
from aecli.config import ModelConfig
from aecli.data.part import Part
from aecli.model.module import Autoencoder, initialise
from aecli.model.scaler import Scaler
from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training import loop
from aecli.training.rows import Rows

Array = np.ndarray[Any, Any]
FOLDS = 5
MOST_ROWS = 10_000  # of more, the errors on the training rows themselves tell
CLEAR = 0.85  # a first fold below this, or above its inverse, decides


@dataclass(frozen=True)
class Verdict:
    """How a network's error compares with PCA's: their `ratio`, a geometric mean over so many `folds`."""

    ratio: float
    folds: int


def network_over_pca(
    training: Part, scaler: Scaler, asked: FitOptions, image_shape: tuple[int, ...] | None, device: torch.device
) -> Verdict | None:
    """Train the network that was asked for on parts of the rows, and compare it with PCA on those left out.

    None where rows are too many for memory, or too few.
    """
    count = len(training)
    if training.blocks is not None or count < 2 * FOLDS:
        return None
    x, order = training.x[:], np.random.default_rng((asked.seed, count)).permutation(count)
    logs: list[float] = []
    for fold in range(FOLDS):
        mask = np.zeros(count, bool)
        mask[order[fold::FOLDS]] = True
        ratio = _ratio(Part(x[~mask]), Part(x[mask]), scaler, asked, image_shape, device)
        if ratio is None:
            return None
        logs.append(float(np.log(max(ratio, 1e-12))))
        if fold == 0 and abs(logs[0]) > -np.log(CLEAR):
            break
    return Verdict(float(np.exp(np.mean(logs))), len(logs))


def _ratio(
    rest: Part,
    left_out: Part,
    scaler: Scaler,
    asked: FitOptions,
    image_shape: tuple[int, ...] | None,
    device: torch.device,
) -> float | None:
    model_config, config = resolve(asked, scaler.inputs, len(rest), bounded=scaler.bounded, image_shape=image_shape)
    pca = metrics.pca(rest, scaler, model_config.latent_dim)
    if pca is None:
        return None
    rows, others = (Rows(part, scaler, device) for part in (rest, left_out))
    model = Autoencoder(model_config)
    initialise(model, model_config, config.init, rows.mean().cpu(), torch.Generator().manual_seed(config.seed))
    model.to(device)
    loop.Trainer(model, config, rows, image_shape=image_shape).run(lambda _: None)
    return loop.evaluate(model, others) / max(pca.mse(left_out), 1e-30)


def linear(config: ModelConfig) -> ModelConfig:
    """Return the model of PCA with as many latent values: no hidden layer, and no activation."""
    return ModelConfig(config.inputs, (), config.latent_dim, config.activation)


def pca_tensors(pca: metrics.Pca) -> dict[str, Array]:
    """Return PCA as the state dict of a `linear` model."""
    weights = {
        "encoder.0.weight": pca.basis.T,
        "encoder.0.bias": -pca.mean @ pca.basis,
        "decoder.0.weight": pca.basis,
        "decoder.0.bias": pca.mean,
    }
    return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in weights.items()}
