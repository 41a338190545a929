"""Shapes and types of values, where they can be told."""

from __future__ import annotations

import logging

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

logger = logging.getLogger(__name__)


def infer_shapes(model: ir.Model, notes: list[str]) -> None:
    """Infer in place; weights are not copied, and a value whose shape cannot be told stays without one."""
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    unknown = sum(
        value.shape is None and bool(value.name) for node in model.graph.all_nodes() for value in node.outputs
    )
    if unknown:
        notes.append(f"{unknown} values have no known rank")
