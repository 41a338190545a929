"""Constants that a quantized model computes from codes, as float constants."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from qcompiler.diagnosis.stored import CODE_TYPES, Array, Floats, Stored, stored_integers
from qcompiler.graph.low_bit import BITS, FORMAT
from qcompiler.graph.qdq import add_initializer
from qcompiler.graph.weighted import array_of, is_constant, shape_of
from qcompiler.sequential.slice import slice_model

_SMALL_CODES = CODE_TYPES - {ir.DataType.INT32}
_DEQUANTIZERS = ("DequantizeLinear", "DequantizeTable", "DequantizeMin")


def fold_constants(model: ir.Model, stored: dict[str, Stored]) -> None:
    """Replace what is computed from constants by its value, and note how it was stored where it was quantized.

    Raises:
        ModelError: the runtime cannot compute it.
    """
    from qcompiler.backends.onnxruntime.session import open_model, session_options

    constant = constant_nodes(model)
    wanted = [value for node in constant for value in node.outputs if _is_frontier(value, constant)]
    if not wanted:
        return
    names = [str(value.name) for value in wanted]
    session = open_model(slice_model(model, [], names), session_options(threads=1, optimize=False))
    found = session.run({})
    for value in wanted:
        note = _stored_behind(value)
        replace_by_constant(model, value, np.asarray(found[str(value.name)]), note, stored)


def replace_by_constant(
    model: ir.Model, value: ir.Value, array: Array, note: Stored | None, stored: dict[str, Stored]
) -> None:
    """Let the readers of ``value`` read a constant."""
    constant = add_initializer(model.graph, f"{value.name}_lifted", array)
    if note is not None:
        stored[str(constant.name)] = note
    ir.convenience.replace_all_uses_with(value, constant, replace_graph_outputs=True)


def constant_nodes(model: ir.Model) -> set[ir.Node]:
    """Nodes of the main graph that depend on constants alone."""
    found: set[ir.Node] = set()
    for node in model.graph:
        sources = [value for value in node.inputs if value is not None]
        known = all(is_constant(value) or value.producer() in found for value in sources)
        subgraphs = any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())
        if known and sources and not subgraphs and not any(v.is_graph_output() for v in node.outputs):
            found.add(node)
    return found


def _is_frontier(value: ir.Value, constant: set[ir.Node]) -> bool:
    return any(use.node not in constant for use in value.uses())


def _stored_behind(value: ir.Value) -> Stored | None:
    """How the codes that a constant is computed from are stored; None where it is computed from none."""
    node = _dequantizer(value)
    if node is not None:
        return read_dequantizer(node)
    codes = [item for item in _ancestors(value) if is_constant(item) and item.dtype in _SMALL_CODES]
    largest = max(codes, key=lambda item: math.prod(shape_of(item)), default=None)
    if largest is None or largest.dtype is None:
        return None
    return Stored(f"{largest.dtype.name.lower()} with scales that are computed", largest.dtype.bitwidth)


def _dequantizer(value: ir.Value) -> ir.Node | None:
    """The dequantizer nearest before a constant, along first inputs: scales have dequantizers of their own."""
    node = value.producer()
    while node is not None and node.op_type not in _DEQUANTIZERS:
        source = node.inputs[0] if node.inputs else None
        node = source.producer() if source is not None else None
    return node


def _ancestors(value: ir.Value) -> list[ir.Value]:
    found: dict[ir.Value, None] = {}
    pending = [value]
    while pending:
        item = pending.pop()
        maker = item.producer()
        for source in maker.inputs if maker is not None else ():
            if source is not None and source not in found:
                found[source] = None
                pending.append(source)
    return list(found)


def read_dequantizer(node: ir.Node) -> Stored:
    """How the constant behind a dequantizer is stored."""
    codes, scale = node.inputs[0], node.inputs[1]
    name = str(node.metadata_props.get(FORMAT, ""))
    axis, block = _attribute(node, "axis", 1), _attribute(node, "block_size", 0)
    if (
        node.op_type != "DequantizeLinear"
        or codes is None
        or not is_constant(codes)
        or not is_constant(scale)
    ):
        maker = codes.producer() if codes is not None else None
        zero = maker.inputs[2] if maker is not None and maker.op_type == "QuantizeLinear" else None
        if zero is not None and zero.dtype is not None:
            return Stored(f"{zero.dtype.name.lower()} by QuantizeLinear", zero.dtype.bitwidth)
        bits = float(node.metadata_props.get(BITS, "4"))
        return Stored(name or node.op_type, max(1, int(bits)))
    assert codes.const_value is not None
    assert scale is not None
    if codes.const_value.dtype not in CODE_TYPES:
        return Stored(codes.const_value.dtype.name.lower(), codes.const_value.dtype.bitwidth)
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    points = array_of(zero) if is_constant(zero) and zero is not None else None
    return stored_integers(codes.const_value, array_of(scale), points, axis, block)


def dequantized(note: Stored) -> Floats:
    """The float values of codes that are known to fit."""
    values = note.values()
    assert values is not None, "codes and scales of an operator of the specification fit"
    return values


def _attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())
