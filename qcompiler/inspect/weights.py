"""The weights of a model: which node holds which, and what a target could do with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.graph.recurrent import recurrent_weights
from qcompiler.graph.weighted import FLOAT_TYPES, weighted
from qcompiler.inspect.inspection import WeightInfo
from qcompiler.tensors import stored_bytes


def weight_infos(model: ir.Model, target: Target) -> list[WeightInfo]:
    """Every node with a constant float weight, in graph order, subgraphs included."""
    main_graph = set(model.graph)
    return [
        _info(node, weight, target, in_subgraph=node not in main_graph)
        for node in model.graph.all_nodes()
        for weight in _weights(node)
    ]


def tied_weights(weights: Sequence[WeightInfo]) -> dict[str, tuple[str, ...]]:
    """Weights that several nodes share, with the names of those nodes."""
    readers: dict[str, list[str]] = defaultdict(list)
    for item in weights:
        readers[item.weight].append(item.node)
    return {weight: tuple(nodes) for weight, nodes in readers.items() if len(nodes) > 1}


def float_constants(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """All float initializers by name, subgraphs included."""
    graphs = (model.graph, *model.graph.subgraphs())
    return {
        name: value.const_value
        for graph in graphs
        for name, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.dtype in FLOAT_TYPES
    }


def _weights(node: ir.Node) -> Iterator[ir.Value]:
    view = weighted(node)
    if view is not None:
        yield view.weight
    for _, weight in recurrent_weights(node):
        yield weight


def _info(node: ir.Node, weight: ir.Value, target: Target, *, in_subgraph: bool) -> WeightInfo:
    support, tensor = target.support(node), weight.const_value
    if tensor is None:
        raise AssertionError("a weight is a constant")
    return WeightInfo(
        node=str(node.name),
        op_type=node.op_type,
        weight=str(weight.name),
        shape=tuple(int(size) for size in tensor.shape.numpy()),
        size_bytes=stored_bytes(tensor),
        static=support.static and not in_subgraph,
        dynamic=support.dynamic,
        weight_only=support.weight_only,
        reason="" if support.static or support.dynamic else support.reason,
        in_subgraph=in_subgraph,
    )
