"""Rotations of activations become one kernel each: butterflies, additions alone."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.backends.tvm.private import replace
from qcompiler.graph.hadamard import HADAMARD, is_rotation

LANES = 16
"""Columns that the kernel takes at a time."""


def lower_hadamard(model: ir.Model) -> int:
    """Rewrite every call whose channels are known and fit the kernel; others are left to be inlined."""
    nodes = [node for node in model.graph if is_rotation(node)]
    return sum(_lower(node) for node in nodes)


def _lower(node: ir.Node) -> bool:
    source, size = node.inputs[0], node.attributes["size"].as_int()
    shape = source.shape if source is not None else None
    columns = shape[-1] if shape is not None and len(shape) else None
    if source is None or not isinstance(columns, int) or columns % size or columns % LANES:
        return False
    replace(node, node, HADAMARD, [source], {"columns": columns, "size": size})
    return True
