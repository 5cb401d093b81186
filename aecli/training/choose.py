"""Choose between a network and PCA: if PCA rebuilds new rows better, the model is PCA's.

A network that finds nothing beyond PCA, or learns its rows by heart, rebuilds new rows worse than PCA. Nothing is
chosen on held-out rows. A network is judged once. If the rows are so few that it may learn them by heart, it is judged
by cross-validation before it is trained; otherwise by the error on its training rows at the end. On few rows that error
says nothing: PCA's error is 0 if there are no more rows than latent values. So if there are too few rows for
cross-validation, the network stays.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from aecli import metrics, search
from aecli.config import PCA, ModelConfig, TrainConfig, prefixes
from aecli.data.part import Part
from aecli.errors import TrainingError
from aecli.model.module import Autoencoder
from aecli.recipes import VECTORS
from aecli.training import loop
from aecli.training.fit import Prepared
from aecli.training.folds import FOLDS, Folds, has_few
from aecli.training.rows import Rows

Array = np.ndarray[Any, Any]
SAMPLE = 5_000  # rows to try first
CLEAR = 0.9  # the first fold decides if the network's error is below this share of PCA's,
CLEARLY_WORSE, ENOUGH = 1.2, 50  # or above this one, on at least so many rows
MANY = 100  # a larger ratio is not reported
EXACT = 1e-12  # a smaller error counts as 0
QUERIES, AMONG, AMONG_VALUES = 1_000, 1 << 16, 1 << 26  # queries; the most rows, and values, to search among
BATCH = 1024  # rows to encode at a time
GRACE = 0.01  # a fold's network has fewer rows to learn from than the model


@dataclass(frozen=True)
class Verdict:
    """The mean squared errors of a network and of PCA: from `folds` of cross-validation, or 0 on training rows."""

    network: float
    pca: float
    folds: int = 0

    @property
    def ratio(self) -> float:
        """The network's error over PCA's."""
        return self.network / max(self.pca, 1e-30)

    @property
    def pca_wins(self) -> bool:
        """Whether PCA rebuilds the rows better."""
        return self.ratio >= 1 + (GRACE if self.folds else 0)

    @property
    def sentence(self) -> str:
        """The sentence that announces that PCA wins."""
        where = "by cross-validation" if self.folds else "on the training rows"
        if self.pca < EXACT:
            return f"the model is PCA's, a linear autoencoder: {where} PCA rebuilds rows without error"
        times = f"{self.ratio:.3f}" if self.ratio < MANY else f"more than {MANY}"
        return f"the model is PCA's, a linear autoencoder: {where} a network's error is {times} times PCA's"


def by_cross_validation(
    rows: Prepared, model: ModelConfig, folds: Callable[[int | None], Folds], announce: Callable[[str], None]
) -> Verdict | None:
    """Return how networks of the `model`'s widths compare with PCA, on training rows that they were not trained on.

    `folds` returns the folds of a number of rows, or of all. None if the rows are so many that the training error is
    enough, or too few.
    """
    count = len(rows.training)
    if not has_few(rows, model) or count < 2 * FOLDS or metrics.is_too_large(count, rows.scaler.inputs):
        return None
    announce("comparing a network with PCA first, by cross-validation")
    some = folds(None if count <= SAMPLE else SAMPLE)
    verdict = _folded(rows, some, some.looked_at)
    if verdict.pca_wins and count > SAMPLE:  # a network gains more from further rows than PCA
        verdict = _folded(rows, folds(None), 1)
    return verdict


def _folded(rows: Prepared, folds: Folds, most: int) -> Verdict:
    """Return the comparison on the rows of each fold in turn, for at most `most` folds."""
    errors = np.zeros(2)  # the network's, PCA's
    for fold in range(most):
        left_out = folds.left_out(fold)
        errors += _errors(rows, folds, fold)
        worse = errors[0] > CLEARLY_WORSE * errors[1] and len(left_out) >= ENOUGH
        if fold == 0 and (worse or errors[0] < CLEAR * errors[1]):
            break
    network, pca = (errors / (fold + 1)).tolist()
    return Verdict(network, pca, fold + 1)


def by_training_rows(rows: Prepared, model: Autoencoder, training: Rows, pca: metrics.Pca) -> Verdict | None:
    """Return how a trained network compares with PCA on its training rows, None if they are too few: see `has_few`."""
    if has_few(rows, model.config):
        return None
    return Verdict(loop.evaluate(model, training), pca.mse(rows.training))


@dataclass(frozen=True)
class Found:
    """The recall@10 of a search by cosine among training rows: with a network's codes, and with PCA's of equal width.

    For nested codes it is the mean over their widths.
    """

    network: float
    pca: float

    @property
    def pca_wins(self) -> bool:
        """Whether PCA's codes serve a search as well or better."""
        return self.pca >= self.network

    @property
    def sentence(self) -> str:
        """The sentence that announces that PCA wins."""
        return (
            "the model is PCA's, a linear autoencoder: on validation rows a network's recall@10 is "
            f"{self.network:.3f}, PCA's {self.pca:.3f}"
        )


