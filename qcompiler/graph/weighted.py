"""One view of every node that multiplies an activation by a constant weight, or looks one up.

| op | stored weight | output axis | input axis | activation channel axis |
|---|---|---|---|---|
| MatMul | ``[K, N]`` | 1 | 0 | -1 |
| MatMul of a transposed constant, Gemm with transB | ``[N, K]`` | 0 | 1 | -1 |
| Gemm | ``[K, N]`` | 1 | 0 | -1 |
| Conv | ``[M, C/group, k...]`` | 0 | 1 | 1 |
| ConvTranspose | ``[C, M/group, k...]`` | 1 | 0 | 1 |
| Gather on axis 0 | ``[V, D]`` | 0 (the row) | none | none |

LSTM and GRU hold two weights and are seen through :mod:`qcompiler.graph.recurrent`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import UnsupportedError

FLOAT_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
WEIGHTED_OPS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Gather")


@dataclass(frozen=True)
class WeightedNode:
    """A node, its constant weight, and which axis of each is which.

    Attributes:
        weight: the initializer as it is stored; several nodes may share it (tied weights).
        weight_input: which input of ``node`` leads to the weight.
        output_axis: axis of the stored weight that is one output channel, the per-channel axis.
        input_axis: axis of the stored weight that is summed over, None for Gather.
        activation: the other operand; for Gather the indices.
        activation_axis: its channel axis, None for Gather.
        bias: an initializer given as the node's own bias input, if any.
        transpose: the Transpose node between weight and MatMul, if any.
    """

    node: ir.Node
    weight: ir.Value
    weight_input: int
    output_axis: int
    input_axis: int | None
    activation: ir.Value
    activation_axis: int | None
    bias: ir.Value | None = None
    transpose: ir.Node | None = None

    @property
    def name(self) -> str:
        return self.node.name or ""

    @property
    def output(self) -> ir.Value:
        return self.node.outputs[0]

    @property
    def weight_reader(self) -> tuple[ir.Node, int]:
        """The node and input index that read the stored weight: ``node``'s own, or those of ``transpose``."""
        return (self.node, self.weight_input) if self.transpose is None else (self.transpose, 0)

    @property
    def is_tied(self) -> bool:
        """Whether anything else reads the same weight."""
        transposed = [] if self.transpose is None else self.transpose.outputs[0].uses()
        return len(self.weight.uses()) > 1 or len(transposed) > 1

    @property
    def group(self) -> int:
        attribute = self.node.attributes.get("group")
        return int(attribute.as_int()) if attribute is not None else 1

    @property
    def is_depthwise(self) -> bool:
        """A grouped convolution with one input channel per group."""
        shape = self.weight_shape
        return self.node.op_type == "Conv" and self.group > 1 and shape[1] == 1

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as stored."""
        return shape_of(self.weight)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Shape of :meth:`matrix`, without reading the weight."""
        shape = self.weight_shape
        return math.prod(shape) // shape[self.output_axis], shape[self.output_axis]

    def array(self) -> npt.NDArray[np.float32]:
        """The weight as stored, in float32."""
        return array_of(self.weight).astype(np.float32, copy=False)

    def matrix(self) -> npt.NDArray[np.float32]:
        """The weight as ``[K, N]``: K is everything summed over (channels times kernel), N output channels.

        For a grouped convolution K counts the channels of one group.
        """
        moved = np.moveaxis(self.array(), self.output_axis, -1)
        return moved.reshape(-1, moved.shape[-1])


def array_of(value: ir.Value) -> npt.NDArray[np.generic]:
    """The constant that an initializer holds."""
    if value.const_value is None:
        raise UnsupportedError(f"{value.name!r} is not a constant.")
    return value.const_value.numpy()


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Shape of the constant that an initializer holds, without reading it."""
    assert value.const_value is not None
    return tuple(value.const_value.shape.numpy())


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is an initializer with its data at hand."""
    return value is not None and value.is_initializer() and value.const_value is not None


def weighted_nodes(model: ir.Model) -> Iterator[WeightedNode]:
    """All weighted nodes with a float weight in graph order, subgraphs included."""
    for node in model.graph.all_nodes():
        view = weighted(node)
        if view is not None:
            yield view


