"""Export a model as an ONNX file for rows in raw units, which includes scaling, holes and categories.

The graph around the network mirrors `model/scaler.py`. Not every runtime computes in float64, so everything but
`quantile` is float32 if its digits are enough.
Shape letters: N rows, D values of a row, E inputs of the network, K latent values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from aecli.config import ModelConfig, Schema, prefixes
from aecli.errors import UsageError
from aecli.model.checkpoint import KNOTS, Checkpoint
from aecli.model.layers import decoder_layers, encoder_layers
from aecli.model.onnx_graph import Graph, Shape
from aecli.model.scaler import LARGEST, Scaler

PARTS = ("all", "encoder", "decoder")
MOST, LEAST = 1e30, 1e-30  # the range of shifts and scales for float32

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Exported:
    """An ONNX file, and its inputs and outputs, each as a name, a type and a shape."""

    data: bytes
    takes: tuple[str, ...]
    gives: tuple[str, ...]


def to_onnx(made: Checkpoint, tensors: Mapping[str, Array], scaler: Scaler, part: str = "all") -> Exported:
    """Return a model as an ONNX file with the input `x`, rows, and the outputs `z`, latent rows, and `recon`.

    The part `encoder` has the input `x` and the output `z`; the `decoder` has the input `z` and the output `recon`.
    Equal models have equal bytes.
    Raises AecliError if the package onnx is not installed, or the weights are too large for an ONNX file; UsageError
    for an unknown part.
    """
    if part not in PARTS:
        raise UsageError(f"part is {part!r}, and must be one of {', '.join(PARTS)}")
    graph, config, rows = Graph(), made.model, Rows(made.schema, scaler)
    codes: Shape = ("N", config.latent_dim)
    lost = None  # which rows (N, 1) the model cannot use
    if part == "decoder":
        z = graph.input("z", np.float32, codes, "Latent rows.")
    else:
        x, lost = rows.to_model(graph, graph.input("x", rows.number, rows.shape, rows.about))
        z = graph.layers(x, encoder_layers(config), _means_alone(config, tensors))
        z = z if config.active is None else graph.sparse(z, config.active)
        z = graph.output("z", _blanked(graph, z, lost), np.float32, codes, "Latent rows.")
    if part != "encoder":
        recon = _blanked(graph, graph.layers(z, decoder_layers(config), tensors), lost)
        recon = rows.to_raw(graph, recon)
        graph.output("recon", recon, rows.number, rows.shape, "Rebuilt rows, in the form of x.")
    metadata = rows.metadata()
    if made.train.nested:
        metadata["prefixes"] = prefixes(config.latent_dim)
    about = "An autoencoder. Rows are in the units of the data. The metadata say what their values are."
    return Exported(graph.to_bytes(about, metadata), tuple(graph.takes), tuple(graph.gives))


def _means_alone(config: ModelConfig, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return tensors without the variances of a variational encoder: only the means stay."""
    last = encoder_layers(config)[-1].name
    ends = (f"{last}.weight", f"{last}.bias")
    return {**tensors, **{name: tensors[name][: config.latent_dim] for name in ends}}


def _blanked(graph: Graph, x: str, lost: str | None) -> str:
    """Return rows with NaN in those that are lost."""
    return x if lost is None else graph.add("Where", lost, np.array(np.nan, np.float32), x)


