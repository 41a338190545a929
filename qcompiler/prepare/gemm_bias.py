"""The bias of a Gemm as passes know it: one number per output channel, ``[N]``.

ONNX lets it broadcast to ``[M, N]``: ``[1, N]``, ``[1]`` and a scalar are the same as ``[N]``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.graph.weighted import array_of, is_constant, shape_of


def flatten_gemm_biases(model: ir.Model) -> int:
    """Give every Gemm of constant weight and bias its bias as ``[N]``, where it has one, in place; return how many."""
    return sum(
        _flatten(node) for node in model.graph.all_nodes() if node.op_type == "Gemm" and not node.domain
    )


def _flatten(gemm: ir.Node) -> bool:
    weight, bias = gemm.inputs[1], gemm.inputs[2] if len(gemm.inputs) > 2 else None
    if weight is None or bias is None or not is_constant(weight) or not is_constant(bias):
        return False
    transposed = gemm.attributes.get("transB")
    columns = shape_of(weight)[0 if transposed is not None and transposed.as_int() else 1]
    array = array_of(bias)
    if array.shape == (columns,) or array.shape[:-1] not in ((), (1,)):
        return False
    flat = np.broadcast_to(array.reshape(-1), (columns,)).copy()
    gemm.replace_input_with(2, add_initializer(graph_of(bias), f"{bias.name}_flat", flat))
    return True
