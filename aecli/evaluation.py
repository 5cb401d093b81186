"""Evaluate a model and its embedding on a stream of rows, compared to PCA, in memory that does not grow.

Shape letters: N rows of a sample, D raw values, E inputs of the model, K latent values.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli import metrics, search
from aecli.config import Schema
from aecli.data.digest import Digest
from aecli.data.formats import source_name
from aecli.data.labels import Labels, is_quantity, reads_as_number
from aecli.data.part import Part
from aecli.data.sample import Sample
from aecli.errors import DataError
from aecli.metrics import Quality
from aecli.model.held_out import learnable, trained_on
from aecli.model.scaler import Scaler

if TYPE_CHECKING:
    from aecli.inference import Model, Rebuilt

Array = np.ndarray[Any, Any]
SAMPLE_ROWS, SAMPLE_VALUES = 5_000, 1 << 25  # the first bounds time, the second the memory for wide rows
NEIGHBOURS = 15


@dataclass(frozen=True)
class Evaluation:
    """How good a model and its embedding are on a number of rows.

    The errors of `model` cover all rows; its other metrics use a random sample of `sample_rows`. `pca` uses the sample
    only, is fitted to it, and has as many `components` as the model keeps. `original` rates the rows themselves as
    codes, by the metrics of labels. `trained_rows` is the number of rows that the model was trained on, None if that is
    unknown. `codes` are the model's codes and the first values of nested ones, and if rows are vectors of one unit,
    other codes of as many values or bytes, all on the sample. `notes` are sentences for the user.
    """

    rows: int
    sample_rows: int
    trained_rows: int | None
    components: int
    model: Quality
    pca: Quality
    original: Quality
    codes: tuple[search.Code, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return all fields except the notes as plain JSON values."""
        values = {name: each.to_json() if isinstance(each, Quality) else each for name, each in vars(self).items()}
        del values["notes"]
        return values | {"codes": [code.to_json() for code in self.codes]}


