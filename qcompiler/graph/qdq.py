"""Putting QuantizeLinear and DequantizeLinear into a graph, in the one form that the backends match.

Per-tensor scales and zero points are 0-D: some integer kernels of ONNX Runtime refuse ``[1]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import UnsupportedError
from qcompiler.tensors import kept

ORIGIN = "qcompiler.origin"
"""Metadata key: name of the node of the user's file that a node was made for."""

KEEP_FLOAT = "qcompiler.keep_float"
"""Metadata key: why a pass that made a node wants it left in float by those behind it."""

FLOAT_WEIGHT = "qcompiler.float_weight"
"""``ir.Value.meta`` key of a dequantized weight: the float tensor that its codes were made from."""


@dataclass(frozen=True)
class TensorQuantization:
    """Scale and zero point of a whole tensor, and the type of its codes."""

    scale: np.float32
    zero_point: int
    dtype: ir.DataType

    @property
    def low(self) -> float:
        smallest = 0 if self.dtype == ir.DataType.UINT8 else -128
        return (smallest - self.zero_point) * float(self.scale)

    @property
    def high(self) -> float:
        return self.low + 255 * float(self.scale)


def add_initializer(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Register a constant under a name made unique; 0-D arrays stay 0-D."""
    unique, count = name, 1
    while unique in graph.initializers:
        unique, count = f"{name}_{count}", count + 1
    tensor = kept(ir.tensor(array, name=unique))
    value = ir.Value(
        name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def dequantized_weight(
    weight: ir.Value, codes: npt.NDArray[np.int8], scale: npt.NDArray[np.float32], axis: int | None
) -> ir.Value:
    """Store ``codes`` beside a float weight's graph and return their DequantizeLinear.

    The caller puts the returned value in the place of the weight; the float weight goes when nothing uses it.

    Raises:
        UnsupportedError: the weight holds NaN or infinity.
    """
    graph = graph_of(weight)
    _require_finite(weight, scale)
    inputs = [
        add_initializer(graph, f"{weight.name}_quantized", codes),
        add_initializer(graph, f"{weight.name}_scale", scale),
    ]
    attributes = {} if axis is None else {"axis": axis}
    node = ir.node("DequantizeLinear", inputs, attributes, name=f"{weight.name}_DequantizeLinear")
    _name_output(node, f"{weight.name}_dequantized", weight)
    node.outputs[0].meta[FLOAT_WEIGHT] = weight.const_value
    _put_first(graph, node)
    return node.outputs[0]


def dequantized_bias(
    bias: ir.Value, codes: npt.NDArray[np.int32], scale: npt.NDArray[np.float32]
) -> ir.Value:
    """Like :func:`dequantized_weight` for an int32 bias; ``scale`` is ``[N]`` or 0-D."""
    graph = graph_of(bias)
    _require_finite(bias, scale)
    inputs = [
        add_initializer(graph, f"{bias.name}_quantized", codes),
        add_initializer(graph, f"{bias.name}_scale", scale),
    ]
    attributes = {"axis": 0} if scale.ndim else {}
    node = ir.node("DequantizeLinear", inputs, attributes, name=f"{bias.name}_DequantizeLinear")
    _name_output(node, f"{bias.name}_dequantized", bias)
    _put_first(graph, node)
    return node.outputs[0]


def quantize_activation(
    value: ir.Value, quantization: TensorQuantization, consumers: Iterable[ir.Node] | None
) -> ir.Value:
    """Insert QuantizeLinear and DequantizeLinear behind ``value``.

    Args:
        value: a node's output or a graph input of the main graph.
        quantization: scale, zero point and code type.
        consumers: the nodes that shall read the dequantized value; None for all of them and, where
            ``value`` is a graph output, for the output too (whose name stays).

    Returns:
        The dequantized value.
    """
    graph = graph_of(value)
    name = value.name
    readers = [use for use in value.uses() if consumers is None or use.node in set(consumers)]
    zero_point = np.array(quantization.zero_point, dtype=quantization.dtype.numpy())
    parameters = [
        add_initializer(graph, f"{name}_scale", np.array(quantization.scale, dtype=np.float32)),
        add_initializer(graph, f"{name}_zero_point", zero_point),
    ]
    quantize = ir.node("QuantizeLinear", [value, *parameters], name=f"{name}_QuantizeLinear")
    codes = quantize.outputs[0]
    codes.name, codes.shape, codes.type = f"{name}_quantized", value.shape, ir.TensorType(quantization.dtype)
    dequantize = ir.node("DequantizeLinear", [codes, *parameters], name=f"{name}_DequantizeLinear")
    _name_output(dequantize, f"{name}_dequantized", value)
    _put_behind(graph, value, [quantize, dequantize])
    for use in readers:
        use.node.replace_input_with(use.idx, dequantize.outputs[0])
    if consumers is None and value.is_graph_output():
        _take_over_output(graph, value, dequantize.outputs[0])
    return dequantize.outputs[0]


def graph_of(value: ir.Value) -> ir.Graph:
    """The graph or subgraph that owns a value."""
    graph = value.graph
    if not isinstance(graph, ir.Graph):
        raise AssertionError(f"{value.name} belongs to no graph")
    return graph


def _require_finite(constant: ir.Value, scale: npt.NDArray[np.float32]) -> None:
    """Refuse a constant with NaN or infinity in it: its largest magnitude, and so its scale, is not finite then."""
    if not np.isfinite(scale).all():
        readers = sorted(str(use.node.name) for use in constant.uses())
        raise UnsupportedError(
            f"{constant.name!r} holds NaN or infinity, which integers cannot represent; "
            f"leave what reads it in float with --exclude {readers[0] if readers else constant.name!r}."
        )


def _name_output(node: ir.Node, name: str, like: ir.Value) -> None:
    output = node.outputs[0]
    output.name, output.shape, output.type = name, like.shape, like.type


def _put_first(graph: ir.Graph, node: ir.Node) -> None:
    if len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)


def _put_behind(graph: ir.Graph, value: ir.Value, nodes: list[ir.Node]) -> None:
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, nodes)
    elif len(graph):
        graph.insert_before(graph[0], nodes)
    else:
        graph.extend(nodes)


def _take_over_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    public_name = old.name
    old.name, new.name = f"{public_name}_unquantized", public_name
    for index, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[index] = new
