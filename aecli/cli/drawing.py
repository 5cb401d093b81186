"""What each kind of picture takes from a model and from rows: arrays for aecli.figures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aecli.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from aecli.data.source import Source
    from aecli.figures.style import Look
    from aecli.inference import Encoded, Model
    from aecli.model.checkpoint import Checkpoint

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Picture:
    """How to draw a figure of any look, of so many rows. `fitting` tells how many of them a look has room for."""

    draw: "Callable[[Look], Figure]"
    rows: int = 0
    fitting: "Callable[[Look], int] | None" = None


def history(checkpoint: "Checkpoint") -> Picture:
    """Draw a run's history, which takes no rows."""
    from aecli.figures.history import history

    return Picture(lambda look: history(checkpoint.history, checkpoint.results.pca_mse, look))


def latent(loaded: "Model", source: "Source", _examples: int) -> Picture:
    """Draw all latent rows."""
    from aecli.figures.latent import latent

    z, labels = _gathered(source, loaded.encoded(source), lambda out: out.z)
    return Picture(lambda look: latent(z, labels, look), len(z))


def errors(loaded: "Model", source: "Source", _examples: int) -> Picture:
    """Draw how all rows' errors are distributed."""
    from aecli.figures.errors import errors

    mse, labels = _gathered(source, loaded.rebuilt(source), lambda out: out.mse)
    return Picture(lambda look: errors(mse, labels, look), len(mse))


def reconstruction(loaded: "Model", source: "Source", examples: int) -> Picture:
    """Draw some images, or all columns of a table."""
    import numpy as np

    from aecli import metrics
    from aecli.figures import reconstruction

    shape = loaded.schema.image_shape
    if shape is None:
        moments, squares = metrics.Moments(loaded.scaler.inputs), np.zeros(loaded.scaler.inputs)
        for out in loaded.rebuilt(source):
            moments.add(loaded.scaler.transform(out.batch.x), out.there)
            squares += out.squares.sum(axis=0, dtype=np.float64)
        if not moments.rows:
            raise DataError(f"{source.name}: no rows to draw")
        rebuilt = metrics.variance_rebuilt(squares / np.maximum(1, moments.counts), moments, loaded.schema.widths)
        return Picture(lambda look: reconstruction.columns(rebuilt, loaded.schema.names, look), moments.rows)
    x = _examples_of(source, examples)
    recon, mse, white = loaded.reconstruct(x), loaded.errors(x), _white(loaded, x)
    x, recon = x.reshape(-1, *shape), recon.reshape(-1, *shape)

    def fitting(look: "Look") -> int:
        return reconstruction.fitting(shape, len(x), look)

    def draw(look: "Look") -> "Figure":
        shown = fitting(look)
        return reconstruction.images(x[:shown], recon[:shown], mse[:shown], white, look)

    return Picture(draw, len(x), fitting)


def manifold(loaded: "Model", source: "Source", _examples: int) -> Picture:
    """Draw what is decoded of a plane through the codes."""
    from aecli.figures.manifold import manifold

    values, shape = loaded.checkpoint.model.latent_dim, loaded.schema.image_shape
    another = f"aecli plot {loaded.name} --kind traversal"
    if values < 2:
        raise UsageError(f"a manifold lies on a plane, and {loaded.name} has one latent value", hint=another)
    if shape is None:
        raise UsageError(f"a manifold is of images, and {loaded.name} rebuilds tables", hint=another)
    z, _ = _gathered(source, loaded.encoded(source), lambda out: out.z)
    white = _white(loaded, loaded.decode(z[:100]))
    return Picture(lambda look: manifold(z, loaded.decode, shape, white, look), len(z))


def traversal(loaded: "Model", source: "Source", _examples: int) -> Picture:
    """Draw what is decoded along the principal directions of the codes."""
    import numpy as np

    from aecli import metrics
    from aecli.figures import traversal

    shape = loaded.schema.image_shape
    moments = metrics.Moments(loaded.scaler.inputs)

    def latent_rows(out: "Encoded") -> "Array":
        if shape is None:
            holes = loaded.scaler.holes(out.batch.x)
            moments.add(loaded.scaler.transform(out.batch.x), None if holes is None else ~holes)
        return out.z

    z, _ = _gathered(source, loaded.encoded(source), latent_rows)
    if shape is not None:
        white = _white(loaded, loaded.decode(z[:100]))
        return Picture(lambda look: traversal.images(z, loaded.decode, shape, white, look), len(z))
    spread = np.sqrt(moments.variance)

    def decode(codes: "Array") -> "Array":
        return (loaded.scaler.transform(loaded.decode(codes)) - moments.mean) / np.where(spread > 0, spread, 1)

    return Picture(lambda look: traversal.columns(z, decode, _input_names(loaded), look), len(z))


KINDS = {
    "latent": latent,
    "reconstruction": reconstruction,
    "errors": errors,
    "manifold": manifold,
    "traversal": traversal,
}


def _gathered(source: "Source", outputs: Any, values: Any) -> "tuple[Array, Array | None]":
    """Gather an array (N, ...) of what is computed of each batch, and the labels (N,), where they are known."""
    import numpy as np

    parts: list[Array] = []
    labels: list[Array] = []
    for out in outputs:
        parts.append(values(out))
        if out.batch.labels is not None:
            labels.append(np.asarray(out.batch.labels))
    if not parts:
        raise DataError(f"{source.name}: no rows to draw")
    gathered = np.concatenate(parts)
    if not np.isfinite(gathered).all():
        raise DataError(f"{source.name}: what the model gives is too large to be drawn")
    return gathered, np.concatenate(labels) if labels else None


def _examples_of(source: "Source", examples: int) -> "Array":
    """Choose rows (n, D) to show: the first of each label, in the labels' order, then whatever comes first."""
    import numpy as np

    first: dict[Any, Array] = {}
    others: list[Array] = []
    for batch in source.batches():
        labels = [None] * len(batch.x) if batch.labels is None else np.asarray(batch.labels).tolist()
        for row, label in zip(batch.x, labels, strict=True):
            if label is not None and label not in first:
                first[label] = row.copy()
            elif len(others) < examples:
                others.append(row.copy())
        if batch.labels is None and len(others) == examples:
            break
    try:
        order = sorted(first)
    except TypeError:
        order = sorted(first, key=str)
    chosen = [*(first[label] for label in order), *others][:examples]
    if not chosen:
        raise DataError(f"{source.name}: no rows to draw")
    return np.stack(chosen)


def _white(loaded: "Model", x: "Array") -> tuple[float, float]:
    """Return the values that are black and white: the full scale's, else the extremes of rows."""
    if loaded.schema.full_scale is not None:
        return loaded.schema.black, loaded.schema.full_scale
    low, high = float(x.min()), float(x.max())
    return low, high if high > low else low + 1


def _input_names(loaded: "Model") -> list[str]:
    """Name each of the model's inputs: a column, or `column = value` where it is one of categories."""
    schema = loaded.schema
    groups = zip(schema.names, schema.categories, strict=True)
    return [text for name, values in groups for text in ([f"{name} = {value}" for value in values] or [name])]
