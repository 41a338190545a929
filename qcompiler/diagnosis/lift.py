"""Any quantized model in one form: float operators, float constants, and quantizers of activations apart.

1. What is computed of constant codes (DequantizeLinear, functions, MatMulNBits, MatMulBnb4, GatherBlockQuantized) is a
   float constant that MatMul, Gemm, Conv or Gather read; a kernel's own layout is read out by that kernel.
2. QLinearConv, QLinearMatMul, QGemm, QLinearAdd, ... are DequantizeLinear, the float operator and QuantizeLinear.
3. MatMulInteger and ConvInteger with the Cast and Mul behind them, MatMulIntegerToFloat and DynamicQuantizeMatMul are
   the same with the scale of the moment.
4. Codes that another operator makes (MaxPool of codes) get DequantizeLinear and QuantizeLinear behind, which is exact.

What the lifted model computes is what the file says, but for the rounding of float32; operators that are not in the
list stay as they are. Where a runtime's kernel differs from what the file says is for the deployed outputs to show.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from qcompiler.diagnosis.lift_constants import fold_constants
from qcompiler.diagnosis.lift_integer import lift_integer_products
from qcompiler.diagnosis.lift_low_bit import lift_low_bit
from qcompiler.diagnosis.lift_qlinear import lift_qlinear
from qcompiler.diagnosis.quantizers import expose_codes
from qcompiler.diagnosis.stored import Lifted, Stored
from qcompiler.prepare.constants import lift_constants

QUANTIZED_OPERATORS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QGemm"}
    | {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"}
    | {
        "QAttention",
        "DynamicQuantizeLSTM",
        "QEmbedLayerNormalization",
        "QMoE",
        "DequantizeTable",
        "DequantizeMin",
    }
)


def is_quantized_operator(node: ir.Node) -> bool:
    """Whether an operator reads or makes codes."""
    return node.op_type in QUANTIZED_OPERATORS or node.op_type.startswith("QLinear")


def lift(model: ir.Model) -> Lifted:
    """Lift ``model`` in place.

    Raises:
        ModelError: the runtime cannot compute a constant of the model.
    """
    stored: dict[str, Stored] = {}
    lift_constants(model)
    for step in (lift_low_bit, fold_constants, lift_qlinear, lift_integer_products):
        step(model, stored)
    expose_codes(model)
    RemoveUnusedNodesPass()(model)
    left = {
        node.op_type
        for node in model.graph.all_nodes()
        if is_quantized_operator(node)
        and node.op_type not in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
    }
    return Lifted(model, stored, tuple(sorted(left)))
