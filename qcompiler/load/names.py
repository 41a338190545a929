"""Every value is defined once and every name that is read is defined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from qcompiler.errors import ModelError
from qcompiler.load.contents import describe, subgraphs


def check_names(where: str, model: onnx.ModelProto) -> None:
    """Check single assignment and that every name resolves, in all scopes.

    The order of nodes is not looked at: an unsorted graph is sorted later, a cycle found then.

    Raises:
        ModelError: a value defined twice, never defined, or a graph without outputs.
    """
    if not model.graph.output:
        raise ModelError(f"{where}: the graph has no outputs; export the model again with its outputs")
    _check_graph(where, model.graph, frozenset())
    for function in model.functions:
        inside = f"{where}: function {function.name!r}"
        defined = _define(inside, list(function.input), function.node, frozenset())
        _check_reads(inside, function.node, defined)
        _check_outputs(inside, list(function.output), defined)


def _check_graph(where: str, graph: onnx.GraphProto, outer: frozenset[str]) -> None:
    inputs = [value.name for value in graph.input]
    initializers = [tensor.name for tensor in graph.initializer]
    initializers += [sparse.values.name for sparse in graph.sparse_initializer]
    repeated = _first_repeated(initializers)
    if repeated is not None:
        raise ModelError(f"{where}: initializer {repeated!r} is defined twice; export the model again")
    defined = _define(where, inputs, graph.node, frozenset(initializers))
    visible = defined | outer
    _check_reads(where, graph.node, visible)
    _check_outputs(where, [value.name for value in graph.output], visible)


def _define(
    where: str, inputs: Sequence[str], nodes: Iterable[onnx.NodeProto], initializers: frozenset[str]
) -> frozenset[str]:
    repeated = _first_repeated(inputs)
    if repeated is not None:
        raise ModelError(f"{where}: input {repeated!r} is defined twice; export the model again")
    defined = set(inputs) | initializers
    for node in nodes:
        for name in node.output:
            if name and name in defined:
                raise ModelError(
                    f"{where}: value {name!r} is defined twice, the second time by {describe(node)}; "
                    "every value must be made once: export the model again"
                )
            defined.add(name)
    defined.discard("")
    return frozenset(defined)


def _check_reads(where: str, nodes: Iterable[onnx.NodeProto], visible: frozenset[str]) -> None:
    for node in nodes:
        for name in node.input:
            if name and name not in visible:
                raise ModelError(
                    f"{where}: {describe(node)} reads {name!r}, which nothing defines; "
                    "the model is incomplete: export it again"
                )
        for graph in subgraphs(node):
            _check_graph(where, graph, visible)


def _check_outputs(where: str, outputs: Iterable[str], visible: frozenset[str]) -> None:
    for name in outputs:
        if name not in visible:
            raise ModelError(
                f"{where}: output {name!r} is made by no node; the model is incomplete: export it again"
            )


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
