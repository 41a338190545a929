"""Lowering the dialect to what ONNX Runtime's CPU provider runs natively."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from qcompiler.backends.base import LegalizeReport, Lowering
from qcompiler.backends.onnxruntime.expand import expand_at_load, weight_dequantizers
from qcompiler.backends.onnxruntime.fusions import fuse_all
from qcompiler.backends.onnxruntime.guard import guard_float_nodes
from qcompiler.backends.onnxruntime.half_scales import store_factors_in_half
from qcompiler.backends.onnxruntime.kernels import optimized_graph
from qcompiler.backends.onnxruntime.low_bit_operands import LowBitOperands
from qcompiler.backends.onnxruntime.lower_dynamic import lower_dynamic_matmul
from qcompiler.backends.onnxruntime.lower_gather import lower_embedding
from qcompiler.backends.onnxruntime.lower_low_bit import LowBitOptions, lower_low_bit
from qcompiler.backends.onnxruntime.lower_low_bit_gather import lower_low_bit_gather
from qcompiler.backends.onnxruntime.lower_lstm import lower_lstm
from qcompiler.backends.onnxruntime.normalize import (
    sink_transposes,
    spell_out_gemm_zero_points,
    split_dynamic_gemms,
)
from qcompiler.backends.onnxruntime.packed_blocks import pack_blocks
from qcompiler.graph.narrow_codes import store_narrow
from qcompiler.prepare.clean import remove_unused

PACKED = "3-bit codes packed"
"""What is counted among the fusions of a report: constants of 3-bit codes that take 3 bits."""

_INTEGER_READERS = ("Conv", "MatMul", "Gemm", "Add", "Mul", "Concat")
"""Ops whose QDQ form the runtime fuses; a weight in front of anything else is expanded at load."""


def legalize(model: ir.Model, *, fuse: bool, low_bit: LowBitOptions) -> LegalizeReport:
    """Rewrite ``model`` in place; the order matters: weights first, then what surrounds them."""
    few_bits = _lower_low_bit(model, low_bit)
    split_dynamic_gemms(model)
    sink_transposes(model)
    spell_out_gemm_zero_points(model)
    lowered = [*few_bits, *(Lowering(name, "DynamicQuantizeMatMul") for name in lower_dynamic_matmul(model))]
    lowered += [Lowering(name, "Gather of int8 rows") for name in lower_embedding(model)]
    lowered += [Lowering(name, "DynamicQuantizeLSTM") for name in lower_lstm(model)]
    fusions = fuse_all(model) if fuse else {}
    reason = "no integer kernel: expanded when the session is made"
    stranded = [node for node in weight_dequantizers(model.graph) if not _has_integer_reader(node)]
    lowered += [Lowering(name, "", reason) for name in expand_at_load(model.graph, stranded)]
    store_factors_in_half(model)
    guard_float_nodes(model)
    remove_unused(model)
    store_narrow(model)
    packed = len(pack_blocks(model))
    return LegalizeReport(tuple(lowered), {**fusions, PACKED: packed} if packed else fusions)


def _lower_low_bit(model: ir.Model, options: LowBitOptions) -> list[Lowering]:
    operands = LowBitOperands(dict(model.graph.opset_imports), options.largest_code, options.packed)
    lowered = lower_low_bit_gather(model, operands) + lower_low_bit(model, operands, options)
    if lowered:
        remove_unused(model)  # what made the weights would be taken for weights without a kernel
    return lowered


def mend(model: ir.Model, path: Path) -> list[str]:
    """Expand the weights whose DequantizeLinear the runtime left in the graph of ``path``; return their names.

    ``path`` holds ``model``; it must be written again where anything is returned.
    """
    unfused = optimized_graph(path).unfused_dequantizers()
    stranded = [
        node
        for node in weight_dequantizers(model.graph)
        if node.inputs[0] is not None and node.inputs[0].name in unfused
    ]
    mended = expand_at_load(model.graph, stranded)
    if mended:
        guard_float_nodes(model)
        remove_unused(model)
    return mended


def _has_integer_reader(node: ir.Node) -> bool:
    readers = [use.node for use in node.outputs[0].uses()]
    return any(reader.op_type in _INTEGER_READERS and _reads_codes(reader) for reader in readers)


def _reads_codes(node: ir.Node) -> bool:
    """Whether a node's first input, too, comes out of a DequantizeLinear."""
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    return producer is not None and producer.op_type == "DequantizeLinear"
