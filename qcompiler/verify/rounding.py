"""How far a deployed value may be from its dialect because kernels round activations that the dialect leaves in float.

A kernel that does so says down to which SQNR (``Lowering.rounding_db``).  Errors of nodes behind one another add up as
noise does: ratios of noise to signal are summed along the path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.verify.blame import inputs_of


def rounding_limits(dialect: ir.Model, lowered: Iterable[Lowering]) -> dict[str, float]:
    """Lowest SQNR in dB that rounding explains, for every value at or behind a kernel that rounds activations."""
    own = {item.node: 10.0 ** (-item.rounding_db / 10.0) for item in lowered if item.rounding_db is not None}
    noise: dict[ir.Value, float] = {}
    for node in dialect.graph:
        before = max((noise.get(source, 0.0) for source in inputs_of(node)), default=0.0)
        found = before + sum(own.get(name, 0.0) for name in _names(node))
        if found > 0.0:
            noise.update(dict.fromkeys(node.outputs, found))
    return {str(value.name): -10.0 * math.log10(ratio) for value, ratio in noise.items()}


def _names(node: ir.Node) -> list[str]:
    """The node's name, and those of the nodes in its subgraphs."""
    names = [str(node.name)]
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            names += [str(inner.name) for inner in attribute.as_graph().all_nodes()]
    return names
