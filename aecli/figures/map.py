"""The latent space as a page: one HTML file that holds codes, originals and the decoder, and needs no network.

Shape letters: N rows, M of them with their originals, D values a row, E inputs of the model, K latent values a row.
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
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from aecli.config import Schema
from aecli.data.formats import source_name
from aecli.data.source import Source
from aecli.errors import AecliError, DataError
from aecli.figures.principal import principal
from aecli.inference import Model
from aecli.model.layers import decoder_layers

Array = np.ndarray[Any, Any]
MAX_POINTS = 100_000
MAX_ORIGINAL_BYTES = 1 << 23  # 10,699 images of 28 by 28: a pixel is one byte, a value of a table four or eight
MAX_WEIGHTS = 25_000_000
MAX_COMPONENTS = 32
MAX_CLASSES = 64  # of more different numbers as labels, ranges are made
RANGES = 8
SCRIPTS = ("model.js", "backdrop.js", "scatter.js", "panel.js", "walk.js", "hands.js", "main.js")


@dataclass(frozen=True, slots=True)
class Page:
    """A page, the number of rows that are points in it, and sentences on what it leaves out."""

    html: bytes
    rows: int
    notes: tuple[str, ...]


def page(model: Model, source: Source) -> Page:
    """Make the page of a source's rows. Equal models and rows give equal bytes.

    It holds the codes of up to 100,000 rows, and as many originals as take 8 MiB; of more, those of a random sample.
    Raises DataError where there are no rows, AecliError where the decoder has more than 25 million weights, or its
    columns were scaled by quantiles.
    """
    layers = decoder_layers(model.checkpoint.model)
    count = sum(layer.in_dim * layer.out_dim + layer.out_dim for layer in layers)
    if count > MAX_WEIGHTS:
        raise AecliError(
            f"{model.name}: its decoder has {count:,} weights, and a page takes up to {MAX_WEIGHTS:,}",
            hint="--kind latent draws the codes alone",
        )
    tensors, scaler = model.tensors, model.scaler
    if scaler.knots is not None:
        raise AecliError(
            f"{model.name} was trained with --scale quantile, and a page cannot undo that",
            hint="--kind latent draws the codes alone; or train with --scale robust",
        )
    points, originals, rows = _sampled(model, source)
    found = principal(points["z"], MAX_COMPONENTS)
    notes = []
    if len(points["z"]) < rows:
        notes.append(f"the map shows {len(points['z']):,} of {rows:,} rows, drawn at random")
    if len(originals["x"]) < len(points["z"]):
        notes.append(f"the page holds the originals of {len(originals['x']):,} rows, drawn at random")
    facts: dict[str, Any] = {
        "model": Path(model.name).name,
        "data": source_name(source.name),
        "rows": rows,
        "notes": notes,
        "layers": [(layer.in_dim, layer.out_dim, layer.activation) for layer in layers],
        "shares": [round(float(share), 4) for share in found.shares],
        "label": source.schema.label or "label",
        "kept": {name: [*map(str, points[name].tolist())] for name in points.keys() - {"z", "mse", "row", "label"}},
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
    if "label" in points:
        facts["labels"], facts["classes"], numbers, classes = _classified(points["label"])
        blocks |= {"label-numbers": numbers, "class-numbers": classes}
    shown, block = _shown(originals["x"], model.schema)
    return Page(_assembled(facts | shown, blocks | block), len(points["z"]), tuple(notes))


class _Sample:
    """Up to `count` rows of a stream, those with the smallest random keys, in input order."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: list[dict[str, Array]] = []
        self._waiting = 0
        self._below = 1.0  # keys from here on are too large

    def add(self, columns: Mapping[str, Array]) -> None:
        """Consider rows; `columns` has their keys as "key", their numbers as "row"."""
        fits = columns["key"] < self._below
        if fits.any():
            self._parts.append({name: column[fits] for name, column in columns.items()})
            self._waiting += int(fits.sum())
        if self._waiting > 2 * self._count:
            self._prune()

    def rows(self) -> dict[str, Array]:
        """Return the rows."""
        self._prune()
        return self._parts[0] if self._parts else {}

    def _prune(self) -> None:
        if not self._parts:
            return
        whole = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        if len(whole["key"]) > self._count:
            smallest = np.sort(np.argpartition(whole["key"], self._count)[: self._count])
            whole = {name: column[smallest] for name, column in whole.items()}
            self._below = float(whole["key"].max())
        self._parts, self._waiting = [whole], len(whole["key"])


