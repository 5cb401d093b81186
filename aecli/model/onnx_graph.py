"""A builder for an ONNX graph, with the table of layers as nodes: it computes the same as `network.Network`.

It uses operators of opset 13, which runtimes have had since 2020. Tensors are identified by their names.
Shape letters: N rows, C channels, H W height and width.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aecli import __version__
from aecli.errors import AecliError
from aecli.model.layers import Convolution, Image, Layer
from aecli.model.network import CUBIC, ROOT

OPSET, IR_VERSION = 13, 7
MOST_BYTES = 2**31 - 2**24  # of weights: an ONNX file must be smaller than 2^31 bytes, with names and metadata
PLAIN = {"relu": "Relu", "elu": "Elu", "tanh": "Tanh", "sigmoid": "Sigmoid"}  # activations that are one operator

Array = np.ndarray[Any, Any]
Shape = tuple[str | int, ...]


class Graph:
    """A graph to which nodes are added one by one. `takes` and `gives` describe its inputs and outputs in words."""

    def __init__(self) -> None:
        """Raise AecliError if the package onnx is not installed."""
        try:
            import onnx.numpy_helper
        except ModuleNotFoundError as error:
            raise AecliError(
                "export needs the package onnx, which is not installed", hint="pip install 'aecli[onnx]'"
            ) from error
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self.takes: list[str] = []
        self.gives: list[str] = []

    def input(self, name: str, dtype: Any, shape: Shape, about: str) -> str:
        """Add an input of the graph, and return it."""
        self._inputs.append(self._value(name, dtype, shape, about))
        self.takes.append(_worded(name, dtype, shape))
        return name

    def output(self, name: str, tensor: str, dtype: Any, shape: Shape, about: str) -> str:
        """Make a tensor an output of the graph, and return it."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [tensor], [name], name))
        self._outputs.append(self._value(name, dtype, shape, about))
        self.gives.append(_worded(name, dtype, shape))
        return name

    def constant(self, value: Array, name: str | None = None) -> str:
        """Add a constant, and return it."""
        name = name or f"constant.{len(self._constants)}"
        self._constants[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def add(self, operator: str, *inputs: str | Array, outputs: int = 1, **attributes: Any) -> str:
        """Add a node, and return its last output. Arrays among its inputs become constants."""
        name = f"{operator.lower()}.{len(self._nodes)}"
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        made = [*(f"{name}.{i}" for i in range(outputs - 1)), name]
        self._nodes.append(self._onnx.helper.make_node(operator, names, made, name, **attributes))
        return name

    def cast(self, x: str, dtype: Any) -> str:
        """Return a tensor cast to another type."""
        return self.add("Cast", x, to=self._type(dtype))

    def shaped(self, x: str, *row: int) -> str:
        """Return rows reshaped, also if there are no rows."""
        return self.add("Reshape", x, np.array([0, *row], np.int64))  # 0 keeps the number of rows

    def layers(self, x: str, layers: Sequence[Layer], tensors: Mapping[str, Array]) -> str:
        """Return the output (N, out_dim) of layers for float32 rows (N, in_dim)."""
        image: Image | None = None  # the shape of images between convolutions, kept as (N, C, H, W)
        for layer in layers:
            weight, bias = (
                self.constant(tensors[name], name) for name in (f"{layer.name}.weight", f"{layer.name}.bias")
            )
            if (at := layer.convolution) is None:
                x = self.add("Gemm", self._flat(x, image), weight, bias, transB=1)
                image = None
            else:
                x = x if image else self.add("Transpose", self.shaped(x, *at.images[0]), perm=(0, 3, 1, 2))
                x = self._convolved(x, weight, bias, at)
                image = at.images[1]
            x = self._activated(x, layer.activation)
        return self._flat(x, image)

    def sparse(self, z: str, active: int) -> str:
        """Return latent values with all but each row's `active` largest set to 0; the first ones win ties."""
        places = self.add("TopK", z, np.array([active], np.int64), outputs=2, axis=1)
        zeros = self.add("ConstantOfShape", self.add("Shape", z))
        return self.add("ScatterElements", zeros, places, f"{places}.0", axis=1)

    def to_bytes(self, about: str, metadata: Mapping[str, Any]) -> bytes:
        """Return the file. Equal graphs give equal bytes. `metadata` are JSON values.

        Raises AecliError if it would be too large.
        """
        size = sum(len(each.raw_data) for each in self._constants.values())
        if size > MOST_BYTES:
            raise AecliError(
                f"the weights are {size:,} bytes, and an ONNX file holds at most {MOST_BYTES:,}",
                hint="export a half at a time: --part encoder; --part decoder",
            )
        helper = self._onnx.helper
        constants = [*self._constants.values()]
        model = helper.make_model(
            helper.make_graph(self._nodes, "autoencoder", self._inputs, self._outputs, constants),
            producer_name="aecli",
            producer_version=__version__,
            doc_string=about,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        helper.set_model_props(model, {name: json.dumps(said, ensure_ascii=False) for name, said in metadata.items()})
        made: bytes = model.SerializeToString(deterministic=True)
        return made

    def _type(self, dtype: Any) -> int:
        found: int = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return found

    def _value(self, name: str, dtype: Any, shape: Shape, about: str) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self._type(dtype), shape, about)

    def _flat(self, x: str, image: Image | None) -> str:
        """Return images (N, C, H, W) as rows (N, H W C); rows unchanged if `image` is None."""
        if image is None:
            return x
        height, width, channels = image
        return self.shaped(self.add("Transpose", x, perm=(0, 2, 3, 1)), height * width * channels)

    def _convolved(self, x: str, weight: str, bias: str, at: Convolution) -> str:
        (height, width, _), stride = at.large, at.stride
        how: Any = {"kernel_shape": [at.kernel] * 2, "strides": [stride] * 2, "pads": [at.padding] * 4}
        if not at.transposed:
            return self.add("Conv", x, weight, bias, **how)
        return self.add("ConvTranspose", x, weight, bias, output_padding=[height % stride, width % stride], **how)

    def _activated(self, x: str, activation: str) -> str:
        if activation == "none":
            return x
        if activation == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if activation != "gelu":
            return self.add(PLAIN[activation], x)
        one = np.float32(1)
        cubic = self.add("Mul", self.add("Mul", x, x), np.array(ROOT * CUBIC))
        inside = self.add("Mul", self.add("Add", cubic, np.array(ROOT)), x)  # sqrt(2 / pi) (x + 0.044715 x^3)
        gate = self.add("Add", self.add("Tanh", inside), np.array(one))
        return self.add("Mul", self.add("Mul", x, np.array(one / 2)), gate)


def _worded(name: str, dtype: Any, shape: Shape) -> str:
    return f"{name} {np.dtype(dtype)} ({', '.join(map(str, shape))})"
