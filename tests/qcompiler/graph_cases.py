"""Graphs of every kind, each as ONNX text with random constants; what they compute means nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[np.generic]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One graph.

    Attributes:
        body: nodes in ONNX text; ``x`` is the input and ``y`` the output where nothing else is said.
        constants: the initializers, given as arrays.
        feeds: shape of each input for one feed, float32 unless an array says otherwise.
        names: new names of values, for what ONNX text cannot spell.
        listed: initializers are inputs too, as before IR version 4.
    """

    body: str
    constants: Mapping[str, Array]
    inputs: str = "float[N, 16] x"
    outputs: str = "float[N, 8] y"
    opset: int = 21
    ir_version: int = 10
    feeds: Mapping[str, Shape | Array] = field(default_factory=lambda: {"x": (4, 16)})
    functions: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    listed: bool = False

    def model(self) -> onnx.ModelProto:
        own = ', "own" : 1' if self.functions else ""
        header = f'<ir_version: {self.ir_version}, opset_import: ["" : {self.opset}{own}]>'
        text = f"{header} net ({self.inputs}) => ({self.outputs}) {{ {self.body} }} {self.functions}"
        model = onnx.parser.parse_model(text)
        for name, array in self.constants.items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
            if self.listed:
                added = model.graph.initializer[-1]
                info = onnx.helper.make_tensor_value_info(name, added.data_type, added.dims)
                model.graph.input.append(info)
        self._rename(model.graph)
        return model

    def samples(self, count: int = 8) -> list[dict[str, Array]]:
        rng = np.random.default_rng(0)
        return [
            {
                self.names.get(name, name): given
                if isinstance(given, np.ndarray)
                else rng.normal(0, 1, given).astype(np.float32)
                for name, given in self.feeds.items()
            }
            for _ in range(count)
        ]

    def _rename(self, graph: onnx.GraphProto) -> None:
        for node in graph.node:
            node.input[:] = [self.names.get(name, name) for name in node.input]
            node.output[:] = [self.names.get(name, name) for name in node.output]
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = self.names.get(value.name, value.name)


def random(*shape: int, seed: int = 0, scale: float = 0.3) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def number(value: float) -> npt.NDArray[np.float32]:
    return np.array(value, np.float32)


W, B, SQUARE = random(16, 8, seed=1), random(8, seed=2), random(16, 16, seed=3)
CONV, CONV2 = random(8, 4, 3, 3, seed=4), random(8, 8, 3, 3, seed=5)
IDS = np.array([[0, 3, 19], [7, 7, 1]], np.int64)
FLAG = np.array(True)
ZERO, HALF, TWO = number(0), number(0.5), number(2)

NETWORK = """
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w1, b1)  r = Relu (c)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)  c2 = Conv (p, w2)  a = Add (c2, p)
    g = GlobalAveragePool (a)  f = Flatten (g)  y = Gemm <transB = 1> (f, w3, b3)
"""
NETWORK_CONSTANTS = {
    "w1": CONV,
    "b1": B,
    "w2": random(8, 8, 1, 1, seed=6),
    "w3": random(5, 8),
    "b3": random(5),
}
IMAGE: Mapping[str, Shape | Array] = {"x": (2, 4, 8, 8)}
THREE = "a = Gemm (x, w, b)  r = Relu (a)  m = MatMul (r, w2)  q = Neg (m)  y = Abs (q)"
THREE_CONSTANTS = {"w": W, "b": B, "w2": random(8, 8, seed=7)}


def network(opset: int, ir_version: int, *, listed: bool = False) -> Case:
    inputs, outputs = "float[N, 4, 8, 8] x", "float[N, 5] y"
    return Case(NETWORK, NETWORK_CONSTANTS, inputs, outputs, opset, ir_version, IMAGE, listed=listed)


def between(middle: str, last: str = "y = Conv (m, w2)", **constants: Array) -> Case:
    """Nodes from ``c`` to ``m`` between two convolutions."""
    body = f"c = Conv <pads = [1, 1, 1, 1]> (x, w, b)  {middle}  {last}"
    given = {"w": CONV, "b": B, "w2": CONV2, **constants}
    return Case(body, given, "float[N, 4, 8, 8] x", "float[a, b, c, d] y", feeds=IMAGE)


def convolution(
    weight: Array, bias: Array | None, *shape: int, op: str = "Conv", attributes: str = ""
) -> Case:
    rank = len(shape)
    inputs = f"float[N, {', '.join(map(str, shape[1:]))}] x"
    constants = {"w": weight} if bias is None else {"w": weight, "b": bias}
    body = f"c = {op} {f'<{attributes}>' if attributes else ''} (x, {', '.join(constants)})  y = Relu (c)"
    outputs = f"float[{', '.join('abcde'[:rank])}] y"
    return Case(body, constants, inputs, outputs, feeds={"x": shape})


def gemm(attributes: str, weight: Array, bias: Array | None) -> Case:
    constants = {"w": weight} if bias is None else {"w": weight, "b": bias}
    return Case(f"y = Gemm {f'<{attributes}>' if attributes else ''} (x, {', '.join(constants)})", constants)


def product(weight: Array, inputs: str, outputs: str, *shape: int) -> Case:
    return Case(
        "y = MatMul (x, w)", {"w": weight}, f"float[{inputs}] x", f"float[{outputs}] y", feeds={"x": shape}
    )


def recurrent(op: str, direction: str, gates: int) -> Case:
    count = 2 if direction == "bidirectional" else 1
    constants = {
        "w": random(count, gates * 8, 16),
        "r": random(count, gates * 8, 8, seed=1),
        "b": random(count, gates * 16, seed=2),
    }
    body = f'o, h = {op} <direction = "{direction}", hidden_size = 8> (x, w, r, b)  y = Relu (o)'
    outputs = f"float[T, {count}, N, 8] y, float[{count}, N, 8] h"
    return Case(body, constants, "float[T, N, 16] x", outputs, feeds={"x": (5, 2, 16)})


def collisions(pattern: str) -> Case:
    """Values named as the compiler names what it adds beside ``x``, ``w`` and ``r``."""
    names = {
        "a": pattern.format("x"),
        "r": pattern.format("w"),
        "y": pattern.format("a"),
        "q": pattern.format("r"),
    }
    return Case(THREE, THREE_CONSTANTS, names={**names, "b": pattern.format("w2")})
