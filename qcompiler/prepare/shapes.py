"""Shapes and types of values, where they can be told."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from qcompiler.prepare.runtime_shapes import infer_runtime_operators


def infer_shapes(model: ir.Model, notes: list[str]) -> None:
    """Infer in place; weights are not copied, and a value whose shape cannot be told stays without one.

    The ``onnx`` package knows the standard operators only, so it continues behind each operator of ONNX Runtime.
    """
    _infer_standard(model)
    while infer_runtime_operators(model):
        _infer_standard(model)
    unknown = sum(
        value.shape is None and (bool(value.uses()) or value.is_graph_output())
        for node in model.graph.all_nodes()
        for value in node.outputs
    )
    if unknown:
        notes.append(f"{unknown} values have no known rank")


def _infer_standard(model: ir.Model) -> None:
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