def evaluate(
    model: "Model", outputs: "Iterable[Rebuilt]", name: str, labels: Array | Labels | None = None
) -> Evaluation:
    """Return how good a model is on rebuilt rows, which are read once. `name` is the name of the rows.

    `labels` are the labels of all rows, if the batches do not have them.
    Raises DataError if there are no rows, or another number of labels.
    """
    made, scaler = model.checkpoint, model.scaler
    moments, squares, found = metrics.Moments(scaler.inputs), np.zeros(scaler.inputs), Digest()
    in_all = labels if isinstance(labels, np.ndarray) else None
    sample, rng = Sample(max(2, min(SAMPLE_ROWS, SAMPLE_VALUES // scaler.inputs))), np.random.default_rng(0)
    for out in outputs:
        raw = out.batch.x
        if not len(raw):
            continue
        moments.add(scaler.transform(raw), out.there)
        squares += out.squares.sum(axis=0, dtype=np.float64)
        found.add(raw[learnable(made, raw)])
        if in_all is not None and len(in_all) < moments.rows:
            raise DataError(f"{name}: more rows than the {len(in_all):,} labels")
        columns = {"x": raw, "z": out.z, "key": rng.random(len(raw))}
        if (theirs := _of_batch(out, labels, moments.rows)) is not None:
            columns["label"] = _texts(theirs)
        sample.add(columns)
    if not moments.rows:
        raise DataError(f"{name}: no rows to evaluate")
    if in_all is not None and len(in_all) > moments.rows:
        raise DataError(f"{name}: {moments.rows:,} rows, and there are {len(in_all):,} labels")
    told = labels.check() if isinstance(labels, Labels) else []
    drawn = sample.rows()
    drawn = {column: values[np.argsort(drawn["key"])] for column, values in drawn.items()}  # random order of ties
    called = labels.name if isinstance(labels, Labels) else made.schema.label
    numbers, notes = _classes(drawn.get("label", np.full(len(drawn["z"]), "")), called)
    pca_errors, of_pca, more = _pca(model, drawn["x"])
    (own, pca, original), reasons = _compared(scaler.transform(drawn["x"]), drawn["z"], of_pca, numbers)
    trained = trained_on(made, name, found)
    trained_rows = None if trained is None else int(trained.sum())
    errors: dict[str, float | None] = _errors(squares, moments)
    codes, of_codes = _shortened(model, drawn["x"], drawn["z"], errors["mse"])
    if made.model.active is not None:
        errors |= zip(("active_values", "dead_latents"), metrics.activity(drawn["z"]), strict=True)
    return Evaluation(
        rows=moments.rows,
        sample_rows=len(drawn["z"]),
        trained_rows=trained_rows,
        components=made.model.kept,
        model=dataclasses.replace(own, **errors),
        pca=dataclasses.replace(pca, **pca_errors),
        original=original,
        codes=codes,
        notes=(
            *told,
            *_on_training(model, name, moments.rows, trained_rows),
            *_on_sample(moments.rows, len(drawn["z"])),
            *more,
            *reasons,
            *of_codes,
            *notes,
        ),
    )


def _of_batch(out: "Rebuilt", labels: Array | Labels | None, read: int) -> Any:
    """Return the labels of a batch, which is the last of the rows read so far."""
    if isinstance(labels, Labels):
        return labels.of(out.batch)
    return out.batch.labels if labels is None else labels[read - len(out.z) : read]


def _errors(squares: Array, moments: metrics.Moments) -> dict[str, float | None]:
    """Return `mse` and `explained_variance` from sums of squared errors (E,), None for equal rows."""
    error = float(squares.sum())
    explained = metrics.explained_variance(error, moments)
    return {"mse": error / float(moments.counts.sum()), "explained_variance": explained}


def _pca(model: "Model", raw: Array) -> tuple[dict[str, float | None], Array | None, list[str]]:
    """Fit PCA to raw rows (N, D), and return its errors on them, their codes (N, K), and a sentence for the user."""
    scaler, components = model.scaler, model.checkpoint.model.kept
    said = f"PCA with {components:,} component{'s' * (components != 1)}"
    if len(raw) <= components + 1:
        return {}, None, [f"{said} rebuilds so few rows exactly, and is left out"]
    fitted = metrics.pca(Part(raw), scaler, components)
    if fitted is None:
        return {}, None, [f"PCA is left out, because a row has {scaler.inputs:,} inputs"]
    x, holes, moments = scaler.transform(raw), scaler.holes(raw), metrics.Moments(scaler.inputs)
    moments.add(x, None if holes is None else ~holes)
    codes = fitted.encode(x)
    squares = np.square(fitted.decode(codes) - x)
    if holes is not None:
        squares[holes] = 0
    errors = _errors(squares.sum(axis=0), moments)
    return errors, codes, [f"{said} is fitted to these rows themselves, which favours it"]


def _shortened(model: "Model", raw: Array, z: Array, mse: float | None) -> tuple[tuple[search.Code, ...], list[str]]:
    """Return how good codes (N, K) of raw rows (N, D) are, the first values of nested ones, and other codes.

    Also return sentences for the user. Both are empty if codes are not nested and rows are not vectors of one unit.
    Sparse codes are not for a search by cosine.
    """
    made, notes, found = model.checkpoint, list[str](), dict[str, search.Code]()
    coded = {"model": z, **{f"model, first {width:,}": z[:, :width] for width in model.prefixes}}
    if not np.isfinite(z).all():
        return (), []
    if made.model.active is None and search.is_of_one_unit(made.schema, made.train.recipe):
        x = search.filled(raw, model.scaler.fill)
        asked = len(search.have_cosine(x))
        if len(x) <= search.NEAREST + 1:
            notes = [f"recall@10 needs more than {search.NEAREST + 1} rows, and there are {len(x):,}"]
        elif not asked:
            notes = ["recall@10 is left out: all rows are zeros, which have no cosine"]
        else:
            zeros = f"; the {len(x) - asked:,} of zeros have no cosine" * (asked < len(x))
            notes = [f"recall@10: each of {asked:,} rows is searched for among the others, by cosine{zeros}"]
            every = coded | {f"model, {search.INT8}": search.int8(z)} | _by_pca(x, made.model.kept, made.schema)
            found = search.compare(x, x, {name: (codes, codes) for name, codes in every.items()}, themselves=True)
    if not found and not model.prefixes:
        return (), notes
    errors = {"model": mse} | {
        f"model, first {width:,}": _prefix_error(model, raw, z, width) for width in model.prefixes
    }
    codes = {name: search.Code(name, values.shape[1]) for name, values in coded.items()} | found
    return tuple(dataclasses.replace(code, mse=errors.get(name)) for name, code in codes.items()), notes


def _by_pca(x: Array, values: int, schema: Schema) -> dict[str, Array]:
    """Return the codes of rows (N, D) by PCA: with as many values, and as int8 with as many bytes.

    Nothing if there are so few rows that PCA would rebuild all exactly, or if rows are so wide that it would take too
    long.
    """
    plain = Scaler("none", np.zeros(1), np.ones(1), None, schema)
    more = min(search.FLOAT_BYTES * values, x.shape[1], len(x) - 2)
    fitted = None if len(x) <= values + 1 else metrics.pca(Part(x), plain, max(values, more), centred=False)
    if fitted is None:
        return {}
    codes = fitted.encode(x)
    whole = {f"PCA, {search.INT8}": search.int8(codes)} if more > values else {}
    return {"PCA": codes[:, :values]} | whole


def _prefix_error(model: "Model", raw: Array, z: Array, width: int) -> float:
    """Return the mean squared error of raw rows (N, D) rebuilt from the first values of their codes (N, K)."""
    first = np.where(np.arange(z.shape[1]) < width, z, 0)
    squares = np.square(model.decoded_inputs(first) - model.scaler.transform(raw))
    holes = model.scaler.holes(raw)
    return float(squares.mean() if holes is None else squares[~holes].mean())


def _compared(x: Array, z: Array, pca: Array | None, labels: Array) -> tuple[list[Quality], list[str]]:
    """Return the quality of the codes `z` (N, K) of rows (N, E), of PCA's codes if there are any, and of the rows.

    Also return sentences on metrics that cannot be computed.
    """
    neighbours = "trustworthiness, continuity, knn_recall"
    nothing, of_rows = [Quality()] * 3, f"{neighbours}, rank_correlation and metrics of labels"
    if not np.isfinite(z).all():
        return nothing, [f"{of_rows} are left out: the output of the model is too large"]
    for what, values in (("rows", x), ("codes", z)):
        if np.ptp(values, axis=0).max() <= metrics.SAME * np.abs(values).max():
            return nothing, [f"{of_rows} are left out: all {what} are the same"]
    reasons = []
    if len(x) <= 2 * NEIGHBOURS:
        what = f"{neighbours} and knn_accuracy" if (labels >= 0).any() else neighbours.replace(", knn", " and knn")
        reasons.append(f"{what} need more than {2 * NEIGHBOURS} rows, and there are {len(x)}")
    if len(x) <= 2:
        reasons.append(f"rank_correlation needs more than 2 rows, and there are {len(x)}")
    spaces = [metrics.Points(codes) for codes in (z, pca) if codes is not None]
    found = metrics.compare(metrics.Points(x), spaces, NEIGHBOURS, labels)
    if found[0].rank_correlation is not None and np.isnan(found[0].rank_correlation):
        reasons.append("rank_correlation is left out: all distances are the same")
    return (found if pca is not None else [found[0], Quality(), found[1]]), reasons


def _texts(labels: Any) -> Array:
    """Return labels (N,) of any type as text, empty if there is none."""
    cells = labels.to_pylist() if hasattr(labels, "to_pylist") else np.asarray(labels).tolist()
    return np.array(["" if cell is None or cell != cell else str(cell) for cell in cells], object)  # noqa: PLR0124, NaN


def _classes(labels: Array, name: str | None) -> tuple[Array, list[str]]:
    """Return the numbers of labels (N,), which are texts: from 0, and -1 for none. All are -1 if labels are no classes.

    Also return a sentence that says why they are no classes.
    """
    known = labels != ""
    different, of = np.unique(labels[known].astype(str), return_inverse=True)
    numbers = np.full(len(labels), -1)
    wanting = "knn_accuracy and silhouette are left out"
    if not known.any():
        return numbers, [f"no labels: {wanting}; --label names a column of them, or FILE:COLUMN"]
    said = f"{wanting}: the label{'' if name is None else f' {name!r}'} has"
    if len(different) == 1:
        return numbers, [f"{said} one value"]
    if 2 * len(different) > known.sum():
        return numbers, [f"{said} {len(different):,} values in {known.sum():,} rows"]
    if is_quantity(different.tolist()):
        what = "numbers" if reads_as_number(different[0]) else "dates"
        return numbers, [f"{said} {len(different):,} different {what}, and is no class"]
    numbers[known] = of
    return numbers, []


def _on_training(model: "Model", name: str, rows: int, trained: int | None) -> list[str]:
    """Return sentences on how many of the rows the model was, or may have been, trained on."""
    made = model.checkpoint
    if trained is None:
        same = made.source is not None and source_name(name) == made.source
        return [f"{name} may hold rows that the model was trained on: it has the name of their data"] * same
    if not trained:
        return []
    said = f"the model was trained on {trained:,} of these {rows:,} rows"
    if made.results.test_mse is None:
        return [f"{said}, and its mse on others may be higher"]
    pca = "" if made.results.pca_mse is None else f", PCA's {made.results.pca_mse:.4g}"
    return [f"{said}; on those that training held out its mse is {made.results.test_mse:.4g}{pca}"]


def _on_sample(rows: int, drawn: int) -> list[str]:
    """Return a sentence on the metrics that use a sample of the rows, if it is not all of them."""
    if drawn == rows:
        return []
    return [
        f"the model's mse and explained_variance cover all {rows:,} rows; all else uses a random sample of {drawn:,}"
    ]
