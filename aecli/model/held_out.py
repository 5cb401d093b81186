"""The rows that a model has not seen: those that its run held out of training."""

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
    """Return a mask (N,) of the rows of a source that a run held out, in the order that the source yields them.

    Reads the source to its end. Returns None if `trained_on` does.
    A row that training left out because of its holes counts as held out. Validation rows do not, because they selected
    the weights.
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
    """Return a mask (N,) of the raw rows (N, D) that a run could train on: all but those it left out for holes."""
    if x.dtype.kind == "f" and made.schema.missing is not None:
        holes = np.isnan(x)
        return np.asarray(~(holes.any(axis=1) if made.schema.missing == "drop" else holes.all(axis=1)))
    return np.ones(len(x), bool)


def trained_on(made: "Checkpoint", name: str, found: Digest) -> Array | None:
    """Return a mask (N,) of the rows of a digest that a run trained on. `name` is the name of their source.

    None unless the rows are all `learnable` rows of the run, in their order, or all rows given to it as held-out rows,
    or the test split of the built-in set that it trained on.
    """
    origin = made.origin
    if name == f"{made.data}:test" or (origin is not None and origin.test == str(found)):
        return np.zeros(found.rows, bool)
    if origin is None or origin.rows != str(found):
        return None
    return ~_cut(found.rows, origin.block, made.train)


def _cut(rows: int, block: int, run: "TrainConfig") -> Array:
    """Return a mask (N,) of the rows that a run held out, repeating the choice of `Part.cut`."""
    if not (share := run.holdout or run.holdout_last):
        return np.zeros(rows, bool)
    rng = None if run.holdout_last else np.random.default_rng(run.seed)
    _, chosen = cut_off(-(-rows // block), share, rng)
    return np.isin(np.arange(rows) // block, chosen)
