"""Computing some channels between two linear layers in a branch of their own, and leaving zeros in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.qdq import KEEP_FLOAT, ORIGIN, add_initializer, graph_of
from qcompiler.graph.rewire import name_of, set_constant
from qcompiler.graph.weighted import WeightedNode, array_of, is_constant, weighted

ZERO_AT_ZERO = frozenset(
    {"Gelu", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "HardSwish", "Mish", "Swish", "Tanh"}
)
"""Elementwise functions of one input with f(0) = 0."""

Indices = npt.NDArray[np.int64]


class CannotSplitError(Exception):
    """The channels cannot be computed apart; the text is the reason for the report."""


@dataclass(frozen=True)
class Hidden:
    """``h = f(first + bias)``, read by ``second`` alone.

    Attributes:
        add: the Add of the bias between ``first`` and ``function``, if there is one.
    """

    first: WeightedNode
    add: ir.Node | None
    function: ir.Node
    second: WeightedNode

    @property
    def value_name(self) -> str:
        return str(self.second.activation.name)


def hidden_of(second: WeightedNode) -> Hidden:
    """The hidden activation that ``second`` reads.

    Raises:
        CannotSplitError: it does not come out of a linear layer through an elementwise function.
    """
    function = second.activation.producer()
    if (
        function is None
        or function.op_type not in ZERO_AT_ZERO
        or function.domain not in ("", "com.microsoft")
    ):
        made = name_of(function) if function is not None else f"{second.activation.name!r}"
        raise CannotSplitError(f"its activation comes from {made}, no elementwise function with f(0) = 0")
    before = _only_input(function)
    add = before if before.op_type == "Add" else None
    bias_input = _bias_input(add) if add is not None else None
    source = add.inputs[1 - bias_input] if add is not None and bias_input is not None else function.inputs[0]
    producer = source.producer() if source is not None else None
    first = weighted(producer) if producer is not None and producer.op_type in ("MatMul", "Gemm") else None
    if first is None:
        raise CannotSplitError(f"no linear layer with a constant weight is before {name_of(function)}")
    if len(first.node.inputs) > 2 and first.bias is None:
        raise CannotSplitError(f"the bias of {name_of(first.node)} is no constant")
    for view in (first, second):
        if view.is_tied:
            raise CannotSplitError(f"the weight of {name_of(view.node)} is tied to another node's")
    values = [first.output, function.outputs[0], *([add.outputs[0]] if add is not None else [])]
    if any(len(value.uses()) != 1 or value.is_graph_output() for value in values):
        raise CannotSplitError(f"others read what {name_of(function)} makes or is made from")
    if {node.graph for node in (first.node, function, second.node)} != {graph_of(first.output)}:
        raise CannotSplitError("its parts lie in different subgraphs")
    return Hidden(first, add, function, second)


def split_channels(hidden: Hidden, channels: Indices) -> None:
    """Compute ``channels`` of the hidden activation in float beside it, and make them zero in it."""
    nodes = _Branch(hidden, channels)
    bias = _take_bias(hidden, channels)
    value = nodes.add(
        "MatMul", hidden.first.activation, nodes.constant("in", _take(hidden.first, channels, rows=False))
    )
    if bias is not None:
        value = nodes.add("Add", value, nodes.constant("bias", bias))
    value = nodes.apply(hidden.function, value)
    value = nodes.add("MatMul", value, nodes.constant("out", _take(hidden.second, channels, rows=True)))
    nodes.join(value)


def _take(view: WeightedNode, channels: Indices, *, rows: bool) -> npt.NDArray[np.floating[Any]]:
    """Cut columns, or rows, out of a weight seen as ``[K, N]`` and leave zeros."""
    matrix = view.matrix()
    part = matrix[channels] if rows else matrix[:, channels]
    weight = view.array().copy()
    axis = view.input_axis if rows else view.output_axis
    if axis is None:
        raise AssertionError(f"{view.name} is no linear layer")
    np.moveaxis(weight, axis, 0)[channels] = 0
    set_constant(*view.weight_reader, weight)
    return np.ascontiguousarray(part)


def _take_bias(hidden: Hidden, channels: Indices) -> npt.NDArray[np.floating[Any]] | None:
    node, index = hidden.add, _bias_input(hidden.add) if hidden.add is not None else None
    if node is None and hidden.first.bias is not None:
        node, index = hidden.first.node, 2
    if node is None or index is None:
        return None
    value = node.inputs[index]
    if value is None:
        return None
    width = hidden.first.matrix().shape[1]
    bias = np.broadcast_to(array_of(value).astype(np.float32).reshape(-1), width).copy()
    part = bias[channels]
    bias[channels] = 0
    set_constant(node, index, bias)
    return part


def _bias_input(add: ir.Node) -> int:
    """Which operand of an Add is a vector or scalar constant."""
    for index in (1, 0):
        value = add.inputs[index]
        if value is not None and is_constant(value):
            array = array_of(value)
            if array.size == max(array.shape, default=1):
                return index
    raise CannotSplitError(f"{name_of(add)} adds no constant vector")


def _only_input(function: ir.Node) -> ir.Node:
    data = function.inputs[0]
    producer = data.producer() if data is not None and len(function.inputs) == 1 else None
    if producer is None:
        raise CannotSplitError(f"{name_of(function)} does not read one computed value")
    return producer


class _Branch:
    """The nodes beside ``second``, kept in float."""

    def __init__(self, hidden: Hidden, channels: Indices) -> None:
        self._hidden, self._channels = hidden, channels
        self._graph = graph_of(hidden.second.output)
        self._base = f"{hidden.value_name}_outliers"
        self._dtype = hidden.second.weight.dtype or ir.DataType.FLOAT
        self._made: list[ir.Node] = []

    def constant(self, name: str, array: npt.NDArray[np.floating[Any]]) -> ir.Value:
        return add_initializer(self._graph, f"{self._base}_{name}", array.astype(self._dtype.numpy()))

    def add(self, op: str, left: ir.Value, right: ir.Value) -> ir.Value:
        return self._keep(ir.node(op, [left, right], name=f"{self._base}_{op}_{len(self._made)}"))

    def apply(self, function: ir.Node, value: ir.Value) -> ir.Value:
        attributes = dict(function.attributes)
        node = ir.node(function.op_type, [value], attributes, domain=function.domain,
                       version=function.version, name=f"{self._base}_{function.op_type}")  # fmt: skip
        return self._keep(node)

    def _keep(self, node: ir.Node) -> ir.Value:
        second = self._hidden.second
        node.metadata_props[ORIGIN] = second.node.metadata_props.get(ORIGIN, second.name)
        node.metadata_props[KEEP_FLOAT] = "outlier channels, computed in float"
        output = node.outputs[0]
        output.name, output.type = f"{node.name}_output", ir.TensorType(self._dtype)
        shape = second.output.shape
        is_last = node.op_type == "MatMul" and bool(self._made)
        width = list(shape)[-1] if shape is not None and is_last else len(self._channels)
        output.shape = ir.Shape([*list(shape)[:-1], width]) if shape is not None else None
        self._made.append(node)
        return output

    def join(self, value: ir.Value) -> None:
        """Add ``value`` to the output of ``second``, behind the Add of its bias; the sum takes the name over."""
        last = self._hidden.second.node
        uses = list(last.outputs[0].uses())
        if len(uses) == 1 and uses[0].node.op_type == "Add" and any(map(is_constant, uses[0].node.inputs)):
            last = uses[0].node
        output = last.outputs[0]
        total = ir.node("Add", [value, output], name=f"{self._base}_Add")
        total.metadata_props[ORIGIN] = self._made[-1].metadata_props[ORIGIN]
        result = total.outputs[0]
        result.shape, result.type = output.shape, output.type
        output.replace_all_uses_with(result, replace_graph_outputs=True)
        total.replace_input_with(1, output)
        result.name, output.name = output.name, f"{output.name}_of_others"
        self._graph.insert_after(last, [*self._made, total])
