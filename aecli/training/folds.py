"""Networks that are each trained without a fifth of the training rows, and applied to the rows left out.

They show whether a network is better than PCA, and which scores unseen rows have.
Source: Stone 1974, "Cross-Validatory Choice and Assessment of Statistical Predictions".
"""

import dataclasses
from typing import Any

import numpy as np
import torch

from aecli.config import ModelConfig, TrainConfig
from aecli.data.part import Part
from aecli.model.module import Autoencoder
from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training import loop
from aecli.training.fit import Prepared
from aecli.training.rows import Rows
from aecli.training.start import first_weights

Array = np.ndarray[Any, Any]
FOLDS, FOLDS_OF_IMAGES = 5, 2  # the folds to use, of five; images take longer, and one image has many values
BY_HEART = 10  # with fewer values per weight a network may learn rows by heart, and its training error says nothing


def has_few(rows: Prepared, model: ModelConfig) -> bool:
    """Return whether there are so few training rows that a network may learn them by heart."""
    values = len(rows.training) * rows.scaler.inputs
    return rows.training.blocks is None and values <= BY_HEART * model.parameters


class Folds:
    """At most `most` random training rows in five folds, and networks like the model, each trained without one fold.

    The rows are in memory: see `has_few`. If there are fewer than five, each is a fold.
    """

    def __init__(
        self,
        rows: Prepared,
        asked: FitOptions,
        model: ModelConfig,
        config: TrainConfig,
        device: torch.device,
        most: int | None = None,
    ) -> None:
        count = len(rows.training)
        order = np.random.default_rng((config.seed, count)).permutation(count)[:most]
        self._rows, self._x = rows, rows.training.x[:][order]
        self._of = np.arange(len(order)) % FOLDS
        self.looked_at = min(len(order), FOLDS if rows.schema.image_shape is None else FOLDS_OF_IMAGES)
        self.device, self.latent_dim = device, model.latent_dim
        self._networks: dict[int, Autoencoder] = {}
        precision: Any = config.precision
        self._start = rows.start
        if rows.start is not None and rows.start.may_know(rows.origin):  # it may have seen the folds
            self._start, before = None, len(rows.start.model.checkpoint.history.loss)
            asked = dataclasses.replace(asked, init="fan-in", epochs=config.epochs + before)
        self._asked = dataclasses.replace(
            asked,
            channels=model.channels,
            hidden_dims=model.hidden_dims,
            latent_dim=model.latent_dim,
            precision=precision,
            augment_shift=config.augment_shift,
            noise=config.noise,
            patience=0,
        )

    def __len__(self) -> int:
        return len(self._x)

    def rest(self, fold: int) -> Part:
        """Return the rows outside a fold."""
        return Part(self._x[self._of != fold])

    def left_out(self, fold: int) -> Part:
        """Return the rows of a fold."""
        return Part(self._x[self._of == fold])

    def network(self, fold: int) -> Autoencoder:
        """Return the network trained without a fold. It is trained once. Raises TrainingError if it diverges."""
        if fold not in self._networks:
            self._networks[fold] = self._trained(self.rest(fold))
        return self._networks[fold]

    def _trained(self, rest: Part) -> Autoencoder:
        rows, image_shape, scaler = self._rows, self._rows.schema.image_shape, self._rows.scaler
        model_config, config = resolve(
            self._asked,
            scaler.inputs,
            len(rest),
            bounded=scaler.bounded,
            image_shape=image_shape,
            model=None if rows.start is None else rows.start.model.checkpoint.model,
        )
        training, model = Rows(rest, scaler, self.device), Autoencoder(model_config)
        first_weights(model, config, self._start, training)
        model.to(self.device)
        loop.Trainer(model, config, training, image_shape=image_shape).run(lambda _: None)
        return model
