"""The parts of a lifted model between values that both models have: what can be run alone, and so be blamed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.diagnosis.lift import is_quantized_operator
from qcompiler.diagnosis.match import Matches, base_names
from qcompiler.diagnosis.quantizers import EXPOSED, Quantizer
from qcompiler.diagnosis.stored import Lifted
from qcompiler.graph.weighted import array_of, is_constant
from qcompiler.verify.blame import inputs_of

PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Gather", "LSTM", "GRU", "RNN"})

_CODES = frozenset({ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4})


@dataclass(frozen=True)
class Operand:
    """A constant of the quantized model beside what it is in the float model.

    Attributes:
        stored: name of the lifted constant.
        reader: the lifted node that reads it, at input ``index``.
        twin: the float model's node, None where it is not known which.
        exact: the float model's constant, laid out alike; None where it is not known.
    """

    stored: str
    reader: ir.Node
    index: int
    twin: ir.Node | None
    exact: ir.Value | None


@dataclass(frozen=True)
class Segment:
    """What makes one matched value from other matched values.

    Attributes:
        value: name in the float model.
        lifted: name in the lifted model.
        nodes: of the lifted model, in its order.
        twins: of the float model.
        inputs: matched values that the lifted nodes read, by the float model's names.
        twin_inputs: those that the float nodes read.
        operands: quantized constants in it.
        name: of the float model's node that it stands for, as ``--exclude`` takes it.
        op_type: of that node.
        quantized: whether anything in it is, its inputs aside.
        bits: least bits of a code in it; 8 where only a kernel knows.
    """

    value: str
    lifted: str
    nodes: tuple[ir.Node, ...]
    twins: tuple[ir.Node, ...]
    inputs: tuple[str, ...]
    twin_inputs: tuple[str, ...]
    operands: tuple[Operand, ...]
    name: str
    op_type: str
    quantized: bool
    bits: int


def segments(reference: ir.Model, lifted: Lifted, matches: Matches, found: list[Quantizer]) -> list[Segment]:
    """All segments, in the order of the float model."""
    names = {lifted_name: name for name, lifted_name in matches.pairs.items()}
    order = {node: index for index, node in enumerate(lifted.model.graph)}
    outside = {item.before for item in found if item.before.name in names}
    makers = {str(value.name): value for node in lifted.model.graph for value in node.outputs}
    result = []
    for node in reference.graph:
        for value in node.outputs:
            target = makers.get(matches.pairs.get(str(value.name), ""))
            if target is None:
                continue
            nodes, inputs = _behind(target, {makers[n] for n in names if n in makers})
            twins, twin_inputs = _behind(value, _values(reference, matches.pairs))
            ordered = tuple(sorted(nodes, key=lambda item: order[item]))
            operands = _operands(ordered, twins, lifted)
            name, op_type = _name(value, twins, operands)
            result.append(
                Segment(
                    str(value.name),
                    str(target.name),
                    ordered,
                    tuple(twins),
                    tuple(dict.fromkeys(names[str(item.name)] for item in inputs if item.name in names)),
                    tuple(
                        dict.fromkeys(str(item.name) for item in twin_inputs if item.name in matches.pairs)
                    ),
                    operands,
                    name,
                    op_type,
                    bool(operands) or any(_is_inner(item, outside) for item in ordered),
                    min((lifted.stored[item.stored].bits for item in operands), default=8),
                )
            )
    return result


def _values(model: ir.Model, wanted: Mapping[str, str]) -> set[ir.Value]:
    return {value for node in model.graph for value in node.outputs if value.name in wanted}


def _behind(target: ir.Value, stops: set[ir.Value]) -> tuple[list[ir.Node], list[ir.Value]]:
    """The nodes that make ``target`` from ``stops`` and graph inputs, and which of these they read."""
    pending = [target.producer()]
    nodes: dict[ir.Node, None] = {}
    read: dict[ir.Value, None] = {}
    while pending:
        node = pending.pop()
        if node is None or node in nodes:
            continue
        nodes[node] = None
        for source in inputs_of(node):
            maker = source.producer()
            if source in stops or (maker is None and not is_constant(source)):
                read[source] = None
            elif maker is not None and maker.graph is target.graph:  # not one inside a subgraph of node
                pending.append(maker)
    public = [source for source in read if source.graph is target.graph]
    return list(nodes), public


def _inside(node: ir.Node) -> list[ir.Node]:
    """The nodes of a node's subgraphs."""
    graphs = [item.as_graph() for item in node.attributes.values() if item.type == ir.AttributeType.GRAPH]
    return [inner for graph in graphs for inner in graph.all_nodes()]


def _is_inner(node: ir.Node, outside: set[ir.Value]) -> bool:
    """Whether a node is quantization inside a segment: not the quantizer of one of its inputs, nor its reader."""
    if any(is_quantized_operator(inner) for inner in _inside(node)):
        return True
    table = node.inputs[0] if node.op_type == "Gather" else None
    if table is not None and is_constant(table) and table.dtype in _CODES:
        return True
    if not is_quantized_operator(node):
        return False
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"):
        return True
    source = node.inputs[0]
    if str(node.name).endswith(EXPOSED):
        return False
    if node.op_type == "DequantizeLinear":
        maker = source.producer() if source is not None else None
        return maker is None or maker.op_type not in ("QuantizeLinear", "DynamicQuantizeLinear")
    return source not in outside


def _operands(nodes: Iterable[ir.Node], twins: list[ir.Node], lifted: Lifted) -> tuple[Operand, ...]:
    found = []
    for node in nodes:
        for index, value in enumerate(node.inputs):
            if value is not None and value.name in lifted.stored:
                twin, exact = _twin_of(node, index, value, twins)
                found.append(Operand(str(value.name), node, index, twin, exact))
    return tuple(found)


def _twin_of(
    node: ir.Node, index: int, value: ir.Value, twins: list[ir.Node]
) -> tuple[ir.Node | None, ir.Value | None]:
    """The float node and its constant of the same shape: of the same type first, then of the same name."""
    names = set(base_names(str(value.name).removesuffix("_lifted")))
    shape = array_of(value).shape
    best: tuple[tuple[bool, bool, bool], ir.Node, ir.Value] | None = None
    for twin in twins:
        for other_index, other in enumerate(twin.inputs):
            if other is None or not is_constant(other) or array_of(other).shape != shape:
                continue
            score = (twin.op_type == node.op_type, other.name in names, other_index == index)
            if best is None or score > best[0]:
                best = (score, twin, other)
    return (best[1], best[2]) if best is not None else (None, None)


def _name(value: ir.Value, twins: list[ir.Node], operands: tuple[Operand, ...]) -> tuple[str, str]:
    """The float node that a segment stands for: the one whose weight is quantized, a product, or the last."""
    known = [item.twin for item in operands if item.twin is not None]
    products = [
        node for node in twins if node.op_type in PRODUCTS and any(is_constant(v) for v in node.inputs)
    ]
    chosen = next((node for node in known if node.op_type in PRODUCTS), None)
    chosen = chosen or (known[0] if known else None) or (products[0] if products else value.producer())
    assert chosen is not None
    return str(chosen.name or chosen.outputs[0].name), chosen.op_type
