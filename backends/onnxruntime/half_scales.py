"""Scales stored in float16 where that is exact: half the bytes, and none of the time for constants.

ONNX Runtime folds a Cast of a constant when it makes a session, so the kernels see float32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.graph.weighted import array_of, is_constant
from qcompiler.prepare.clean import remove_unused

LEAST_SCALES = 64
"""A Cast node takes about the bytes that this many scales save."""


def narrowed(scale: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """``scale`` in float16 where that holds it exactly, as int8_dynamic chooses scales; otherwise as it is."""
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
    return half if np.array_equal(half.astype(scale.dtype), scale) else scale


def widened(value: ir.Value, name: str) -> ir.Node:
    """The Cast of ``value`` to float32; it is in no graph yet."""
    return ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=name)


def in_half(scale: ir.Value) -> ir.Value:
    """A value equal to the constant ``scale``, made from float16 where that is exact and saves bytes."""
    array = array_of(scale)
    half = narrowed(array)
    if array.size < LEAST_SCALES or half.dtype == array.dtype:
        return scale
    graph = graph_of(scale)
    stored = add_initializer(graph, f"{scale.name}_half", half)
    node = widened(stored, f"{scale.name}_Cast")
    output = node.outputs[0]
    output.name, output.shape, output.type = f"{node.name}_output", scale.shape, scale.type
    graph.insert_before(graph[0], node)
    return output


def store_factors_in_half(model: ir.Model) -> None:
    """Do so for the constant factors of every Mul, which smoothquant chooses such that float16 holds them."""
    for node in [node for node in model.graph if node.op_type == "Mul" and node.domain == ""]:
        for index, value in enumerate(node.inputs):
            if value is not None and is_constant(value) and value.dtype == ir.DataType.FLOAT:
                node.replace_input_with(index, in_half(value))
    remove_unused(model)
