"""What nothing uses goes."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, RemoveUnusedOpsetsPass


def remove_unused(model: ir.Model) -> int:
    """Remove unused nodes, initializers and opset imports in place; return how many nodes."""
    before = sum(1 for _ in model.graph.all_nodes())
    RemoveUnusedNodesPass()(model)
    RemoveUnusedOpsetsPass()(model)
    for graph in model.graph.subgraphs():
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                del graph.initializers[name]
    return before - sum(1 for _ in model.graph.all_nodes())
