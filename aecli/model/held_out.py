"""Which rows a model has not seen: those that its run held out of training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.data.digest import Digest
from aecli.data.part import cut_off

if TYPE_CHECKING:
    from aecli.data.source import Source
    from aecli.model.checkpoint import Checkpoint

Array = np.ndarray[Any, Any]


def held_out(made: "Checkpoint", source: "Source") -> Array | None:
    """Return which rows of a source a run held out, (N,) booleans in the order that the source yields them.

    The source is read to its end. None where its rows are not all rows of the run, in their order, nor all those that
    were given to it as held-out rows, nor the test split of the built-in set that it trained on.
    A row that was left out of the training for its holes counts as held out. Validation rows do not: they chose the
    weights.
    """
    found, learnt = Digest(), []
    for batch in source.batches():
        kept: Array = np.ones(len(batch.x), bool)
        if made.schema.missing == "drop" and batch.x.dtype.kind == "f":
            kept = np.asarray(~np.isnan(batch.x).any(axis=1))
        found.add(batch.x[kept])
        learnt.append(kept)
    rows = np.concatenate([np.zeros(0, bool), *learnt])
    origin = made.origin
    if source.name == f"{made.data}:test" or (origin is not None and origin.test == str(found)):
        return np.ones(len(rows), bool)
    if origin is None or origin.rows != str(found):
        return None
    rows[rows] = ~_cut(found.rows, origin.block, made.train.holdout, made.train.seed)
    return ~rows


def _cut(rows: int, block: int, share: float, seed: int) -> Array:
    """Return which of so many rows (N,) the cut of a run took off, as `Part.cut` did."""
    off = np.zeros(rows, bool)
    if share:
        _, drawn = cut_off(-(-rows // block), share, np.random.default_rng(seed))
        off = np.isin(np.arange(rows) // block, drawn)
    return off
