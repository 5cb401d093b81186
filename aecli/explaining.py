"""Explain which columns make a row strange, and which values were expected in them.

The weight of a column is how much less strange the row becomes if the column gets its expected value. The expected
value is rebuilt from the row with the column at its mean. In images the weight of a pixel is the part of the distance
that its error adds, because trying each pixel takes too long.
Shape letters: N rows, D values per row, E inputs of the model, K latent values, C columns that are tried.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.model.scaler import Scaler
from aecli.scoring import Score

if TYPE_CHECKING:
    from aecli.inference import Model

Array = np.ndarray[Any, Any]
Rebuild = Callable[[Array], tuple[Array, Array]]  # inputs (N, E) -> codes (N, K), and rebuilt inputs (N, E)
TRIED = 32  # columns of a row to try, those whose errors add the most to its distance
LARGEST = float(np.finfo(np.float32).max)  # replaces an infinite distance
BLOCK_ROWS, BLOCK_VALUES = 256, 1 << 20  # the most to compute together


def explain(model: "Model", raw: Array) -> tuple[Array, Array]:
    """Return each value's share of the strangeness of raw rows (N, D), (N, D), and the expected values, raw, (N, D).

    The rows must fit the model. Shares add up to 1, or are all 0 if the row is rebuilt without any error. The share of
    a hole is 0. So is that of a category or a boolean that is as expected, if the row has another reason.
    Raises DataError if the model has no score.
    """
    score, scaler, rebuild = model.scoring, model.scaler, model.rebuilt_inputs
    step = max(1, min(BLOCK_ROWS, BLOCK_VALUES // scaler.inputs) // min(TRIED, raw.shape[1]))
    parts = [_explained(raw[start : start + step], score, scaler, rebuild) for start in range(0, len(raw), step)]
    if not parts:
        return np.zeros(raw.shape, np.float32), np.zeros(raw.shape, np.float32)
    shares, expected = (np.concatenate(part) for part in zip(*parts, strict=True))
    return shares, expected


def _explained(raw: Array, score: Score, scaler: Scaler, rebuild: Rebuild) -> tuple[Array, Array]:
    x, starts = scaler.transform(raw), np.cumsum((0, *scaler.schema.widths[:-1]))
    empty = scaler.holes(raw)
    there = None if empty is None else ~empty
    with np.errstate(all="ignore"):  # extreme values give infinity or NaN without a warning
        z, recon = rebuild(x)
        squares = np.add.reduceat(np.square((recon - x) / score.error_scale), starts, axis=1)  # (N, D)
        added = np.add.reduceat(score.contributions(z, recon - x, there), starts, axis=1)  # (N, D)
        nothing = _tells_nothing(raw, x, score, starts)
        added[nothing] = squares[nothing] = 0
        gains, expected = added, scaler.inverse(recon)
        if scaler.filling is not None and scaler.schema.image_shape is None:
            tried = np.argsort(-added, axis=1, kind="stable")[:, :TRIED]  # (N, C)
            distances, values = _tried(x, tried, there, score, scaler, rebuild)
            before = score.distances(z, recon - x, there)[:, None].astype(np.float64)
            gained = np.maximum(np.minimum(before, LARGEST) - np.minimum(distances, LARGEST), 0)
            gains = np.zeros(added.shape)
            np.put_along_axis(gains, tried, gained, axis=1)
            gains[nothing] = 0
            expected = expected.astype(np.result_type(expected, values))
            np.put_along_axis(expected, tried, values, axis=1)
        as_expected = _as_expected(raw, expected, scaler)
    amounts = np.where(as_expected, 0, gains)
    # The others are for a row in which no single column makes a difference.
    for others in (np.where(as_expected, 0, added), np.where(as_expected, 0, squares), gains, added, squares):
        amounts = np.where(amounts.any(axis=1, keepdims=True), amounts, others)
    return shares(amounts), expected


def _as_expected(raw: Array, expected: Array, scaler: Scaler) -> Array:
    """Return which values (N, D) are those of a category or a boolean that equal the expected ones (N, D)."""
    columns = scaler.schema.values
    category, boolean = (np.array([column.kind == kind for column in columns]) for kind in ("category", "boolean"))
    same: Array = (category & (raw == expected)) | (boolean & ((raw > 0.5) == (expected > 0.5)))
    return same


def _tells_nothing(raw: Array, x: Array, score: Score, starts: Array) -> Array:
    """Return which values (N, D) are no reason: holes, and the usual value of a column that was constant."""
    as_ever = (score.spread == 0) & (x == score.mean)  # (N, E)
    return np.isnan(raw) | np.logical_and.reduceat(as_ever, starts, axis=1)


def _tried(
    x: Array, tried: Array, there: Array | None, score: Score, scaler: Scaler, rebuild: Rebuild
) -> tuple[Array, Array]:
    """Return the distances (N, C) of rows (N, E) with each of the `tried` columns at its expected value.

    Also return the expected values (N, C), raw.
    """
    count = tried.shape[1]
    of_column = np.repeat(np.arange(len(scaler.schema.widths)), scaler.schema.widths)  # (E,)
    at = of_column == tried.reshape(-1, 1)  # (N C, E)
    rows = np.repeat(x, count, axis=0)
    filling: Any = scaler.filling
    expected = rebuild(np.where(at, filling, rows))[1]
    mended = np.where(at, expected, rows)
    z, recon = rebuild(mended)
    known = None if there is None else np.repeat(there, count, axis=0)
    values = np.take_along_axis(scaler.inverse(mended), tried.reshape(-1, 1), axis=1)
    return score.distances(z, recon - mended, known).reshape(tried.shape), values.reshape(tried.shape)


def shares(amounts: Array) -> Array:
    """Return amounts (N, D), not below 0, as shares of each row's sum. If some are infinite, only these count."""
    endless = np.isinf(amounts)
    amounts = np.where(endless.any(axis=1, keepdims=True), endless, amounts).astype(np.float64)
    total = amounts.sum(axis=1, keepdims=True)
    found: Array = (amounts / np.where(total > 0, total, 1)).astype(np.float32)
    return found
