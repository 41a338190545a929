"""The bias of a quantized product, wherever it is: an input in float or int32, or the Add behind a MatMul."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.qdq import add_initializer, dequantized_bias, graph_of
from qcompiler.graph.quantized import QuantizedNode, is_dequantized_constant
from qcompiler.graph.rewire import copy_node, set_constant
from qcompiler.graph.weighted import array_of, is_constant

INT32_LIMIT = 2**31 - 1


def bias_refusal(view: QuantizedNode) -> str:
    """Why the bias of a node cannot be moved; empty when it can."""
    if view.node.op_type == "MatMul":
        return "" if _add_behind(view.node) else "a MatMul without an Add of a constant behind it has no bias"
    bias = _bias_input(view.node)
    producer = None if bias is None else bias.producer()
    if bias is None or is_constant(bias) or (producer is not None and is_dequantized_constant(producer)):
        return ""
    return "its bias is not a constant"


def add_to_bias(view: QuantizedNode, delta: npt.NDArray[np.float64]) -> str:
    """Add ``delta [N]`` to the bias of a node that :func:`bias_refusal` does not refuse; say what was changed."""
    node = view.node
    if node.op_type == "MatMul":
        add, index = _add_behind(node) or (node, 0)
        _add_to_constant(add, index, delta)
        return f"the constant of Add {add.name!r}"
    bias = _bias_input(node)
    if bias is None:
        _new_bias(view, delta)
        return "a new bias"
    if is_constant(bias):
        _add_to_constant(node, 2, delta)
        return "its bias"
    _add_to_codes(node, bias, delta)
    return "its int32 bias"


def _bias_input(node: ir.Node) -> ir.Value | None:
    return node.inputs[2] if len(node.inputs) > 2 else None


def _add_behind(matmul: ir.Node) -> tuple[ir.Node, int] | None:
    """The Add of a constant that alone reads a MatMul, and the index of the constant."""
    output = matmul.outputs[0]
    uses = tuple(output.uses())
    if len(uses) != 1 or output.is_graph_output() or uses[0].node.op_type != "Add":
        return None
    index = 1 - uses[0].idx
    return (uses[0].node, index) if is_constant(uses[0].node.inputs[index]) else None


def _add_to_constant(node: ir.Node, index: int, delta: npt.NDArray[np.float64]) -> None:
    value = node.inputs[index]
    if value is None:
        raise AssertionError(f"{node.name} has no constant to change")
    set_constant(node, index, array_of(value).astype(np.float64) + delta)


def _add_to_codes(node: ir.Node, bias: ir.Value, delta: npt.NDArray[np.float64]) -> None:
    dequantize = bias.producer()
    if dequantize is None:
        raise AssertionError(f"{bias.name} is not dequantized")
    if len(bias.uses()) > 1:
        dequantize = copy_node(dequantize, "corrected")
        node.replace_input_with(2, dequantize.outputs[0])
    codes, scale = (array_of(value) for value in dequantize.inputs[:2] if value is not None)
    moved = codes.astype(np.float64) + np.rint(delta / scale.astype(np.float64))
    set_constant(dequantize, 0, np.clip(moved, -INT32_LIMIT, INT32_LIMIT))


def _new_bias(view: QuantizedNode, delta: npt.NDArray[np.float64]) -> None:
    """Give a Conv or Gemm a bias: in int32 beside a static activation scale, else in float."""
    node = view.node
    bias = add_initializer(graph_of(node.outputs[0]), f"{node.name}_bias", delta.astype(np.float32))
    node.resize_inputs(3)
    scale = _accumulator_scale(view)
    if scale is None:
        node.replace_input_with(2, bias)
        return
    codes = np.clip(np.rint(delta / scale), -INT32_LIMIT, INT32_LIMIT).astype(np.int32)
    node.replace_input_with(2, dequantized_bias(bias, codes, scale))
    graph_of(bias).initializers.pop(str(bias.name))


def _accumulator_scale(view: QuantizedNode) -> npt.NDArray[np.float32] | None:
    """``s_x s_w``, ``[N]`` or 0-D, where the activation has a constant scale."""
    activation = None if view.activation is None else view.activation.producer()
    weight = view.dequantized.producer()
    if activation is None or weight is None or activation.op_type != "DequantizeLinear":
        return None
    scales = [node.inputs[1] for node in (activation, weight)]
    if not all(is_constant(scale) for scale in scales):
        return None
    s_x, s_w = (array_of(scale).astype(np.float32) for scale in scales if scale is not None)
    return np.asarray(s_x.reshape(()) * s_w, dtype=np.float32)
