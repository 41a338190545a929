"""Nodes in an order in which they can run."""

from __future__ import annotations

import graphlib

import onnx_ir as ir

from qcompiler.errors import ModelError


def sort_nodes(where: str, model: ir.Model) -> None:
    """Sort graph, subgraphs and functions in place; a sorted graph keeps its order.

    Raises:
        ModelError: the graph has a cycle; names the nodes on it.
    """
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        try:
            graph.sort()
        except ValueError as error:
            raise ModelError(f"{where}: {_cycle(graph)}; the model cannot be run: export it again") from error


def _cycle(graph: ir.Graph | ir.Function) -> str:
    depends = {node: node.predecessors() for node in graph.all_nodes()}
    try:
        graphlib.TopologicalSorter(depends).prepare()
    except graphlib.CycleError as error:
        names = [node.name or node.op_type for node in error.args[1]]
        return "the graph has a cycle, " + " <- ".join(names[:8]) + (" <- ..." if len(names) > 8 else "")
    return "a subgraph depends on the node that holds it"
