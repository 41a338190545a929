"""Which node is to blame: where an error first appears, where most of it is added, and what to exclude for it."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from qcompiler.verify.comparison import Comparison


def first_failures(model: ir.Model, failed: Collection[str]) -> list[str]:
    """Those of ``failed`` values that no other failed value leads to, in graph order."""
    tainted = {value for value in model.graph.inputs if value.name in failed}
    first = [str(value.name) for value in model.graph.inputs if value in tainted]
    for node in model.graph:
        behind = any(source in tainted for source in inputs_of(node))
        bad = [output for output in node.outputs if output.name in failed]
        if bad and not behind:
            first += [str(output.name) for output in bad]
        if bad or behind:
            tainted.update(node.outputs)
    return first


def largest_contributor(model: ir.Model, quantization: Comparison, output: str) -> str:
    """Name of the quantized node before ``output`` that adds most noise relative to the signal, or "".

    A node's contribution is its noise-to-signal ratio less the largest one among the quantized nodes directly
    before it. Only nodes that read dequantized values count: those are what ``--exclude`` can leave in float.
    """
    ratios = {item.value: 10.0 ** (-item.sqnr_db / 10.0) for item in quantization.by_value().values()}
    arriving: dict[ir.Value, float] = {}
    contributions: dict[ir.Node, float] = {}
    for node in model.graph:
        before = max((arriving.get(source, 0.0) for source in inputs_of(node)), default=0.0)
        ratio = before
        if is_quantized(node):
            known = [ratios[str(value.name)] for value in node.outputs if value.name in ratios]
            ratio = max(known, default=before)
            contributions[node] = ratio - before
        arriving.update(dict.fromkeys(node.outputs, ratio))
    reachable = _ancestors(model, output)
    candidates = {node: gain for node, gain in contributions.items() if node in reachable and gain > 0.0}
    return str(max(candidates, key=lambda node: candidates[node]).name) if candidates else ""


def quantized_maker(model: ir.Model, value: str) -> str:
    """Name of the quantized node that makes ``value``, alone or through Relu, Clip and the like; or its maker's.

    The name is what ``--exclude`` takes: leaving a Relu in float would not help where the Conv before it is wrong.
    """
    for node in model.graph:
        if any(output.name == value for output in node.outputs):
            return _quantized_above(node) or str(node.name)
    readers = (use.node for source in model.graph.inputs if source.name == value for use in source.uses())
    return next((str(reader.name) for reader in readers), "")


def _quantized_above(node: ir.Node) -> str:
    above: ir.Node | None = node
    while above is not None and above.inputs:
        if is_quantized(above):
            return str(above.name)
        source = above.inputs[0]
        above = source.producer() if source is not None else None
    return ""


def is_quantized(node: ir.Node) -> bool:
    """Whether a node reads something that comes out of a DequantizeLinear."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return False
    producers = [source.producer() for source in node.inputs if source is not None]
    return any(producer is not None and producer.op_type == "DequantizeLinear" for producer in producers)


def inputs_of(node: ir.Node) -> list[ir.Value]:
    """Values that a node reads, those that its subgraphs capture included."""
    found = [source for source in node.inputs if source is not None]
    for attribute in node.attributes.values():
        graphs = []
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = [attribute.as_graph()]
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = list(attribute.as_graphs())
        for graph in graphs:
            found += [source for inner in graph.all_nodes() for source in inner.inputs if source is not None]
    return found


def _ancestors(model: ir.Model, output: str) -> set[ir.Node]:
    pending = [value.producer() for value in model.graph.outputs if value.name == output]
    seen: set[ir.Node] = set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        pending += [source.producer() for source in inputs_of(node)]
    return seen
