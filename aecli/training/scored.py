"""The score of a trained model: fitted to training rows, calibrated on training rows that a network has not seen."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from aecli import scoring
from aecli.config import PCA, ModelConfig
from aecli.errors import TrainingError
from aecli.inference import Model
from aecli.metrics import Pca
from aecli.model import checkpoint
from aecli.model.checkpoint import Checkpoint
from aecli.model.network import Network
from aecli.model.scaler import Scaler
from aecli.recipes import VECTORS
from aecli.scoring import CALIBRATION_ROWS, FITTED_ROWS, FITTED_VALUES, LEAST_ROWS, Score
from aecli.training import choose
from aecli.training.fit import Prepared
from aecli.training.folds import FOLDS, FOLDS_OF_IMAGES, Folds, has_few

Array = np.ndarray[Any, Any]
MANY_ROWS = 20  # with so many rows per input PCA learns no row by heart
QUICK_ROWS = 5_000  # networks train on so few rows so quickly that all rows can calibrate
LARGE = 1 << 18  # a dictionary of so many weights trains as long as a network for images
SOME_BY_HEART = (
    50  # with fewer values per weight a network knows its rows so well that twice as many others are anomalies
)
BLOCK_ROWS = 256  # the outputs of layers of usual width fit in a core's cache


def with_score(
    trained: Model, rows: Prepared, folds: Callable[[], Folds], codes: int, on_phase: Callable[[str, float], None]
) -> Model:
    """Return a model, on the CPU, with a score that stores at most `codes` codes.

    If there are so few rows that a network may learn some by heart, the rows of each fold calibrate the score, each by
    the network trained without that fold; with more rows, the rows of a single fold. With many rows, rows that the
    network has seen calibrate it, but the score is fitted to others. The model is returned unchanged if there are fewer
    than ten training rows, or if it has no finite output for them.
    """
    made, seed = trained.checkpoint, trained.checkpoint.train.seed
    if len(rows.training) < LEAST_ROWS:
        return trained
    network, rng = Network(made.model, checkpoint.weights(trained.tensors)), np.random.default_rng(seed)
    if looked_at := _folds_to_look_at(rows, made):
        found = _fitted(network, rows.scaler, rows.training.sample(_most_fitted(made), rng), codes, seed)
        signs = [] if found is None else _of_folds(made, rows, folds(), looked_at, codes, on_phase)
    else:
        sample = rng.permutation(rows.training.sample(_most(made, FITTED_ROWS + CALIBRATION_ROWS), rng))
        first = min(_most_fitted(made), len(sample) // 2)
        found = _fitted(network, rows.scaler, sample[:first], codes, seed)
        signs = [] if found is None else [_signs(found, network, rows.scaler, sample[first:])]
    known = np.concatenate([np.zeros((0, 3), np.float32), *signs])[:CALIBRATION_ROWS]
    if found is None or not len(known):
        return trained
    found = found.calibrated(known)
    made = dataclasses.replace(made, score=found.size)
    scored = Model(made, {**trained.tensors, **found.tensors()}, trained.scaler)
    if rows.held_out is None:
        return scored
    alarms = 0
    for chunk in rows.held_out.chunks(FITTED_VALUES // 16):
        of_them = _signs(found, network, rows.scaler, chunk)
        alarms += int((found.p(found.scores(of_them)) <= found.alpha).sum())
    results = dataclasses.replace(made.results, test_alarms=alarms)
    return Model(dataclasses.replace(made, results=results), scored.tensors, scored.scaler)


def _folds_to_look_at(rows: Prepared, made: Checkpoint) -> int:
    """Return how many folds to use: none if no row is learnt by heart. PCA needs many rows per input for that."""
    is_slow = made.train.recipe == VECTORS or (made.model.is_dictionary and made.model.parameters > LARGE)
    takes_long = rows.schema.image_shape is not None or made.train.neighbours or is_slow
    if rows.training.blocks is not None:
        return 0
    if made.train.init == PCA:
        return FOLDS if len(rows.training) <= MANY_ROWS * made.model.inputs else 0
    if has_few(rows, made.model) or len(rows.training) <= QUICK_ROWS:
        return FOLDS_OF_IMAGES if takes_long else FOLDS
    return int(len(rows.training) * rows.scaler.inputs <= SOME_BY_HEART * made.model.parameters)


def _most(made: Checkpoint, rows: int) -> int:
    """Return how many rows to use, at most `rows`; fewer if they are wide."""
    return max(LEAST_ROWS, min(rows, FITTED_VALUES // made.model.inputs))


def _most_fitted(made: Checkpoint) -> int:
    """Return the most rows to fit a score to; if they are wide, as many as its axes need."""
    is_wide = made.model.inputs + made.model.latent_dim > scoring.ALL_AXES
    return _most(made, scoring.ROWS_AN_AXIS * scoring.AXES if is_wide else FITTED_ROWS)


def _of_folds(
    made: Checkpoint,
    rows: Prepared,
    folds: Folds,
    looked_at: int,
    codes: int,
    on_phase: Callable[[str, float], None],
) -> list[Array]:
    """Return the signs (n, 3) of the rows in each fold, by the score of a network trained without the fold."""
    scaler, signs = rows.scaler, list[Array]()
    for fold in range(min(looked_at, len(folds))):
        if sum(map(len, signs)) >= CALIBRATION_ROWS:
            break
        on_phase("calibrating scores", fold / looked_at)
        rest, left_out = folds.rest(fold), folds.left_out(fold)
        if made.train.init == PCA:
            pca = choose.tensors(Pca(rest, scaler, made.model.latent_dim))
            network = Network(ModelConfig(made.model.inputs, (), made.model.latent_dim), _arrays(pca))
        else:
            try:
                own = folds.network(fold)
            except (TrainingError, torch.OutOfMemoryError):
                continue
            network = Network(made.model, _arrays(own.state_dict()))
        seen = rest.sample(_most_fitted(made), np.random.default_rng(fold))
        if (found := _fitted(network, scaler, seen, codes, made.train.seed)) is not None:
            signs.append(_signs(found, network, scaler, left_out.x[:]))
    return signs


def _arrays(state: Any) -> dict[str, Array]:
    return {name: tensor.cpu().numpy() for name, tensor in state.items()}


def _fitted(network: Network, scaler: Scaler, raw: Array, codes: int, seed: int) -> Score | None:
    """Return a score fitted to raw rows (N, D), None if the network has no finite output for them."""
    x, z, errors, there = _judged(network, scaler, raw)
    finite = np.isfinite(z).all(axis=1) & np.isfinite(errors).all(axis=1)
    if not finite.any():
        return None
    there = None if there is None else there[finite]
    return scoring.fit(x[finite], z[finite], errors[finite], there, codes, seed)


def _signs(score: Score, network: Network, scaler: Scaler, raw: Array) -> Array:
    blocks = (raw[start : start + BLOCK_ROWS] for start in range(0, len(raw), BLOCK_ROWS))
    parts = [score.signs(*_judged(network, scaler, block)) for block in blocks]
    return np.concatenate([np.zeros((0, 3), np.float32), *parts])


def _judged(network: Network, scaler: Scaler, raw: Array) -> tuple[Array, Array, Array, Array | None]:
    """Return the inputs (N, E), codes (N, K) and errors (N, E) of raw rows (N, D), and which values are no holes."""
    x, z, errors = [], [], []
    for start in range(0, len(raw), BLOCK_ROWS):
        x.append(scaler.transform(raw[start : start + BLOCK_ROWS]))
        z.append(network.encode(x[-1]))
        errors.append(network.decode(z[-1]) - x[-1])
    holes = scaler.holes(raw)
    return np.concatenate(x), np.concatenate(z), np.concatenate(errors), None if holes is None else ~holes
