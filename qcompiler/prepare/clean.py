"""What nothing uses goes."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, RemoveUnusedOpsetsPass


def remove_unused(model: ir.Model) -> int:
    """Remove unused nodes, initializers and opset imports in place; return how many nodes."""
    before = sum(1 for _ in model.graph.all_nodes())
    remove_unused_nodes(model)
    RemoveUnusedOpsetsPass()(model)
    for graph in model.graph.subgraphs():
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                del graph.initializers[name]
    return before - sum(1 for _ in model.graph.all_nodes())


def remove_unused_nodes(model: ir.Model) -> None:
    """Remove unused nodes and their initializers in place, those too that only a removed branch has read."""
    count, before = sum(1 for _ in model.graph.all_nodes()), -1
    while count != before:
        _detach_dead_readers(model)
        RemoveUnusedNodesPass()(model)
        count, before = sum(1 for _ in model.graph.all_nodes()), count


def _detach_dead_readers(model: ir.Model) -> None:
    """Make uses count only nodes of the model: the inside of a branch that was removed still holds its inputs."""
    living = set(model.graph.all_nodes())
    values = [value for graph in model.graphs() for value in (*graph.inputs, *graph.initializers.values())]
    values += [value for node in living for value in node.outputs]
    for value in values:
        for use in list(value.uses()):
            if use.node not in living:
                use.node.replace_input_with(use.idx, None)
