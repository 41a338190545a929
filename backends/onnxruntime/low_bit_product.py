"""One view of MatMul and Gemm by a weight of few bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.backends.onnxruntime.low_bit_weight import makes_low_bit_weight
from qcompiler.backends.onnxruntime.lower_dynamic import bias_add, other_input
from qcompiler.graph.qdq import graph_of
from qcompiler.graph.weighted import array_of, is_constant

Maker = Callable[[ir.Node | None], bool]


@dataclass(frozen=True)
class LowBitProduct:
    """``last = activation W [+ bias]``.

    Attributes:
        node: MatMul or Gemm.
        maker: the node that makes W of codes.
        k_axis: axis of the stored W that is summed over.
        bias: constant ``[N]`` that kernels can add.
        addend: any other C of a Gemm, which an Add of its own must take.
        last: ``node``, or the Add behind it that ``bias`` comes from.
        reason: why it has no kernel, "" where it has.
    """

    node: ir.Node
    activation: ir.Value
    maker: ir.Node
    k_axis: int
    bias: ir.Value | None
    addend: ir.Value | None
    last: ir.Node
    reason: str = ""

    @property
    def k(self) -> int:
        return stored_shape(self.maker)[self.k_axis]

    @property
    def static_rows(self) -> int | None:
        """Rows of the activation where its shape says so."""
        shape = self.activation.shape
        if shape is None or len(shape) < 2 or not all(isinstance(size, int) for size in shape[:-1]):
            return None
        return math.prod(int(size) for size in shape[:-1] if isinstance(size, int))

    def replace_by(self, nodes: Sequence[ir.Node]) -> None:
        """Put ``nodes``, the last of which gives the product and the bias, in the place of both."""
        graph, output = graph_of(self.node.outputs[0]), self.last.outputs[0]
        made = list(nodes)
        if self.addend is not None:
            made.append(ir.node("Add", [made[-1].outputs[0], self.addend], name=f"{self.node.name}_addend"))
        for index, node in enumerate(made):
            node.outputs[0].name = f"{output.name}_part{index}"
            node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        result = made[-1].outputs[0]
        result.shape, result.type = output.shape, output.type
        made[0].metadata_props.update(self.node.metadata_props)
        graph.insert_before(self.last, made)
        output.replace_all_uses_with(result, replace_graph_outputs=True)
        for node in dict.fromkeys((self.last, self.node)):
            graph.remove(node, safe=True)
        result.name = output.name


def stored_shape(maker: ir.Node) -> tuple[int, ...]:
    """Shape of the weight that is made of codes: theirs, unless each of them is a vector."""
    codes, made = maker.inputs[0], maker.outputs[0].shape
    if codes is None or codes.const_value is None:
        raise AssertionError(f"{maker.name} has no constant codes")
    shape = made if len(codes.const_value.shape) > 2 and made is not None else codes.const_value.shape
    return tuple(int(str(size)) for size in shape)


def low_bit_product(node: ir.Node, makes_weight: Maker = makes_low_bit_weight) -> LowBitProduct | None:
    """The view of ``node``, or None where no node that ``makes_weight`` makes its weight."""
    if node.domain or node.op_type not in ("MatMul", "Gemm") or None in node.inputs[:2]:
        return None
    activation, operand = node.inputs[0], node.inputs[1]
    maker, k_axis = _maker(operand)
    if activation is None or maker is None or not makes_weight(maker):
        return None
    if node.op_type == "Gemm":
        return _gemm(node, activation, maker, k_axis)
    columns = stored_shape(maker)[1 - k_axis]
    add = bias_add(node, columns)
    bias = other_input(add, node.outputs[0]) if add is not None else None
    reason = (
        "its activation is a vector" if activation.shape is not None and len(activation.shape) < 2 else ""
    )
    return LowBitProduct(node, activation, maker, k_axis, bias, None, add or node, reason)


def _maker(operand: ir.Value | None) -> tuple[ir.Node | None, int]:
    """What makes a weight, seen through a Transpose, and the axis of its stored form that is summed over."""
    producer = operand.producer() if operand is not None else None
    if producer is None or producer.op_type != "Transpose":
        return producer, 0
    permutation = producer.attributes.get("perm")
    source = producer.inputs[0]
    swaps = permutation is None or list(permutation.as_ints()) == [1, 0]
    return (source.producer() if swaps and source is not None else None), 1


def _gemm(node: ir.Node, activation: ir.Value, maker: ir.Node, k_axis: int) -> LowBitProduct:
    if _number(node, "transB", 0):
        k_axis = 1 - k_axis
    addend = node.inputs[2] if len(node.inputs) > 2 else None
    columns = stored_shape(maker)[1 - k_axis]
    fits = addend is not None and is_constant(addend) and array_of(addend).shape == (columns,)
    scaled = _number(node, "alpha", 1) != 1 or _number(node, "beta", 1) != 1 or _number(node, "transA", 0)
    reason = "a Gemm with alpha, beta or transA has no such form" if scaled else ""
    bias, rest = (addend, None) if fits else (None, addend)
    return LowBitProduct(node, activation, maker, k_axis, bias, rest, node, reason)


def _number(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)
