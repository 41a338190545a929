"""Float products by constant matrices: turned when the model is compiled, so that an output reads a row."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.lower_dynamic import bias_add, other_input
from qcompiler.backends.tvm.importing.attributes import integer, number
from qcompiler.backends.tvm.lower_float import is_matrix, is_row
from qcompiler.backends.tvm.private import constants, replace
from qcompiler.graph.weighted import array_of


def lower_float(model: ir.Model) -> None:
    """Rewrite every MatMul and Gemm by a float32 matrix in place."""
    turned: dict[ir.Value, ir.Value] = {}
    for node in [node for node in model.graph if node.op_type in ("MatMul", "Gemm") and not node.domain]:
        _lower(node, turned)


def _lower(node: ir.Node, turned: dict[ir.Value, ir.Value]) -> None:
    x, weight = node.inputs[0], node.inputs[1]
    if x is None or weight is None or not is_matrix(weight) or x.dtype not in (None, ir.DataType.FLOAT):
        return
    gemm, stored = node.op_type == "Gemm", bool(integer(node, "transB", 0))
    scaled = number(node, "alpha", 1.0) != 1 or number(node, "beta", 1.0) != 1 or integer(node, "transA", 0)
    addend = node.inputs[2] if gemm and len(node.inputs) > 2 else None
    assert weight.const_value is not None
    sizes = [int(str(size)) for size in weight.const_value.shape]
    channels, depth = sizes if stored else sizes[::-1]
    if scaled or (addend is not None and not is_row(addend, channels)):
        return
    add = None if gemm else bias_add(node, channels)
    bias = addend if add is None else other_input(add, node.outputs[0])
    if not stored and weight not in turned:
        arrays = [("turned", array_of(weight).T)]
        turned[weight] = constants(node.outputs[0], str(weight.name), arrays)[0]
    inputs = [x, weight if stored else turned[weight]]
    if bias is not None:
        row = np.asarray(array_of(bias), np.float32).reshape(-1)
        inputs += constants(node.outputs[0], str(node.name), [("bias", row)])
    attributes: dict[str, int | str] = {"channels": channels, "depth": depth}
    replace(node, node if add is None else add, "CudaFloat", inputs, attributes)
