"""The latent space as a page: one HTML file with codes, originals and the decoder, which needs no network.

Shape letters: N rows, M of them with originals, D values per row, E inputs of the model, K latent values per row.
"""

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from aecli.config import Schema
from aecli.data.formats import source_name
from aecli.data.labels import MOST_NUMBERS, Labels, dates, is_quantity
from aecli.data.sample import Sample
from aecli.data.source import Source
from aecli.errors import AecliError, DataError
from aecli.figures.labels import NONE, RANGES, numbers, ranges
from aecli.figures.principal import principal
from aecli.figures.style import number
from aecli.inference import Model, Scored
from aecli.model.layers import Layer, decoder_layers
from aecli.scoring import Score

Array = np.ndarray[Any, Any]
MAX_POINTS = 100_000
MAX_ORIGINAL_BYTES = 1 << 23  # 10,699 images of 28 by 28: a pixel is one byte, a value of a table four or eight
MAX_WEIGHTS = 25_000_000
MAX_COMPONENTS = 32
LARGEST = np.finfo(np.float32).max  # stands for an infinite score
KEPT = "kept: "  # prefix of the names of kept columns, so that they differ from other names
SCRIPTS = ("model.js", "backdrop.js", "scatter.js", "panel.js", "walk.js", "hands.js", "main.js")


@dataclass(frozen=True, slots=True)
class Page:
    """A page, the number of rows shown as points, and notes on what it leaves out."""

    html: bytes
    rows: int
    notes: tuple[str, ...]


def page(model: Model, source: Source, colour: Labels | None = None) -> Page:
    """Return the page of a source's rows, coloured by `colour` at first. Equal models and rows give equal bytes.

    It holds the codes of up to 100,000 rows, and as many originals as fit in 8 MiB; if there are more, those of a
    random sample. If the model has a score, rows whose p is at most alpha are outlined, and lie above the others.
    Raises DataError if there are no rows, AecliError if the decoder has more than 25 million weights, or if its columns
    were scaled by quantiles.
    """
    layers = decoder_layers(model.checkpoint.model)
    count = sum(math.prod(shape) for layer in layers for shape in layer.shapes)
    if count > MAX_WEIGHTS:
        raise AecliError(
            f"{model.name}: its decoder has {count:,} weights, and a page can hold up to {MAX_WEIGHTS:,}",
            hint="--kind latent -o codes.png draws the codes alone",
        )
    tensors, scaler = model.tensors, model.scaler
    if scaler.knots is not None:
        raise AecliError(
            f"{model.name} was trained with --scale quantile, and a page cannot undo that",
            hint="--kind latent -o codes.png draws the codes alone; or train with --scale robust",
        )
    colour = colour or Labels(source)
    points, originals, rows = _sampled(model, source, colour)
    found = principal(points["z"], MAX_COMPONENTS)
    notes = colour.check()
    if len(points["z"]) < rows:
        notes.append(f"the map shows {len(points['z']):,} of {rows:,} rows, drawn at random")
    if len(originals["x"]) < len(points["z"]):
        notes.append(f"the page holds the originals of {len(originals['x']):,} rows, drawn at random")
    facts: dict[str, Any] = {
        "model": Path(model.name).name,
        "data": source_name(source.name),
        "rows": rows,
        "notes": notes,
        "layers": [(layer.in_dim, layer.out_dim, layer.activation, _convolution(layer)) for layer in layers],
        "shares": [round(float(share), 4) for share in found.shares],
        "label": source.schema.label or "label",
        "kept": {name.removeprefix(KEPT): column.tolist() for name, column in points.items() if name.startswith(KEPT)},
    }
    blocks: dict[str, Array | bytes] = {
        "weights": np.concatenate(
            [tensors[f"{at.name}.{part}"].ravel() for at in layers for part in ("weight", "bias")]
        ),
        "scale": np.broadcast_to(scaler.scale, scaler.inputs),
        "shift": np.broadcast_to(scaler.shift, scaler.inputs),
        "codes": points["z"],
        "mse": points["mse"],
        "mean": found.mean.astype(np.float32),
        "components": found.directions.astype(np.float32),
        "row-numbers": points["row"].astype(np.uint32),
        "held": np.searchsorted(points["row"], originals["row"]).astype(np.uint32),
    }
    if "score" in points:
        facts |= {"alpha": model.scoring.alpha, "threshold": model.scoring.threshold}
        blocks |= {"scores": points["score"], "p": points["p"].astype(np.float32)}
    if "label" in points:
        different, of = np.unique(points["label"], return_inverse=True)
        facts["labels"], blocks["label-numbers"] = different.tolist(), of.astype(np.uint32)
    colours = _colours(points, facts["label"], colour)
    if "score" in points:
        colours.append(_Colouring("score (nats)", *_by_score(points["score"], model.scoring), ranged=True))
    first = next((i for i, each in enumerate(colours) if each.asked), 0)
    facts |= {"colour": first, "colours": [{"name": c.name, "classes": c.classes, "ranged": c.ranged} for c in colours]}
    blocks |= {f"colour-{i}": each.of.astype(np.uint32) for i, each in enumerate(colours)}
    shown, block = _shown(originals["x"], model.schema)
    return Page(_assembled(facts | shown, blocks | block), len(points["z"]), tuple(notes))


