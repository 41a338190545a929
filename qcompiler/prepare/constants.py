"""Weights in Constant nodes become initializers, in the graph that held the node."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass


def lift_constants(model: ir.Model) -> int:
    """Lift in place, at any depth, and return how many; a Constant that is an output of its graph stays."""
    before = _count(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return before - _count(model)


def _count(model: ir.Model) -> int:
    return sum(node.op_type == "Constant" for node in model.graph.all_nodes())
