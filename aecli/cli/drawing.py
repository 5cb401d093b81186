"""Compute the arrays that each kind of picture needs, from a model and rows, for aecli.figures."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aecli.config import PCA
from aecli.errors import AecliError, DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from aecli.data.labels import Labels
    from aecli.data.source import Source
    from aecli.figures.style import Look
    from aecli.inference import Encoded, Model, Scored
    from aecli.model.checkpoint import Checkpoint

    Array = np.ndarray[Any, Any]

LOSSES = {"mse": "mean squared error", "bce": "cross-entropy", "huber": "Huber loss"}


@dataclass(frozen=True)
class Asked:
    """The user's choices: the number of `examples`, and the labels that `colour` the rows.

    `held_out` (N,) is True for rows that were held out of training, None if that is unknown.
    """

    examples: int
    colour: "Labels"
    held_out: "Array | None" = None


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn in any look, and its number of rows.

    `fitting` returns how many of the rows fit in a look. `notes` are sentences for the user.
    """

    draw: "Callable[[Look], Figure]"
    rows: int = 0
    fitting: "Callable[[Look], int] | None" = None
    notes: tuple[str, ...] = ()


def history(checkpoint: "Checkpoint", name: str) -> Picture:
    """Draw the history of a run, which needs no rows."""
    from aecli.figures.history import history

    if checkpoint.train.init == PCA:
        raise AecliError(f"{name} is PCA, and nothing was trained", hint="--kind errors draws how strange the rows are")
    results, loss = checkpoint.results, LOSSES[checkpoint.train.loss]
    pca_mse = None if results.train_loss is not None else results.pca_mse
    loss += " + KL" * bool(results.kl)
    return Picture(lambda look: history(checkpoint.history, pca_mse, look, loss))


def latent(loaded: "Model", source: "Source", asked: Asked) -> Picture:
    """Draw all latent rows."""
    from aecli.figures.latent import latent

    z, labels = _gathered(source, loaded.encoded(source), lambda out: out.z, asked.colour)
    notes = (*asked.colour.check(), *["the picture is one dot: there is one row"] * (len(z) == 1))
    return Picture(lambda look: latent(z, labels, look, name=asked.colour.name), len(z), notes=notes)


def errors(loaded: "Model", source: "Source", asked: Asked) -> Picture:
    """Draw the distribution of the scores of all rows, or of their errors if the model has no score."""
    import numpy as np

    from aecli.figures import errors as figure
    from aecli.figures.examples import Strangest

    name = asked.colour.name
    if loaded.checkpoint.score is None:
        mse, labels = _gathered(source, loaded.rebuilt(source), lambda out: out.mse, asked.colour)
        notes = tuple(asked.colour.check())
        return Picture(lambda look: figure.errors(mse, labels, look, name=name), len(mse), notes=notes)
    shape = loaded.schema.image_shape
    strangest = None if shape is None else Strangest(figure.STRANGEST, shape)

    def score(out: "Scored") -> "Array":
        if strangest is not None:
            strangest.add(out)
        return np.minimum(out.score, np.finfo(np.float32).max)  # infinity is drawn at the end of the axis

    scores, labels = _gathered(source, loaded.scored(source), score, asked.colour)
    white = (0.0, 1.0) if strangest is None else _white(loaded, strangest.x)

    def draw(look: "Look") -> "Figure":
        return figure.scores(scores, loaded.scoring, labels, look, name=name, strangest=strangest, white=white)

    return Picture(draw, len(scores), notes=tuple(asked.colour.check()))