def _convolution(layer: Layer) -> dict[str, Any] | None:
    """Return what the page needs to know about a transposed convolution."""
    at = layer.convolution
    return (
        None if at is None else {"images": at.images, "kernel": at.kernel, "stride": at.stride, "padding": at.padding}
    )


def _sampled(model: Model, source: Source, colour: Labels) -> tuple[dict[str, Array], dict[str, Array], int]:
    """Stream the source through the model. Return a sample of N rows, M of them with originals, and the row count.

    The points are "z" (N, K), "mse", "row", and if known "score", "p", "label" and kept columns (N,), whose names begin
    with KEPT; the originals are "x" (M, D).
    """
    rng, label_name = np.random.default_rng(0), source.schema.label or "label"
    points, originals = Sample(MAX_POINTS), None
    rows = 0
    for out in model.rebuilt(source) if model.checkpoint.score is None else model.scored(source):
        batch = out.batch
        if model.schema.full_scale is None:
            x = batch.x if batch.x.dtype == np.float32 else batch.x.astype(np.float64, copy=False)
        else:
            x = _bytes(batch.x, model.schema.black, model.schema.full_scale)
        if originals is None:
            originals = Sample(min(MAX_POINTS, max(1, MAX_ORIGINAL_BYTES // max(1, x[:1].nbytes))))
        drawn = {"key": rng.random(len(x)), "row": np.arange(rows, rows + len(x))}
        labels = {} if batch.labels is None else {"label": _texts(batch.labels)}
        kept = {KEPT + name: _texts(column) for name, column in batch.kept.items()}
        coloured = colour.of(batch)
        if colour.beside is not None and coloured is not None:
            taken = colour.name in (*batch.kept, label_name)
            kept[f"{KEPT}{colour.word if taken else colour.name}"] = _texts(coloured)
        scored = {"score": np.minimum(out.score, LARGEST), "p": out.p} if isinstance(out, Scored) else {}
        points.add({"z": out.z, "mse": out.mse} | scored | labels | kept | drawn)
        originals.add({"x": x} | drawn)
        rows += len(x)
    if originals is None:
        raise DataError(f"{source.name}: no rows to draw")
    return {name: column for name, column in points.rows().items() if name != "key"}, originals.rows(), rows


def _texts(column: Any) -> Array:
    """Return any column (N,) as text, "" for missing values."""
    cells = column.to_pylist() if hasattr(column, "to_pylist") else column.tolist()
    return np.array(["" if cell is None or cell != cell else str(cell) for cell in cells], object)  # noqa: PLR0124, NaN


def _bytes(x: Array, black: float, white: float) -> Array:
    """Return pixels from `black` to `white` as bytes."""
    return (
        x
        if x.dtype == np.uint8 and (black, white) == (0, 255)
        else np.rint(np.clip((np.nan_to_num(x) - black) / (white - black), 0, 1) * 255).astype(np.uint8)
    )


@dataclass(frozen=True, slots=True)
class _Colouring:
    """One way to colour the points: the names of its classes, and the class of each point, `of` (N,).

    `ranged` is True if the classes are ranges of numbers; `asked` if the page starts with this colouring.
    """

    name: str
    classes: list[str]
    of: Array
    ranged: bool
    asked: bool = False


def _colours(points: Mapping[str, Array], label: str, colour: Labels) -> list[_Colouring]:
    """Return all ways to colour the points: by the label, by kept columns, and by the error.

    A column of texts in which almost every row differs is left out, unless the user asked for it.
    """
    columns = {label: points["label"]} if "label" in points else {}
    columns |= {name.removeprefix(KEPT): values for name, values in points.items() if name.startswith(KEPT)}
    found = []
    for name, values in columns.items():
        asked = name in (colour.name, colour.word) and (colour.beside is None or name != label)
        classes, of, ranged = _classified(values)
        if asked or name == label or len(classes) <= max(MOST_NUMBERS, len(values) // 4):
            found.append(_Colouring(name, classes, of, ranged, asked))
    return [*found, _Colouring("error (mse)", *_by_error(points["mse"]), ranged=True)]


def _classified(labels: Array) -> tuple[list[str], Array, bool]:
    """Return labels (N,), which are texts, as classes: their names, each row's class, and whether they are ranges.

    Each label is a class, but more than 64 different numbers or dates are cut into 8 ranges.
    """
    different = sorted(set(labels.tolist()) - {""})
    known = np.array(different, object)
    values, dated = numbers(known), dates(known) is not None
    if values is not None and not np.isfinite(values).all():
        values = None
    if values is not None:
        different = [different[i] for i in np.argsort(values, kind="stable")]
        values = np.sort(values, kind="stable")
    classes, of_label, ranged = different, np.arange(len(different)), False
    if values is not None and is_quantity(different):
        edges = np.linspace(values[0], values[-1], RANGES + 1)
        classes, ranged = ranges(edges, 4, dated=dated), True
        of_label = np.clip(np.searchsorted(edges, values, "right") - 1, 0, RANGES - 1)
    if "" in labels:
        of_label = np.append(of_label, len(classes))
        different, classes = [*different, ""], [*classes, NONE]
    place = {label: i for i, label in enumerate(different)}
    return classes, of_label[[place[label] for label in labels.tolist()]], ranged


def _by_error(mse: Array) -> tuple[list[str], Array]:
    """Return up to 8 ranges of errors (N,) with equally many rows: their names, and each row's range."""
    return _cut(mse, RANGES)


def _by_score(scores: Array, score: Score) -> tuple[list[str], Array]:
    """Return ranges of scores (N,): one for anomalies, if there are any, and up to 7 for the other rows."""
    strange = scores >= score.threshold
    names, of = list[str](), np.zeros(len(scores), int)
    if not strange.all():
        names, of[~strange] = _cut(scores[~strange], RANGES - 1)
    if strange.any():
        of[strange] = len(names)
        names.append(f"{number(score.threshold)} and more: p ≤ {number(score.alpha, 2)}")
    return names, of


def _cut(values: Array, most: int) -> tuple[list[str], Array]:
    """Return up to `most` ranges of numbers (N,) with equally many rows: their names, and each row's range."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, most + 1)))
    if len(edges) < 2:
        return [number(values[0])], np.zeros(len(values), int)
    names = ranges(edges)
    return names, np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(names) - 1)


def _shown(x: Array, schema: Schema) -> tuple[dict[str, Any], dict[str, Array | bytes]]:
    """Return what the page shows for originals (M, D): a sprite for images, the values for a table's rows."""
    if schema.image_shape is not None and schema.full_scale is not None:
        height, width, channels = (*schema.image_shape, 1)[:3]
        across = max(1, round(math.sqrt(len(x) * height / width)))
        facts = {
            "image": (height, width, channels),
            "black": schema.black,
            "white": schema.full_scale,
            "across": across,
        }
        return facts, {"sprite": _sprite(x.reshape(-1, height, width, channels), across)}
    wide = x.dtype == np.float64
    facts = {
        "columns": schema.names,
        "kinds": schema.kinds,
        "categories": schema.categories,
        "wide": wide,
    }
    return facts, {"originals": x if wide else x.astype(np.float32)}


def _sprite(images: Array, across: int) -> bytes:
    """Return uint8 images (M, H, W, C) as one PNG, with `across` images per line."""
    from PIL import Image

    count, height, width, channels = images.shape
    down = -(-count // across)
    grid = np.zeros((down * across, height, width, channels), np.uint8)
    grid[:count] = images
    sheet = grid.reshape(down, across, height, width, channels).swapaxes(1, 2)
    sheet = sheet.reshape(down * height, across * width, channels)
    stream = io.BytesIO()
    Image.fromarray(sheet[..., 0] if channels == 1 else sheet).save(stream, "png")
    return stream.getvalue()


def _assembled(facts: Mapping[str, Any], blocks: Mapping[str, Array | bytes]) -> bytes:
    """Return the page with facts, blocks, style and script. Text from files cannot end a script or a tag."""
    folder = resources.files("aecli.figures") / "page"
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{script}}})();\n'
    style = (folder / "page.css").read_text(encoding="utf-8")
    text = json.dumps(facts, ensure_ascii=True, sort_keys=True, allow_nan=False).replace("<", "\\u003c")
    holes = {
        "title": html.escape(f"{facts['model']}: {facts['data']}"),
        "style": style,
        "script": script,
        "style-hash": _hash(style),
        "script-hash": _hash(script),
        "facts": text,
        "blocks": "\n".join(_block(name, block) for name, block in blocks.items()),
    }
    before, *rest = (folder / "page.html").read_text(encoding="utf-8").split("{{")
    parts = [before]
    for piece in rest:
        name, _, after = piece.partition("}}")
        parts += [holes[name], after]
    return "".join(parts).encode(errors="replace")


def _block(name: str, block: Array | bytes) -> str:
    raw = block if isinstance(block, bytes) else np.ascontiguousarray(block, block.dtype.newbyteorder("<")).tobytes()
    return f'<script type="text/plain" id="{name}">{base64.b64encode(raw).decode()}</script>'


def _hash(text: str) -> str:
    """Return the hash of a script or style for a content security policy. Source: CSP Level 3, section 6.7."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
