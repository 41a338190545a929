"""How far a deployed value may be from its dialect because kernels round activations that the dialect leaves in float.

A kernel that does so says down to which SQNR (``Lowering.rounding_db``).  Errors of nodes behind one another add up as
noise does: ratios of noise to signal are summed along the path.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.graph.hadamard import is_rotation
from qcompiler.verify.blame import inputs_of
from qcompiler.verify.comparison import Comparison

QUANTIZERS = ("QuantizeLinear", "DynamicQuantizeLinear")
REDRAWN_DB = 4.0
"""How far apart two models are whose errors are equally large and independent: 3 dB, and 1 for few samples."""


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


def quantization_costs(
    dialect: ir.Model, quantization: Comparison, otherwise: float, rounded: Collection[str] = ()
) -> dict[str, float]:
    """SQNR in dB that quantization costs every value: rounding once more may cost as much again.

    A value that the float model does not have (a rotated activation) is worth no more than what it is made of.  Behind
    a rotation, whose sums no two runtimes round alike, codes fall to either side: errors are as large, but others.  So
    do those that activations get behind a kernel that has rounded its own.

    Args:
        dialect: the quantized model.
        quantization: float against ``dialect``.
        otherwise: the most that a value is worth that the float model does not have.
        rounded: values at or behind a kernel that rounds activations (:func:`rounding_limits`).
    """
    known = quantization.by_value()
    costs: dict[ir.Value, float] = {}
    turned: set[ir.Value] = set()
    for node in dialect.graph:
        before = min((costs[source] for source in inputs_of(node) if source in costs), default=otherwise)
        for output in node.outputs:
            found = known.get(str(output.name))
            costs[output] = min(before, otherwise) if found is None else found.sqnr_db
        redrawn = node.op_type in QUANTIZERS and str(node.inputs[0].name if node.inputs[0] else "") in rounded
        if redrawn or is_rotation(node) or not turned.isdisjoint(inputs_of(node)):
            turned.update(node.outputs)
    return {str(value.name): cost - REDRAWN_DB * (value in turned) for value, cost in costs.items()}


def _names(node: ir.Node) -> list[str]:
    """The node's name, and those of the nodes in its subgraphs."""
    names = [str(node.name)]
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            names += [str(inner.name) for inner in attribute.as_graph().all_nodes()]
    return names
