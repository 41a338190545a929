"""Weights that a checkpoint stores in float16 or bfloat16 stay so in the graph, and are widened for their reader.

    weight float16 -> Cast(float32) -> MatMul

Widening is exact, so the graph computes what Transformers computes in float32; the file has half the size.  ONNX
Runtime widens such constants once, when it loads the model.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

SMALLEST = 1024
"""Elements from which on a tensor is worth a node of its own."""


KINDS = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}
"""The types that stay as they are stored, by the names of checkpoints."""


def store_half(model: ir.Model, kind: str = "float16") -> str:
    """Narrow every large float32 initializer that ``kind`` holds exactly; returns ``kind``.

    Scales of norms and what the exporter made itself (tables of angles) stay as they are.
    """
    for value in list(model.graph.initializers.values()):
        array = value.const_value.numpy() if value.const_value is not None else None
        if array is None or array.dtype != np.float32 or array.ndim < 2 or array.size < SMALLEST:
            continue
        with np.errstate(over="ignore"):
            half = array.astype(KINDS[kind].numpy())
        if np.array_equal(half.astype(np.float32), array):
            _narrow(model.graph, value, ir.tensor(half, dtype=KINDS[kind], name=value.name))
    return kind


def _narrow(graph: ir.Graph, value: ir.Value, half: ir.TensorProtocol) -> None:
    readers = list(value.uses())
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=f"{value.name}/Cast")
    cast.outputs[0].name = f"{value.name}.float32"
    cast.outputs[0].shape, cast.outputs[0].dtype = ir.Shape(half.shape.numpy()), ir.DataType.FLOAT
    for node, index in readers:
        node.replace_input_with(index, cast.outputs[0])
    value.const_value, value.type = half, ir.TensorType(half.dtype)
    graph.insert_before(graph[0], cast)
