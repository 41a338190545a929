"""Where activations are quantized: which values get one scale, and which nodes read their codes.

The anchors are the nodes that a pass wants in integers.  Nodes that only pay between integers (Add, pooling,
data movement) join where every input is quantized and an integer node reads the result: all of them are
taken in at first, and those that do not hold are taken out until nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.backends.base import Support, Target
from qcompiler.graph.weighted import is_constant

ACTIVATIONS = ("Relu", "Clip")
"""A quantized range that starts at zero, or ends at the bound, does what these do."""


@dataclass
class Placement:
    """The plan.

    Attributes:
        integer: nodes that will read codes, in graph order.
        values: quantized values with the nodes that read codes; None: every reader does.
        same_scale: value -> value whose scale it shares.
    """

    integer: list[ir.Node] = field(default_factory=list)
    values: dict[ir.Value, set[ir.Node] | None] = field(default_factory=dict)
    same_scale: dict[ir.Value, ir.Value] = field(default_factory=dict)


def settled(value: ir.Value) -> ir.Value:
    """Follow a value through the activation that its only reader applies."""
    uses = tuple(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return value
    reader = uses[0].node
    if reader.op_type not in ACTIVATIONS or uses[0].idx != 0:
        return value
    return reader.outputs[0]


def data_inputs(node: ir.Node, support: Support) -> list[ir.Value]:
    """The inputs that carry float data: only the first for nodes that move data by indices."""
    inputs = [value for value in node.inputs if value is not None]
    if support.same_scale:
        return inputs[:1]
    return [value for value in inputs if value.dtype in (ir.DataType.FLOAT, None)]


def place(
    graph: ir.Graph, anchors: Iterable[ir.Node], candidates: Iterable[ir.Node], target: Target
) -> Placement:
    """Decide which values are quantized.

    Args:
        graph: the main graph.
        anchors: nodes with a weight that will run in integers; their first input is an activation.
        candidates: other nodes that may run in integers between them.
        target: says what each node needs.
    """
    support = {node: target.support(node) for node in graph}
    chosen = set(anchors)
    followers = {node for node in candidates if support[node].follows and _is_float(node)}
    while dropped := {node for node in followers if not _holds(node, support, chosen, followers)}:
        followers -= dropped
    chosen |= followers
    placement = Placement(integer=[node for node in graph if node in chosen])
    for node in placement.integer:
        _place_node(node, support[node], chosen, placement)
    return placement


def _is_float(node: ir.Node) -> bool:
    return bool(node.outputs) and node.outputs[0].dtype == ir.DataType.FLOAT


def _has_codes(
    value: ir.Value, support: dict[ir.Node, Support], anchors: set[ir.Node], integer: set[ir.Node]
) -> bool:
    """Whether a value is quantized anyway: an anchor reads its codes, or an integer node makes them."""
    read = any(use.node in anchors and use.idx == 0 for use in value.uses())
    return read or _makes_codes(value, support, integer)


def _makes_codes(value: ir.Value, support: dict[ir.Node, Support], integer: set[ir.Node]) -> bool:
    """Whether a value comes from an integer node, perhaps through an activation, that quantizes its output."""
    producer = value.producer()
    if producer is None:
        return False
    if producer.op_type in ACTIVATIONS and producer.inputs[0] is not None:
        inner = producer.inputs[0]
        return settled(inner) is value and _makes_codes(inner, support, integer)
    return producer in integer and support[producer].output == "required"


def _holds(
    node: ir.Node, support: dict[ir.Node, Support], anchors: set[ir.Node], followers: set[ir.Node]
) -> bool:
    inputs, integer = data_inputs(node, support[node]), anchors | followers
    read = any(use.node in integer for use in settled(node.outputs[0]).uses())
    quantized = [_has_codes(value, support, anchors, integer) for value in inputs if not is_constant(value)]
    return read and bool(quantized) and all(quantized)


def _place_node(node: ir.Node, support: Support, integer: set[ir.Node], placement: Placement) -> None:
    inputs: Sequence[ir.Value] = data_inputs(node, support) if support.follows else _first(node)
    for value in inputs:
        readers = placement.values.setdefault(value, set())
        if readers is not None:
            readers.add(node)
    if support.output == "required":
        output = settled(node.outputs[0])
        placement.values[output] = None
        if support.same_scale:
            placement.same_scale[output] = inputs[0]


def _first(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs[:1] if value is not None]