def reconstruction(loaded: "Model", source: "Source", asked: Asked) -> Picture:
    """Draw some images, or all columns of a table."""
    import numpy as np

    from aecli import metrics
    from aecli.figures import reconstruction
    from aecli.figures.examples import Examples

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
    examples, first = Examples(asked.examples), 0
    for out in loaded.rebuilt(source):
        held_out = None if asked.held_out is None else asked.held_out[first : first + len(out.z)]
        if held_out is not None and len(held_out) < len(out.z):
            raise DataError(f"{source.name}: changed while it was read")
        examples.add(out, held_out)
        first += len(out.z)
    if (chosen := examples.chosen()) is None:
        why = "the output of the model is too large to be drawn" if first else "no rows to draw"
        raise DataError(f"{source.name}: {why}")
    x, origins = chosen.x, chosen.origins
    recon, mse, white = loaded.reconstruct(x), loaded.errors(x), _white(loaded, x)
    x, recon = x.reshape(-1, *shape), recon.reshape(-1, *shape)

    def fitting(look: "Look") -> int:
        return reconstruction.fitting(shape, len(x), look, origins)

    def draw(look: "Look") -> "Figure":
        shown = fitting(look)
        return reconstruction.images(x[:shown], recon[:shown], mse[:shown], white, look, origins)

    return Picture(draw, len(x), fitting)


def manifold(loaded: "Model", source: "Source", _asked: Asked) -> Picture:
    """Draw the images decoded from a plane through the codes."""
    from aecli.figures.manifold import manifold

    values, shape = loaded.checkpoint.model.latent_dim, loaded.schema.image_shape
    if values < 2:
        raise UsageError(f"a manifold lies on a plane, and {loaded.name} has one latent value", hint="--kind traversal")
    if shape is None:
        raise UsageError(f"a manifold is of images, and {loaded.name} rebuilds tables", hint="--kind traversal")
    z, _ = _gathered(source, loaded.encoded(source), lambda out: out.z)
    white = _white(loaded, loaded.decode(z[:100]))
    return Picture(lambda look: manifold(z, loaded.decode, shape, white, look), len(z))


def samples(loaded: "Model") -> Picture:
    """Draw the images decoded from draws of the mixture of the training codes, which needs no rows."""
    from aecli.figures import samples as figure

    shape = loaded.schema.image_shape
    if shape is None:
        raise UsageError(
            f"samples are drawn as images, and {loaded.name} rebuilds tables",
            hint=shlex.join(["aecli", "decode", str(loaded.path), "--samples", "10"]),
        )
    white = _white(loaded, loaded.sample(100))
    gaussians, rows = loaded.checkpoint.mixture or 0, figure.ON_PAPER[0] * figure.ON_PAPER[1]
    return Picture(lambda look: figure.samples(loaded.sample, gaussians, shape, white, look), rows)


def traversal(loaded: "Model", source: "Source", _asked: Asked) -> Picture:
    """Draw the rows decoded along the principal directions of the codes."""
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


def _gathered(
    source: "Source", outputs: Any, values: Any, colour: "Labels | None" = None
) -> "tuple[Array, Array | None]":
    """Return the `values` of all batches as one array (N, ...), and the labels (N,) that colour the rows, if any."""
    import numpy as np

    parts: list[Array] = []
    labels: list[Array] = []
    for out in outputs:
        parts.append(values(out))
        if colour is not None and (coloured := colour.of(out.batch)) is not None:
            labels.append(coloured)
    if not parts:
        raise DataError(f"{source.name}: no rows to draw")
    gathered = np.concatenate(parts)
    if not np.isfinite(gathered).all():
        raise DataError(f"{source.name}: the output of the model is too large to be drawn")
    return gathered, np.concatenate(labels) if labels else None


def _white(loaded: "Model", x: "Array") -> tuple[float, float]:
    """Return the values of black and white: those of the full scale, else the extremes of the rows."""
    if loaded.schema.full_scale is not None:
        return loaded.schema.black, loaded.schema.full_scale
    low, high = float(x.min()), float(x.max())
    return low, high if high > low else low + 1


def _input_names(loaded: "Model") -> list[str]:
    """Return the names of the model's inputs: a column, or `column = value` for a column of categories."""
    schema = loaded.schema
    groups = zip(schema.names, schema.categories, strict=True)
    return [text for name, values in groups for text in ([f"{name} = {value}" for value in values] or [name])]
