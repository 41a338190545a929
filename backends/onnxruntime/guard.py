"""Keeping float what was left in float.

ONNX Runtime's WeightBiasQuantization optimizer takes every Conv, ConvTranspose or Gemm with a float weight that
stands between a DequantizeLinear and a QuantizeLinear and quantizes its weight itself, with one scale for the whole
tensor: on MobileNetV1 one such node took the agreement with float from 94 % to 14 %.  A node that the user excluded
must stay as it is, so its output passes through an operator that the optimizer does not look through.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.expand import is_made_of_constants
from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.graph.weighted import FLOAT_TYPES, is_constant

_TAKEN = ("Conv", "ConvTranspose", "Gemm")
_LOOKED_THROUGH = ("Relu", "Clip")


def guard_float_nodes(model: ir.Model) -> list[str]:
    """Put ``Max(x, lowest)`` behind every float node that the runtime would quantize by itself; return names."""
    exposed = [node for node in model.graph.all_nodes() if node.op_type in _TAKEN and _is_exposed(node)]
    for node in exposed:
        _guard(node)
    return [str(node.name) for node in exposed]


def _is_exposed(node: ir.Node) -> bool:
    activation, weight = node.inputs[0], node.inputs[1]
    if activation is None or weight is None or not _is_float_constant(weight):
        return False
    producer = activation.producer()
    return producer is not None and producer.op_type == "DequantizeLinear" and _is_quantized(node.outputs[0])


def _is_float_constant(value: ir.Value) -> bool:
    """Whether a value is a float weight when the session is made: stored so, or expanded from codes."""
    if value.dtype not in FLOAT_TYPES and value.dtype is not None:
        return False
    producer = value.producer()
    return is_constant(value) or (
        producer is not None and producer.op_type == "Mul" and _is_expansion(producer)
    )


def _is_expansion(mul: ir.Node) -> bool:
    """``Mul(Cast(codes), scale)``, as :mod:`expand` writes it."""
    cast = mul.inputs[0].producer() if mul.inputs[0] is not None else None
    return (
        cast is not None
        and cast.op_type == "Cast"
        and is_made_of_constants(cast.inputs[0])
        and is_constant(mul.inputs[1])
    )


def _is_quantized(value: ir.Value) -> bool:
    readers = [use.node for use in value.uses()]
    if any(reader.op_type == "QuantizeLinear" for reader in readers):
        return True
    return any(_is_quantized(reader.outputs[0]) for reader in readers if reader.op_type in _LOOKED_THROUGH)


def _guard(node: ir.Node) -> None:
    output = node.outputs[0]
    graph = graph_of(output)
    lowest = add_initializer(graph, f"{output.name}_lowest", np.array(np.finfo(np.float32).min, np.float32))
    uses = list(output.uses())
    guard = ir.node("Max", [output, lowest], name=f"{node.name}_kept_in_float")
    guarded = guard.outputs[0]
    guarded.name, guarded.type, guarded.shape = f"{output.name}_guarded", output.type, output.shape
    graph.insert_after(node, guard)
    for use in uses:
        use.node.replace_input_with(use.idx, guarded)