def _sampled(model: Model, source: Source) -> tuple[dict[str, Array], dict[str, Array], int]:
    """Stream the source through the model: N rows of it, M of these with their originals, and how many it has.

    The points are "z" (N, K), "mse", "row", and where known "label" and kept columns (N,); originals are "x" (M, D).
    """
    rng = np.random.default_rng(0)
    points, originals = _Sample(MAX_POINTS), None
    rows = 0
    for out in model.rebuilt(source):
        batch = out.batch
        if model.schema.full_scale is None:
            x = batch.x if batch.x.dtype == np.float32 else batch.x.astype(np.float64, copy=False)
        else:
            x = _bytes(batch.x, model.schema.black, model.schema.full_scale)
        if originals is None:
            originals = _Sample(min(MAX_POINTS, max(1, MAX_ORIGINAL_BYTES // max(1, x[:1].nbytes))))
        numbers = {"key": rng.random(len(x)), "row": np.arange(rows, rows + len(x))}
        labels = {} if batch.labels is None else {"label": _texts(batch.labels)}
        kept = {name: _texts(column) for name, column in batch.kept.items()}
        points.add({"z": out.z, "mse": out.mse} | labels | kept | numbers)
        originals.add({"x": x} | numbers)
        rows += len(x)
    if originals is None:
        raise DataError(f"{source.name}: no rows to draw")
    return {name: column for name, column in points.rows().items() if name != "key"}, originals.rows(), rows


def _texts(column: Any) -> Array:
    """Return a column (N,) of anything as text, empty where there is none."""
    cells = column.to_pylist() if hasattr(column, "to_pylist") else column.tolist()
    return np.array(["" if cell is None or cell != cell else str(cell) for cell in cells], object)  # noqa: PLR0124, NaN


def _bytes(x: Array, black: float, white: float) -> Array:
    """Return pixels from `black` to `white` as bytes."""
    return (
        x
        if x.dtype == np.uint8 and (black, white) == (0, 255)
        else np.rint(np.clip((np.nan_to_num(x) - black) / (white - black), 0, 1) * 255).astype(np.uint8)
    )


def _classified(labels: Array) -> tuple[list[str], list[str], Array, Array]:
    """List the different labels and their classes, and give each row's label, and each label's class, by number.

    A label is a class of its own, but more than 64 different numbers are cut into 8 ranges.
    """
    different = sorted(set(labels.tolist()) - {""})
    values = _finite(different)
    if values is not None:
        different = [different[i] for i in np.argsort(values, kind="stable")]
        values = np.sort(values, kind="stable")
    classes, of_label = different, np.arange(len(different))
    if values is not None and len(values) > MAX_CLASSES:
        edges = np.linspace(values[0], values[-1], RANGES + 1)
        classes = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
        of_label = np.clip(np.searchsorted(edges, values, "right") - 1, 0, RANGES - 1)
    if "" in labels:
        of_label = np.append(of_label, len(classes))
        different, classes = [*different, ""], [*classes, "(no label)"]
    number = {label: i for i, label in enumerate(different)}
    numbers = np.array([number[label] for label in labels.tolist()], np.uint32)
    return different, classes, numbers, of_label.astype(np.uint32)


def _finite(labels: list[str]) -> Array | None:
    """Return labels as numbers, None where not all are."""
    try:
        values = np.array([float(label) for label in labels])
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _shown(x: Array, schema: Schema) -> tuple[dict[str, Any], dict[str, Array | bytes]]:
    """Return what the page shows of originals: of images (M, D) a sprite, of a table's rows (M, D) their values."""
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
    """Return images (M, H, W, C) of bytes as one PNG, so many in a row of it."""
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
    """Put facts, blocks, style and script into the page. What comes from files can end neither a script nor a tag."""
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
    """Return the hash by which a content security policy knows a script or style. Source: CSP Level 3, section 6.7."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
