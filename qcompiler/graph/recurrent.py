"""LSTM and GRU: ``W [directions, gates * hidden, input]`` and ``R [directions, gates * hidden, hidden]``."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph.weighted import is_constant


def recurrent_weights(node: ir.Node) -> list[tuple[int, ir.Value]]:
    """Input index and initializer of W and R where both are float32 constants, else an empty list."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("LSTM", "GRU"):
        return []
    found = [(index, node.inputs[index]) for index in (1, 2)]
    usable = [(index, value) for index, value in found if value is not None and is_constant(value)]
    return usable if len(usable) == 2 and all(value.dtype == ir.DataType.FLOAT for _, value in usable) else []
