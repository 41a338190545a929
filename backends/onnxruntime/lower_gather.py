"""Embedding tables in int8: rows are gathered first and expanded afterwards.

``Gather(DequantizeLinear(table, scale), ids)`` expands the whole table at every run.  It becomes
``Mul(Cast(Gather(table, ids)), s)`` where s is ``Gather(scale as [V, 1], ids)`` for a scale per row, and the scale
itself for one per column or per tensor.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from qcompiler.backends.onnxruntime.half_scales import narrowed, widened
from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.graph.weighted import array_of, is_constant


def lower_embedding(model: ir.Model) -> list[str]:
    """Rewrite every such Gather in place and return the names of those rewritten."""
    gathers = [node for node in model.graph.all_nodes() if node.op_type == "Gather" and node.domain == ""]
    lowered = [str(node.name) for node in gathers if _lower(node)]
    if lowered:
        RemoveUnusedNodesPass()(model)
    return lowered


def _lower(gather: ir.Node) -> bool:
    source, ids, graph = gather.inputs[0], gather.inputs[1], gather.graph
    dequantize = source.producer() if source is not None else None
    if dequantize is None or ids is None or graph is None or not _is_plain(gather, dequantize):
        return False
    codes, scale = dequantize.inputs[0], dequantize.inputs[1]
    if codes is None or scale is None:
        return False
    rows = ir.node("Gather", [codes, ids], {"axis": 0}, name=str(gather.name))
    rows.metadata_props.update(gather.metadata_props)
    wide = ir.node("Cast", rows.outputs, {"to": int(ir.DataType.FLOAT)}, name=f"{gather.name}_Cast")
    nodes = [rows, wide]
    factor = scale
    axis = dequantize.attributes.get("axis")
    if array_of(scale).ndim and axis is not None and axis.as_int() in (0, -2):
        column = add_initializer(
            graph_of(codes), f"{scale.name}_of_rows", narrowed(array_of(scale))[:, np.newaxis]
        )
        nodes.append(ir.node("Gather", [column, ids], {"axis": 0}, name=f"{gather.name}_scale"))
        if column.dtype == ir.DataType.FLOAT16:
            nodes.append(widened(nodes[-1].outputs[0], f"{gather.name}_scale_Cast"))
        factor = nodes[-1].outputs[0]
    nodes.append(ir.node("Mul", [wide.outputs[0], factor], name=f"{gather.name}_Mul"))
    output, result = gather.outputs[0], nodes[-1].outputs[0]
    for node in nodes[:-1]:
        node.outputs[0].name = f"{node.name}_output"
    result.shape, result.type = output.shape, output.type
    graph.insert_before(gather, nodes)
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    result.name = output.name
    graph.remove(gather, safe=True)
    return True


def _is_plain(gather: ir.Node, dequantize: ir.Node) -> bool:
    """Rows of a constant 2-D int8 or uint8 table without zero point, expanded to float32."""
    axis = gather.attributes.get("axis")
    if dequantize.op_type != "DequantizeLinear" or (axis is not None and axis.as_int() != 0):
        return False
    if len(dequantize.inputs) == 3 and dequantize.inputs[2] is not None:
        zero = dequantize.inputs[2]
        if not is_constant(zero) or np.any(array_of(zero)):
            return False
    codes, scale = dequantize.inputs[0], dequantize.inputs[1]
    if codes is None or scale is None or not is_constant(codes) or not is_constant(scale):
        return False
    bytes_only = codes.dtype in (ir.DataType.INT8, ir.DataType.UINT8) and scale.dtype == ir.DataType.FLOAT
    return bytes_only and array_of(codes).ndim == 2 and array_of(scale).ndim < 2
