"""Reading int8 products out of the dialect: quantized activations and weights behind a MatMul or Gemm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.onnxruntime.constant_value import constant_value
from qcompiler.backends.onnxruntime.lower_dynamic import bias_add, other_input
from qcompiler.backends.tvm.importing.attributes import integer, number
from qcompiler.graph.weighted import array_of, is_constant

Kind = Literal["dynamic", "static"]


@dataclass(frozen=True)
class Int8Weight:
    """Codes ``[K, N]`` and a scale ``[N]`` a channel."""

    codes: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Activation:
    """What is quantized, and how.

    Attributes:
        source: the float value.
        kind: by its own range at every run, or by a constant scale and zero point.
        scale: of ``static``.
        zero_point: of ``static``.
        magnitude: ``[..., 1]``, what the dequantized value is multiplied by row for row, or None.
    """

    source: ir.Value
    kind: Kind
    scale: float = 1.0
    zero_point: int = 0
    magnitude: ir.Value | None = None


@dataclass(frozen=True)
class Int8Product:
    """``last = activation W [+ bias]``, from which a magnitude of rows is still to be multiplied in.

    Attributes:
        node: MatMul or Gemm.
        activation: what its first operand is made of.
        operand: its second operand, the same value for all that share the weight.
        weight: what ``operand`` is made of.
        bias: as many values as the weight has channels, or None.
        last: ``node``, or the Add behind it that ``bias`` comes from.
    """

    node: ir.Node
    activation: Activation
    operand: ir.Value
    weight: Int8Weight
    bias: npt.NDArray[np.generic] | None
    last: ir.Node


def read_product(node: ir.Node, opset_imports: dict[str, int]) -> Int8Product | None:
    """The view of ``node``; None where it is no product of quantized activations by a symmetric int8 weight."""
    if node.domain or node.op_type not in ("MatMul", "Gemm"):
        return None
    activation, operand, gemm = read_activation(node.inputs[0]), node.inputs[1], node.op_type == "Gemm"
    scaled = number(node, "alpha", 1) != 1 or number(node, "beta", 1) != 1 or integer(node, "transA", 0)
    if activation is None or operand is None or (gemm and scaled):
        return None
    weight = read_weight(operand, opset_imports, transposed=gemm and bool(integer(node, "transB", 0)))
    if weight is None:
        return None
    last, bias, columns = node, None, weight.scale.size
    if gemm and len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = constant_value(node.inputs[2], opset_imports)
        if bias is None or bias.size != columns or activation.magnitude is not None:
            return None
    elif not gemm and activation.magnitude is None:
        add = bias_add(node, columns)
        addend = other_input(add, node.outputs[0]) if add is not None else None
        bias = None if addend is None else constant_value(addend, opset_imports)
        last = add if add is not None and bias is not None else node
    return Int8Product(node, activation, operand, weight, bias, last)


def read_weight(
    value: ir.Value | None, opset_imports: dict[str, int], *, transposed: bool
) -> Int8Weight | None:
    """The int8 weight that ``value`` is the dequantized form of; None where it is not symmetric int8.

    Args:
        value: second operand of a product.
        opset_imports: of the model.
        transposed: whether it is stored ``[N, K]``.
    """
    node = value.producer() if value is not None else None
    if node is not None and node.op_type == "Transpose" and not node.domain and node.inputs[0] is not None:
        order = node.attributes.get("perm")
        swaps = order is None or list(order.as_ints()) == [1, 0]
        return read_weight(node.inputs[0], opset_imports, transposed=not transposed) if swaps else None
    if node is None or node.op_type != "DequantizeLinear" or "block_size" in node.attributes:
        return None
    codes = _codes(node.inputs[0])
    rest = [None if item is None else constant_value(item, opset_imports) for item in node.inputs[1:]]
    if codes is None or not rest or any(item is None for item in rest):
        return None
    scale = np.asarray(rest[0], np.float32)
    if len(rest) > 1 and np.any(rest[1]):
        return None
    axis = node.attributes.get("axis")
    place = (1 if axis is None else axis.as_int()) % 2
    if scale.ndim == 1 and scale.size > 1 and place != (0 if transposed else 1):
        return None
    matrix = codes.T if transposed else codes
    return Int8Weight(matrix, np.broadcast_to(scale.reshape(-1), (matrix.shape[1],)).copy())


def _codes(value: ir.Value | None) -> npt.NDArray[np.int8] | None:
    """Constant int8 codes of a matrix, perhaps turned by a Transpose."""
    if value is None:
        return None
    if not is_constant(value):
        turn = value.producer()
        inner = _codes(turn.inputs[0]) if turn is not None and turn.op_type == "Transpose" else None
        return None if inner is None else inner.T
    array = array_of(value) if value.dtype == ir.DataType.INT8 else None
    return array.astype(np.int8, copy=False) if array is not None and array.ndim == 2 else None


def read_activation(value: ir.Value | None) -> Activation | None:
    """What ``value`` is the dequantized form of; None where it is float, or quantized otherwise than to uint8."""
    node = value.producer() if value is not None else None
    magnitude = None
    if node is not None and node.op_type == "Mul" and not node.domain:
        left, magnitude = node.inputs
        if left is None or magnitude is None or not _is_column(magnitude):
            return None
        node = left.producer()
    if node is None or node.op_type != "DequantizeLinear" or len(node.inputs) != 3 or None in node.inputs:
        return None
    codes, scale, zero = node.inputs
    quantize = codes.producer() if codes is not None else None
    source = quantize.inputs[0] if quantize is not None else None
    if quantize is None or source is None or scale is None or zero is None or quantize.domain:
        return None
    if quantize.op_type == "DynamicQuantizeLinear":
        same = tuple(node.inputs) == tuple(quantize.outputs)
        return Activation(source, "dynamic", magnitude=magnitude) if same else None
    if quantize.op_type != "QuantizeLinear" or tuple(quantize.inputs[1:]) != (scale, zero):
        return None
    if (
        zero.dtype != ir.DataType.UINT8
        or not (is_constant(scale) and is_constant(zero))
        or array_of(scale).size != 1
    ):
        return None
    return Activation(source, "static", float(array_of(scale).item()), int(array_of(zero).item()), magnitude)


def _is_column(value: ir.Value) -> bool:
    """Whether a value has one number for every row."""
    producer = value.producer()
    last = value.shape[-1] if value.shape is not None and len(value.shape) else None
    return last == 1 or (producer is not None and producer.op_type in ("Max", "ReduceMax"))
