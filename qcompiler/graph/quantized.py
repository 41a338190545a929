"""Weighted nodes that read their weight from int8 codes, with the float weight the codes were made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.qdq import FLOAT_WEIGHT
from qcompiler.graph.weighted import array_of, is_constant
from qcompiler.numerics.affine import along_axis, dequantize

Array = npt.NDArray[np.floating[Any]]
PRODUCTS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class QuantizedNode:
    """A product whose weight is a DequantizeLinear of constant codes.

    Attributes:
        node: Conv, MatMul or Gemm.
        dequantized: the weight's value behind DequantizeLinear, before a Transpose if there is one.
        output_axis: axis of the stored weight that is one output channel.
    """

    node: ir.Node
    dequantized: ir.Value
    output_axis: int

    @property
    def activation(self) -> ir.Value | None:
        return self.node.inputs[0]

    @property
    def activation_axis(self) -> int:
        return 1 if self.node.op_type == "Conv" else -1

    @property
    def group(self) -> int:
        attribute = self.node.attributes.get("group")
        return int(attribute.as_int()) if attribute is not None else 1

    @property
    def has_float_weight(self) -> bool:
        """Whether the float weight behind the codes is at hand."""
        return self.dequantized.meta.get(FLOAT_WEIGHT) is not None

    def error(self) -> Array | None:
        """``W_q - W`` with output channels first, or None where the float weight is not known."""
        kept = self.dequantized.meta.get(FLOAT_WEIGHT)
        if kept is None:
            return None
        exact = kept.numpy().astype(np.float32)
        return np.asarray(np.moveaxis(_dequantized(self.dequantized) - exact, self.output_axis, 0))


def quantized_product(node: ir.Node) -> QuantizedNode | None:
    """The view of one node, or None where its weight is not dequantized from constant codes."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in PRODUCTS or len(node.inputs) < 2:
        return None
    value, swapped = node.inputs[1], False
    producer = value.producer() if value is not None else None
    if node.op_type == "MatMul" and producer is not None and producer.op_type == "Transpose":
        value, swapped = producer.inputs[0], True
        producer = value.producer() if value is not None else None
    if value is None or producer is None or not is_dequantized_constant(producer):
        return None
    transposed = node.attributes.get("transB")
    first = node.op_type == "Conv" or swapped or (transposed is not None and transposed.as_int() == 1)
    return QuantizedNode(node, value, 0 if first else 1)


def is_dequantized_constant(node: ir.Node) -> bool:
    """Whether a node is a DequantizeLinear of constants alone."""
    constants = all(value is None or is_constant(value) for value in node.inputs)
    return node.op_type == "DequantizeLinear" and constants


def _dequantized(value: ir.Value) -> Array:
    node = value.producer()
    if node is None:
        raise AssertionError(f"{value.name} is not dequantized")
    codes, scale, *rest = (array_of(operand) for operand in node.inputs if operand is not None)
    attribute = node.attributes.get("axis")
    axis = int(attribute.as_int()) if attribute is not None else 1
    zero_point = rest[0].astype(np.int32) if rest else np.array(0, np.int32)
    block = node.attributes.get("block_size")
    if block is not None and block.as_int():
        index = np.arange(codes.shape[axis]) // int(block.as_int())
        spread = np.take(scale, index, axis)
        zeros = np.take(zero_point, index, axis) if zero_point.ndim else zero_point
        return dequantize(codes.astype(np.int32), spread, zeros)
    shaped = along_axis(scale, axis, codes.ndim) if scale.ndim else scale
    zero = along_axis(zero_point, axis, codes.ndim) if zero_point.ndim else zero_point
    return dequantize(codes.astype(np.int32), shaped, zero)
