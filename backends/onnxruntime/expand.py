"""Weights that no integer kernel reads: stored in int8, expanded once when the session is made.

ONNX Runtime never folds DequantizeLinear, so one that does not fuse is paid at every run.  It does fold Cast and
Mul, so ``Mul(Cast(codes), scale)`` costs nothing at run time: the file keeps the small weight and the session holds
the float one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from qcompiler.graph.narrow_codes import narrow_of
from qcompiler.graph.qdq import ORIGIN, add_initializer
from qcompiler.graph.weighted import array_of, is_constant
from qcompiler.numerics.affine import along_axis


def weight_dequantizers(graph: ir.Graph) -> list[ir.Node]:
    """DequantizeLinear nodes of constant codes, subgraphs included."""
    return [
        node
        for node in graph.all_nodes()
        if node.op_type == "DequantizeLinear" and is_made_of_constants(node.inputs[0])
    ]


def is_made_of_constants(codes: ir.Value | None) -> bool:
    """Whether codes are a constant, or become one when the session is made: they may lie narrower in the file."""
    return is_constant(codes) or narrow_of(codes) is not None


def expand_at_load(graph: ir.Graph, dequantizers: Iterable[ir.Node]) -> list[str]:
    """Replace each DequantizeLinear of a constant by Cast and Mul; return the names of the nodes replaced."""
    return [_expand(node) for node in dequantizers]


def _expand(node: ir.Node) -> str:
    owner = node.graph
    codes, scale = node.inputs[0], node.inputs[1]
    if not isinstance(owner, ir.Graph) or codes is None or scale is None:
        raise AssertionError(f"{node.name} is not a DequantizeLinear of a graph")
    holder = scale.graph if isinstance(scale.graph, ir.Graph) else owner
    output = node.outputs[0]
    if (
        "block_size" in node.attributes
    ):  # the scale may be a chain of nodes then: super-blocks, double quantization
        return _expand_blocks(node, holder)
    cast = ir.node("Cast", [_centred(node, holder)], {"to": int(ir.DataType.FLOAT)}, name=f"{node.name}_Cast")
    cast.outputs[0].name = f"{output.name}_cast"
    aligned, factor = _aligned_scale(node, scale, _rank(codes), holder)
    mul = ir.node("Mul", [cast.outputs[0], factor], name=str(node.name))
    mul.metadata_props.update(node.metadata_props)
    _replace(node, [cast, *aligned, mul])
    return str(node.metadata_props.get(ORIGIN, node.name))


def _expand_blocks(node: ir.Node, holder: ir.Graph) -> str:
    """Blocks along an axis: scales and zero points are gathered for every row first, which is folded too."""
    codes, scale = node.inputs[0], node.inputs[1]
    if codes is None or codes.const_value is None or scale is None:
        raise AssertionError(f"{node.name} has no constant codes")
    axis, block = _axis(node), node.attributes["block_size"].as_int()
    length = int(str(codes.const_value.shape[axis]))
    index = add_initializer(holder, f"{codes.name}_block_of_row", np.arange(length) // block)
    nodes: list[ir.Node] = []

    def made(op: str, inputs: list[ir.Value], **attributes: int) -> ir.Value:
        nodes.append(ir.node(op, inputs, attributes, name=f"{node.name}_{op}_{len(nodes)}"))
        nodes[-1].outputs[0].name = f"{node.outputs[0].name}_step{len(nodes)}"
        return nodes[-1].outputs[0]

    levels = made("Cast", [codes], to=int(ir.DataType.FLOAT))
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    if zero_point is not None:
        wide = made("Cast", [zero_point], to=int(ir.DataType.FLOAT))
        levels = made("Sub", [levels, made("Gather", [wide, index], axis=axis)])
    made("Mul", [levels, made("Gather", [scale, index], axis=axis)])
    nodes[-1].name = str(node.name)
    nodes[-1].metadata_props.update(node.metadata_props)
    _replace(node, nodes)
    return str(node.metadata_props.get(ORIGIN, node.name))


def _replace(node: ir.Node, nodes: list[ir.Node]) -> None:
    owner, output, result = node.graph, node.outputs[0], nodes[-1].outputs[0]
    if not isinstance(owner, ir.Graph):
        raise AssertionError(f"{node.name} belongs to no graph")
    result.shape, result.type = output.shape, output.type
    owner.insert_before(node, nodes)
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    owner.remove(node, safe=True)
    result.name = output.name


def _centred(node: ir.Node, holder: ir.Graph) -> ir.Value:
    """The codes with their zero point taken off, which needs a wider type unless it is zero."""
    codes = node.inputs[0]
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    if codes is None:
        raise AssertionError(f"{node.name} has no codes")
    if zero_point is None or not np.any(array_of(zero_point)):
        return codes
    array = array_of(codes)
    offset = (
        along_axis(array_of(zero_point), _axis(node), array.ndim)
        if array_of(zero_point).ndim
        else array_of(zero_point)
    )
    return add_initializer(holder, f"{codes.name}_centred", array.astype(np.int16) - offset.astype(np.int16))


def _aligned_scale(
    node: ir.Node, scale: ir.Value, rank: int, holder: ir.Graph
) -> tuple[list[ir.Node], ir.Value]:
    """The scale shaped so that it broadcasts along the quantized axis, and the nodes that shape it at load."""
    if not is_constant(scale):  # made of codes by nodes of its own, which fold as well
        shape = np.full(rank, 1, np.int64)
        shape[_axis(node)] = -1
        target = add_initializer(holder, f"{scale.name}_aligned_shape", shape)
        reshape = ir.node("Reshape", [scale, target], name=f"{node.name}_Reshape")
        reshape.outputs[0].name = f"{scale.name}_aligned"
        return [reshape], reshape.outputs[0]
    array = array_of(scale)
    if array.ndim == 0:
        return [], scale
    return [], add_initializer(holder, f"{scale.name}_aligned", along_axis(array, _axis(node), rank))


def _rank(codes: ir.Value) -> int:
    narrow = narrow_of(codes)
    return array_of(codes).ndim if narrow is None else len(narrow.shape)


def _axis(node: ir.Node) -> int:
    attribute = node.attributes.get("axis")
    return 1 if attribute is None else int(attribute.as_int())