def weighted(node: ir.Node) -> WeightedNode | None:
    """The view of one node, or None where it has no constant float weight of a supported layout."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in WEIGHTED_OPS:
        return None
    view = _gather(node) if node.op_type == "Gather" else _product(node)
    return view if view is not None and view.weight.dtype == ir.DataType.FLOAT else None


def weight_refusal(node: ir.Node) -> str:
    """Why no pass can use the constant weight of a node; empty where the weight is not what stands in the way."""
    index = 0 if node.op_type == "Gather" else 1
    if node.domain not in ("", "ai.onnx") or node.op_type not in WEIGHTED_OPS or len(node.inputs) <= index:
        return ""
    operand = node.inputs[index]
    weight = _through_transpose(operand)[0] if operand is not None else None
    if weight is None or not is_constant(weight) or weight.dtype not in FLOAT_TYPES:
        return ""
    if weight.dtype != ir.DataType.FLOAT:
        return (
            f"its weight is {weight.dtype.name.lower()}; only float32 and 16-bit floats are quantized: "
            "export the model in float32"
        )
    return "" if math.prod(shape_of(weight)) else "its weight is empty"


def layout_refusal(node: ir.Node) -> str:
    """Why a node with a constant float32 weight is no :class:`WeightedNode`; empty where it is, or has no such weight.

    Biases and the constants of other operators are no weights.
    """
    if node.domain not in ("", "ai.onnx") or node.op_type not in WEIGHTED_OPS or weighted(node) is not None:
        return ""
    operands = node.inputs[:1] if node.op_type == "Gather" else node.inputs[:2]
    constants = [value for value in operands if is_constant(_behind_transpose(value))]
    if len(constants) != 1 or constants[0] is None or constants[0].dtype != ir.DataType.FLOAT:
        return ""
    weight = _behind_transpose(constants[0])
    assert weight is not None
    if weight is not _behind_transpose(operands[-1]):
        return "its weight is the left operand; only a right one is quantized"
    if node.op_type == "Gather" and (axis := _int_attribute(node, "axis", 0)):
        return f"it looks up along axis {axis}; only tables of rows (axis 0) are quantized"
    if node.op_type in ("Gather", "MatMul", "Gemm") and (axes := len(shape_of(weight))) != 2:
        return f"its weight has {axes} ax{'i' if axes == 1 else 'e'}s; only matrices are quantized"
    if not _is_plain_gemm(node):
        return "a Gemm with alpha, beta or transA has no quantized form"
    return "a Gemm with a bias per row has no quantized form" if node.op_type == "Gemm" else ""


def _behind_transpose(value: ir.Value | None) -> ir.Value | None:
    return None if value is None else _through_transpose(value)[0]


def _product(node: ir.Node) -> WeightedNode | None:
    activation, operand = node.inputs[0], node.inputs[1]
    if activation is None or operand is None or activation.is_initializer():
        return None
    if node.op_type in ("Conv", "ConvTranspose"):
        return _convolution(node, activation, operand)
    weight, transpose = _through_transpose(operand) if node.op_type == "MatMul" else (operand, None)
    if not is_constant(weight) or len(shape_of(weight)) != 2 or not _is_plain_gemm(node):
        return None
    if not math.prod(shape_of(weight)) or not _has_vector_bias(node, weight):
        return None
    stored_transposed = transpose is not None or _int_attribute(node, "transB", 0) == 1
    output_axis, input_axis = (0, 1) if stored_transposed else (1, 0)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return WeightedNode(node, weight, 1, output_axis, input_axis, activation, -1, _constant(bias), transpose)


def _convolution(node: ir.Node, activation: ir.Value, weight: ir.Value) -> WeightedNode | None:
    if not is_constant(weight) or not math.prod(shape_of(weight)):
        return None
    output_axis, input_axis = (0, 1) if node.op_type == "Conv" else (1, 0)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return WeightedNode(node, weight, 1, output_axis, input_axis, activation, 1, _constant(bias))


def _gather(node: ir.Node) -> WeightedNode | None:
    table, indices = node.inputs[0], node.inputs[1]
    if table is None or indices is None or not is_constant(table) or _int_attribute(node, "axis", 0) != 0:
        return None
    if len(shape_of(table)) != 2 or not math.prod(shape_of(table)):
        return None
    return WeightedNode(node, table, 0, 0, None, indices, None)


def _constant(value: ir.Value | None) -> ir.Value | None:
    return value if is_constant(value) else None


def _through_transpose(value: ir.Value) -> tuple[ir.Value, ir.Node | None]:
    """See a constant behind a Transpose that swaps its two axes (a tied embedding, often)."""
    producer = value.producer()
    if producer is None or producer.op_type != "Transpose" or producer.inputs[0] is None:
        return value, None
    permutation = producer.attributes.get("perm")
    swaps = permutation is None or list(permutation.as_ints()) == [1, 0]
    return (producer.inputs[0], producer) if swaps else (value, None)


def _is_plain_gemm(node: ir.Node) -> bool:
    """Whether a Gemm is x W + b, without scaling and without a transposed activation."""
    if node.op_type != "Gemm":
        return True
    factors = [node.attributes[name].as_float() for name in ("alpha", "beta") if name in node.attributes]
    return _int_attribute(node, "transA", 0) == 0 and all(factor == 1.0 for factor in factors)


def _has_vector_bias(node: ir.Node, weight: ir.Value) -> bool:
    """Whether the constant bias of a Gemm, if it has one, is a number per output channel and not a matrix."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if not is_constant(bias) or bias is None:
        return True
    columns = shape_of(weight)[1 - _int_attribute(node, "transB", 0)]
    return shape_of(bias) == (columns,)


def _int_attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())
