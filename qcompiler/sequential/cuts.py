"""Where a graph is narrow: cutting it into segments that hand over one tensor, such as the residual stream.

Values fall into three kinds.  What a weighted product has touched is *content*: computing it again costs a run of the
model.  So are embeddings and inputs that products read, so that what a product reads is content everywhere and nodes
that share what they read stay together.  What depends on content through a shape alone (a mask as long as the hidden
state) is *structure*.  All else is *free*: inputs, positions, masks, tables of cos and sin; each segment computes it
again for itself.

Scanning in topological order, a cut may lie where the content still needed comes from one node.  A fused
SkipSimplifiedLayerNormalization hands over its norm and its sum there: two values, one node.  Where a stretch between
such cuts still holds many products (a second stream alive all along, as the encoder's output in a decoder), content
of two nodes may pass too.  Graph outputs that nothing reads on, such as a cache, are not handed over.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph.recurrent import recurrent_weights
from qcompiler.graph.weighted import FLOAT_TYPES, weighted
from qcompiler.sequential.reads import ancestors, reads, with_inner

MANY_PRODUCTS = 16
"""Weighted products in one segment beyond which it is cut again where two values pass."""


class _Kind(enum.IntEnum):
    FREE = 0
    STRUCTURE = 1
    CONTENT = 2


@dataclass(frozen=True)
class Segment:
    """A stretch of the graph in topological order.

    Attributes:
        nodes: names of all its nodes, those of subgraphs included.
        entry: names of the values handed over from what is before it; empty for the first segment.
        exit: names of the values handed over to what is behind it; empty for the last.
    """

    nodes: frozenset[str]
    entry: tuple[str, ...]
    exit: tuple[str, ...]


@dataclass(frozen=True)
class _Cut:
    position: int
    """Index of the first node behind the cut."""
    values: tuple[ir.Value, ...]
    producers: int


def segments(model: ir.Model, *, many: int = MANY_PRODUCTS) -> tuple[Segment, ...]:
    """Cut the main graph; one segment that holds everything where it is narrow nowhere.

    Every segment but the last holds at least one weighted product.
    """
    nodes = list(model.graph)
    products = [_is_product(node) for node in nodes]
    cuts = list(_cuts(nodes, *_sources(nodes, products)))
    chosen = _chosen([cut for cut in cuts if cut.producers == 1], products, 0, len(nodes))
    edges = [0, *(cut.position for cut in chosen), len(nodes)]
    for start, end in itertools.pairwise(edges):
        if sum(products[start:end]) > many:
            chosen += _chosen([cut for cut in cuts if start < cut.position < end], products, start, end)
    return tuple(_between(nodes, sorted(chosen, key=lambda cut: cut.position)))


def _is_product(node: ir.Node) -> bool:
    return any(
        (inner.op_type != "Gather" and weighted(inner) is not None) or bool(recurrent_weights(inner))
        for inner in with_inner(node)
    )


def _sources(
    nodes: Sequence[ir.Node], products: Sequence[bool]
) -> tuple[frozenset[ir.Node], frozenset[ir.Value]]:
    """Nodes and graph inputs that content comes from: products, and what the first of them read was made from."""
    found = {node for node, is_product in zip(nodes, products, strict=True) if is_product}
    kinds: dict[ir.Value, _Kind] = {}
    for node in nodes:
        kind = _Kind.CONTENT if node in found else _inherited(node, kinds)
        kinds.update(dict.fromkeys(node.outputs, kind))
    free = [value for node in found for value in reads(node) if not kinds.get(value, _Kind.FREE)]
    tables = {node for node in ancestors(free) if node.op_type == "Gather" and weighted(node) is not None}
    behind = {value for node in ancestors(free) for value in reads(node)} | set(free)
    return frozenset(found | tables), frozenset(
        value for value in behind if value.is_graph_input() and value.dtype in FLOAT_TYPES
    )


def _cuts(
    nodes: Sequence[ir.Node], sources: frozenset[ir.Node], inputs: frozenset[ir.Value]
) -> Iterator[_Cut]:
    """Every position at which content of at most two nodes, and of types that are known, is still needed."""
    last_use = {value: index for index, node in enumerate(nodes) for value in reads(node)}
    kinds: dict[ir.Value, _Kind] = dict.fromkeys(inputs, _Kind.CONTENT)
    alive = dict(kinds)
    for index, node in enumerate(nodes):
        kind = _Kind.CONTENT if node in sources else _inherited(node, kinds)
        for value in node.outputs:
            kinds[value] = kind
            if kind and last_use.get(value, -1) > index:
                alive[value] = kind
        alive = {value: kind for value, kind in alive.items() if last_use[value] > index}
        made_by = {value.producer() or value for value, kind in alive.items() if kind is _Kind.CONTENT}
        known = all(isinstance(value.type, ir.TensorType) and value.name for value in alive)
        values = tuple(value for value in alive if not value.is_graph_input())
        if values and known and len(made_by) <= 2:
            yield _Cut(index + 1, values, len(made_by))


def _inherited(node: ir.Node, kinds: dict[ir.Value, _Kind]) -> _Kind:
    kind = max((kinds.get(value, _Kind.FREE) for value in reads(node)), default=_Kind.FREE)
    return min(kind, _Kind.STRUCTURE) if node.op_type in ("Shape", "Size") else kind


def _chosen(cuts: Sequence[_Cut], products: Sequence[bool], start: int, end: int) -> list[_Cut]:
    """The narrowest cut, the first of equals, of each stretch without products between stretches with some."""
    chosen: list[_Cut] = []
    best: _Cut | None = None
    begin = start
    for cut in cuts:
        if best is not None and any(products[best.position : cut.position]):
            chosen.append(best)
            begin, best = best.position, None
        if not any(products[begin : cut.position]) or not any(products[cut.position : end]):
            continue
        if best is None or (cut.producers, len(cut.values)) < (best.producers, len(best.values)):
            best = cut
    return [*chosen, best] if best is not None else chosen


def _between(nodes: Sequence[ir.Node], cuts: Sequence[_Cut]) -> Iterator[Segment]:
    start = 0
    entry: tuple[str, ...] = ()
    for cut in (*cuts, _Cut(len(nodes), (), 0)):
        exit_ = tuple(str(value.name) for value in cut.values)
        names = frozenset(
            str(inner.name) for node in nodes[start : cut.position] for inner in with_inner(node)
        )
        yield Segment(names, entry, exit_)
        start, entry = cut.position, exit_