def in_the_end(
    rows: Prepared, model: Autoencoder, config: TrainConfig, training: Rows, pca: metrics.Pca
) -> "Verdict | Found | None":
    """Return how a trained network compares with PCA: for vectors by a search for validation rows, else on its rows."""
    if config.recipe == VECTORS:
        return by_search(rows, model, rows.validation, pca, prefixes(model.config.latent_dim) if config.nested else ())
    return by_training_rows(rows, model, training, pca)


def by_search(
    rows: Prepared, model: Autoencoder, queries: Part | None, pca: metrics.Pca | None, widths: tuple[int, ...] = ()
) -> Found | None:
    """Return how well a network's codes and PCA's find some of the rows `queries` among training rows.

    Whole codes are compared, and their first values by each of the `widths`.
    None if there are no queries or no PCA, or too few rows, or if all queries are zeros.
    """
    if queries is None or pca is None or len(rows.training) <= search.NEAREST:
        return None
    rng = np.random.default_rng(0)
    most = max(search.NEAREST + 1, min(AMONG, AMONG_VALUES // rows.scaler.inputs))
    raw = queries.sample(QUERIES, rng), rows.training.sample(most, rng)
    x = [metrics.scaled(each, rows.scaler) for each in raw]
    codes = [_encoded(model, each) for each in x]
    of_pca = [each @ pca.basis.astype(np.float32) for each in x]  # this PCA keeps the mean
    every = (model.config.latent_dim, *widths)
    both = {"network": codes, "PCA": of_pca}
    cut = {f"{name} {width}": (z[0][:, :width], z[1][:, :width]) for name, z in both.items() for width in every}
    asked, among = (search.filled(each, rows.scaler.fill) for each in raw)  # unscaled: a scaler may change cosines
    if not (found := search.recalls(asked, among, cut)):
        return None
    network, as_wide = (sum(found[f"{name} {width}"] for width in every) / len(every) for name in both)
    return Found(network, as_wide)


def _encoded(model: Autoencoder, x: Array) -> Array:
    """Return the codes (N, K) of rows (N, E) in the model's units."""
    device = next(model.parameters()).device
    with torch.no_grad():
        parts = (model.encode(part.to(device)).cpu() for part in torch.split(torch.from_numpy(x), BATCH))
        return torch.cat(list(parts)).numpy()


def _errors(rows: Prepared, folds: Folds, fold: int) -> Array:
    """Return the errors of a network and of PCA on a fold, (2,). A network that diverges has an infinite error."""
    left_out = folds.left_out(fold)
    pca = metrics.Pca(folds.rest(fold), rows.scaler, folds.latent_dim)  # there are few enough rows for it
    try:
        network = folds.network(fold)
    except TrainingError:
        return np.array([np.inf, pca.mse(left_out)])
    return np.array([loop.evaluate(network, Rows(left_out, rows.scaler, folds.device)), pca.mse(left_out)])


def given_way(
    verdict: Verdict | Found | None, model: ModelConfig, config: TrainConfig, announce: Callable[[str], None]
) -> tuple[ModelConfig, TrainConfig]:
    """Return a network's configs. If PCA wins, announce it, and return the configs of PCA with as many latent values.

    PCA has no hidden layer and no activation, and is not trained.
    """
    if verdict is None or not verdict.pca_wins:
        return model, config
    announce(verdict.sentence)
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
