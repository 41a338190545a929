"""Embedding tables of few bits: rows are gathered as codes and expanded afterwards, by GatherBlockQuantized.

A table that a product reads too (a tied ``lm_head``) is stored once: MatMulNBits has the same bytes, in blocks.  Tables
whose codes the kernel cannot say (nf4, minima) are put on a grid of int8.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.backends.onnxruntime.low_bit_kernels import MICROSOFT
from qcompiler.backends.onnxruntime.low_bit_operands import BlockOperands, LowBitOperands
from qcompiler.backends.onnxruntime.low_bit_weight import makes_low_bit_weight
from qcompiler.backends.onnxruntime.lower_low_bit import BLOCK_ROUNDING_DB
from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.graph.weighted import array_of


def lower_low_bit_gather(model: ir.Model, operands: LowBitOperands) -> list[Lowering]:
    """Rewrite every Gather of rows of such a table in place; say what became of each."""
    gathers = [node for node in model.graph.all_nodes() if node.op_type == "Gather" and node.domain == ""]
    done = [_lower(gather, operands) for gather in gathers if _reads_low_bit(gather)]
    if any(item.kernel for item in done):
        model.graph.opset_imports.setdefault(MICROSOFT, 1)
    return done


def _reads_low_bit(gather: ir.Node) -> bool:
    return gather.inputs[0] is not None and makes_low_bit_weight(gather.inputs[0].producer())


def _lower(gather: ir.Node, operands: LowBitOperands) -> Lowering:
    table, ids, name = gather.inputs[0], gather.inputs[1], str(gather.name)
    maker = table.producer() if table is not None else None
    if maker is None or ids is None:
        raise AssertionError(f"{name} reads no table")
    axis = gather.attributes.get("axis")
    if axis is not None and axis.as_int() != 0:
        return Lowering(name, "", "it gathers along another axis than the first")
    weight = operands.weight(maker, 1)
    if isinstance(weight, str):
        return Lowering(name, "", weight)
    if weight.rows * weight.bits % 8:
        return Lowering(name, "", "its rows are no whole number of bytes")
    stored = operands.blocks(maker, 1, exact=True)
    is_exact = stored is not None and stored.minimum is None
    if stored is None or not is_exact:
        stored = operands.blocks(maker, 1, exact=False)
    assert stored is not None
    _replace(gather, ids, stored, shared=_others_read(maker))
    grid = "" if is_exact else ", on a grid of int8"
    reason = f"{8 * stored.size_bytes / weight.codes.size:.2f} bits a weight, block {stored.block}{grid}"
    return Lowering(name, "GatherBlockQuantized", reason, rounding_db=None if is_exact else BLOCK_ROUNDING_DB)


def _others_read(maker: ir.Node) -> bool:
    return len(maker.outputs[0].uses()) > 1


def _replace(gather: ir.Node, ids: ir.Value, stored: BlockOperands, *, shared: bool) -> None:
    graph, output, name = graph_of(gather.outputs[0]), gather.outputs[0], str(gather.name)
    nodes: list[ir.Node] = []
    rows_bytes = stored.rows * stored.bits // 8
    if shared and not stored.is_padded:  # one copy in the file; the runtime folds the Reshape
        shape = add_initializer(graph_of(stored.data), f"{stored.data.name}_rows", np.array([0, -1]))
        nodes.append(ir.node("Reshape", [stored.data, shape], name=f"{name}_rows"))
        nodes[0].outputs[0].name = f"{output.name}_rows"
        data = nodes[0].outputs[0]
    else:
        flat = array_of(stored.data).reshape(stored.outputs, -1)[:, :rows_bytes]
        data = add_initializer(
            graph_of(stored.data), f"{stored.data.name}_of_rows", np.ascontiguousarray(flat)
        )
    inputs = [data, ids, stored.scales, *([] if stored.zero_points is None else [stored.zero_points])]
    attributes = {"bits": stored.bits, "block_size": stored.block, "gather_axis": 0, "quantize_axis": 1}
    nodes.append(ir.node("GatherBlockQuantized", inputs, attributes, domain=MICROSOFT, name=name))
    nodes[-1].metadata_props.update(gather.metadata_props)
    result = nodes[-1].outputs[0]
    result.shape, result.type = output.shape, output.type
    graph.insert_before(gather, nodes)
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(gather, safe=True)
    result.name = output.name
