"""Walking everything that a ``ModelProto`` holds, at any depth of subgraphs and in functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of the graph, of all subgraphs and of all functions."""
    yield from _nodes_within(model.graph.node)
    for function in model.functions:
        yield from _nodes_within(function.node)


def all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the graph and all subgraphs, those of functions included."""
    yield model.graph
    for node in all_nodes(model):
        yield from subgraphs(node)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that are attributes of ``node``, one level deep."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_tensors(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Yield every tensor with words that tell where it is."""
    for graph in all_graphs(model):
        for tensor in graph.initializer:
            yield f"initializer {tensor.name!r}", tensor
    for node in all_nodes(model):
        for attribute in node.attribute:
            where = f"attribute {attribute.name!r} of {describe(node)}"
            if attribute.HasField("t") or attribute.type == onnx.AttributeProto.TENSOR:
                yield where, attribute.t
            for tensor in attribute.tensors:
                yield where, tensor


def describe(node: onnx.NodeProto) -> str:
    """Return words by which a user finds ``node`` in the file."""
    if node.name:
        return f"node {node.name!r} ({node.op_type})"
    outputs = ", ".join(repr(name) for name in node.output if name)
    return f"the unnamed {node.op_type} node that makes {outputs or 'nothing'}"


def _nodes_within(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _nodes_within(graph.node)