class Rows:
    """The rows of a model in its graph: their type, their shape, and their conversion to the network's inputs and back.

    Images have the shape of the training images. Rows are float32, or float64 if a column needs more digits.
    """

    def __init__(self, schema: Schema, scaler: Scaler) -> None:
        self._schema, self._scaler = schema, scaler
        self._turned = schema.channels_first and len(schema.image_shape or ()) == 3
        sizes = np.abs(np.concatenate([scaler.shift, scaler.scale] + ([] if scaler.knots is None else [*scaler.knots])))
        fits = sizes.max() < MOST and scaler.scale.min() > LEAST
        self.number = np.dtype(np.float32 if fits and not any(scaler.decimals[1]) else np.float64)
        self._inside = self.number if scaler.knots is None else np.dtype(np.float64)

    @property
    def shape(self) -> Shape:
        """The shape of rows: (N, D), or the shape of the training images."""
        image = self._schema.image_shape or (self._schema.inputs,)
        return ("N", *image[2:], *image[:2]) if self._turned else ("N", *image)

    @property
    def about(self) -> str:
        """The description of rows, in a sentence."""
        schema = self._schema
        if schema.image_shape is None:
            return "Rows. NaN is a hole. A category is its index in the list of its column, -1 if it is not in it."
        if schema.full_scale is None:
            return "Images."
        return f"Images. {schema.black:g} is black, {schema.full_scale:g} is white."

    def metadata(self) -> dict[str, Any]:
        """Return the meaning of a row's values, as JSON values: `image`, or `columns` if the data has columns."""
        schema = self._schema
        if (image := schema.image_shape) is not None:
            layout = "HW" if len(image) == 2 else "CHW" if self._turned else "HWC"
            return {"image": {"layout": layout, "black": schema.black, "white": schema.full_scale}}
        columns = []
        firsts = accumulate((column.width for column in schema.columns), initial=0)
        for name, column, first in zip(schema.column_names, schema.columns, firsts, strict=False):
            said: dict[str, Any] = {"name": name, "kind": column.kind, "first": first, "width": column.width}
            said |= {"categories": column.categories, "other": column.other} if column.categories else {}
            columns.append(said | ({"words": column.words} if column.words else {}))
        return {"columns": columns} if columns else {}

    def to_model(self, graph: Graph, x: str) -> tuple[str, str]:
        """Return raw rows as float32 rows (N, E) in the model's units, see `Scaler.transform`, and lost rows (N, 1).

        Lost are rows without any value, and, if the model does not fill holes, all rows with holes.
        """
        scaler, inside = self._scaler, self._inside
        if self._turned:
            x = graph.add("Transpose", x, perm=(0, 2, 3, 1))
        x = x if len(self.shape) == 2 else graph.shaped(x, self._schema.inputs)
        x = graph.cast(x, inside) if inside != self.number else x
        x, holes = self._encoded(graph, x)
        if scaler.knots is not None:
            x = _piecewise(graph, x, scaler.ranks.columns)
        high = scaler.shift.astype(inside)
        low = (scaler.shift - high).astype(inside)  # the digits beyond float32
        for shift in (high, low):
            x = graph.add("Sub", x, shift) if shift.any() else x
        x = graph.add("Div", x, scaler.scale.astype(inside))
        x = graph.cast(x, np.float32) if inside != np.float32 else x
        limits = (np.array(limit, np.float32) for limit in (-LARGEST, LARGEST))
        filling = np.zeros(1, np.float32) if scaler.filling is None else scaler.filling
        x = graph.add("Where", holes, filling, graph.add("Clip", x, *limits))
        either = "ReduceMax" if scaler.filling is None else "ReduceMin"
        lost = graph.add(either, graph.cast(holes, np.float32), axes=[1], keepdims=1)
        return x, graph.cast(lost, np.bool_)

    def to_raw(self, graph: Graph, recon: str) -> str:
        """Return rows (N, E) in the model's units as raw rows: see `Scaler.inverse`."""
        scaler, inside = self._scaler, self._inside
        x = graph.cast(recon, inside) if inside != np.float32 else recon
        x = graph.add("Mul", x, scaler.scale.astype(inside))
        x = graph.add("Add", x, scaler.shift.astype(inside)) if scaler.shift.any() else x
        if scaler.knots is not None:
            x = _piecewise(graph, x, [(scores, values, 1 / slope) for values, scores, slope in scaler.ranks.columns])
        x = graph.cast(x, self.number) if inside != self.number else x
        if any(self._schema.categories):
            x = self._decoded(graph, x)
        if len(self.shape) > 2:
            x = graph.shaped(x, *self._schema.image_shape or ())
        return graph.add("Transpose", x, perm=(0, 3, 1, 2)) if self._turned else x

    def _encoded(self, graph: Graph, x: str) -> tuple[str, str]:
        """Return raw rows (N, D) with categories one-hot, (N, E), and which of the values are holes."""
        if not any(self._schema.categories):
            return x, graph.add("IsNaN", x)
        widths = self._schema.widths
        of = np.repeat(np.arange(len(widths)), widths)
        x = graph.add("Gather", x, of, axis=1)
        holes = graph.add("IsNaN", x)
        one_hot = np.array([len(values) > 0 for values in self._schema.categories])[of]
        number = np.concatenate([np.arange(width, dtype=self._inside) for width in widths])
        hot = graph.cast(graph.add("Equal", x, number), self._inside)
        return graph.add("Where", one_hot, hot, x), holes

    def _decoded(self, graph: Graph, x: str) -> str:
        """Return rows (N, E) with each category as the index of the most likely one, (N, D)."""
        runs: list[tuple[bool, int, int]] = []  # the inputs of columns of numbers, or of one category
        end = 0
        for values, width in zip(self._schema.categories, self._schema.widths, strict=True):
            end += width
            if runs and not values and not runs[-1][0]:
                runs[-1] = (False, runs[-1][1], end)
            else:
                runs.append((bool(values), end - width, end))
        columns = []
        for is_category, start, stop in runs:
            at = (np.array([place], np.int64) for place in (start, stop, 1))
            column = graph.add("Slice", x, *at)
            if is_category:
                column = graph.cast(graph.add("ArgMax", column, axis=1, keepdims=1), self.number)
            columns.append(column)
        first = graph.add("Gather", x, np.cumsum([0, *self._schema.widths[:-1]]), axis=1)
        lost = graph.add("IsNaN", first)  # the largest of NaN may be any
        return graph.add("Where", lost, np.array(np.nan, self.number), graph.add("Concat", *columns, axis=1))


def _piecewise(graph: Graph, x: str, lines: Sequence[tuple[Array, Array, float]]) -> str:
    """Return what functions of straight lines make of float64 values (N, E): one for each column.

    Each is its corners, `xs` ascending and `ys`, and the slope beyond these.
    """
    low, high = (np.array([xs[end] for xs, _, _ in lines]) for end in (0, -1))
    starts, values, slopes = (np.full((len(lines), KNOTS), fill) for fill in (np.inf, 0.0, 0.0))
    for i, (xs, ys, _) in enumerate(lines):
        count = max(1, len(xs) - 1)
        starts[i, :count], values[i, :count] = xs[:count], ys[:count]
        slopes[i, : len(xs) - 1] = np.diff(ys) / np.diff(xs)
    within = graph.add("Min", graph.add("Max", x, low), high)
    flat = graph.constant(starts.ravel())
    line: str | Array = np.arange(len(lines)) * KNOTS  # the last one that starts at or below the value, by bisection
    step = KNOTS // 2
    while step:
        later = line + step if isinstance(line, np.ndarray) else graph.add("Add", line, np.array(step))
        reached = graph.add("GreaterOrEqual", within, graph.add("Gather", flat, later))
        line, step = graph.add("Where", reached, later, line), step // 2
    start, value, slope = (graph.add("Gather", table, line) for table in (flat, values.ravel(), slopes.ravel()))
    inner = graph.add("Add", value, graph.add("Mul", graph.add("Sub", within, start), slope))
    beyond = graph.add("Mul", graph.add("Sub", x, within), np.array([slope for *_, slope in lines]))
    return graph.add("Add", inner, beyond)
