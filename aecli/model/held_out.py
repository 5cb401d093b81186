"""Which rows a model has not seen: those that its run held out of training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.data.digest import Digest
from aecli.data.part import cut_off

if TYPE_CHECKING:
    from aecli.config import TrainConfig
    from aecli.data.source import Source
    from aecli.model.checkpoint import Checkpoint

Array = np.ndarray[Any, Any]


def held_out(made: "Checkpoint", source: "Source") -> Array | None:
    """Return which rows of a source a run held out, (N,) booleans in the order that the source yields them.

    The source is read to its end. None where `trained_on` is.
    A row that was left out of the training for its holes counts as held out. Validation rows do not: they chose the
    weights.
    """
    found, learnt = Digest(), []
    for batch in source.batches():
        kept = learnable(made, batch.x)
        found.add(batch.x[kept])
        learnt.append(kept)
    if (trained := trained_on(made, source.name, found)) is None:
        return None
    rows = np.concatenate([np.zeros(0, bool), *learnt])
    rows[rows] = trained
    return ~rows


def learnable(made: "Checkpoint", x: Array) -> Array:
    """Return which raw rows (N, D) a run could train on, (N,) booleans: not those that it left out for their holes."""
    if x.dtype.kind == "f" and made.schema.missing is not None:
        holes = np.isnan(x)
        return np.asarray(~(holes.any(axis=1) if made.schema.missing == "drop" else holes.all(axis=1)))
    return np.ones(len(x), bool)


def trained_on(made: "Checkpoint", name: str, found: Digest) -> Array | None:
    """Return which of the rows of a digest, (N,) booleans, a run trained on. `name` is that of their source.

    None where these are not all rows of the run that are `learnable`, in their order, nor all those that were given to
    it as held-out rows, nor the test split of the built-in set that it trained on.
    """
    origin = made.origin
    if name == f"{made.data}:test" or (origin is not None and origin.test == str(found)):
        return np.zeros(found.rows, bool)
    if origin is None or origin.rows != str(found):
        return None
    return ~_cut(found.rows, origin.block, made.train)


def _cut(rows: int, block: int, run: "TrainConfig") -> Array:
    """Return which of so many rows (N,) the cut of a run took off, as `Part.cut` did."""
    if not (share := run.holdout or run.holdout_last):
        return np.zeros(rows, bool)
    rng = None if run.holdout_last else np.random.default_rng(run.seed)
    _, chosen = cut_off(-(-rows // block), share, rng)
    return np.isin(np.arange(rows) // block, chosen)
