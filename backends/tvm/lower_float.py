"""Float products by constant matrices become one kernel, whose weights are packed when the model is compiled."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.backends.onnxruntime.lower_dynamic import bias_add, other_input
from qcompiler.backends.tvm.importing.attributes import integer, number
from qcompiler.backends.tvm.private import constants, replace
from qcompiler.graph.weighted import array_of, is_constant


def lower_float(model: ir.Model) -> list[Lowering]:
    """Rewrite every MatMul and Gemm by a float32 matrix in place; say which."""
    packed: dict[tuple[ir.Value, bool], ir.Value] = {}
    nodes = [node for node in model.graph if node.op_type in ("MatMul", "Gemm") and not node.domain]
    return [Lowering(str(node.name), "FloatGemm") for node in nodes if _lower(node, packed)]


def _lower(node: ir.Node, packed: dict[tuple[ir.Value, bool], ir.Value]) -> bool:
    from qcompiler.backends.tvm.kernels.epilogue import pack_channels
    from qcompiler.backends.tvm.kernels.float_gemm import pack

    x, weight = node.inputs[0], node.inputs[1]
    if (
        x is None
        or weight is None
        or not is_matrix(weight)
        or (x.dtype or ir.DataType.FLOAT) != ir.DataType.FLOAT
    ):
        return False
    gemm, turned = node.op_type == "Gemm", bool(integer(node, "transB", 0))
    scaled = number(node, "alpha", 1.0) != 1 or number(node, "beta", 1.0) != 1 or integer(node, "transA", 0)
    addend = node.inputs[2] if gemm and len(node.inputs) > 2 else None
    assert weight.const_value is not None
    sizes = [int(str(size)) for size in weight.const_value.shape]
    depth, channels = sizes[::-1] if turned else sizes
    if scaled or (addend is not None and not is_row(addend, channels)):
        return False
    add = None if gemm else bias_add(node, channels)
    bias = addend if add is None else other_input(add, node.outputs[0])
    key = weight, turned
    if key not in packed:
        matrix = np.asarray(array_of(weight), np.float32)
        arrays = [("packed", pack(matrix.T if turned else matrix))]
        packed[key] = constants(node.outputs[0], str(weight.name), arrays)[0]
    inputs = [x, packed[key]]
    if bias is not None:
        row = pack_channels(np.asarray(array_of(bias), np.float32).reshape(-1))
        inputs += constants(node.outputs[0], str(node.name), [("bias", row)])
    attributes: dict[str, int | str] = {"channels": channels, "depth": depth, "bias": int(bias is not None)}
    replace(node, node if add is None else add, "FloatGemm", inputs, attributes)
    return True


def is_matrix(value: ir.Value) -> bool:
    """Whether a value is a constant float32 matrix with elements."""
    tensor = value.const_value if is_constant(value) else None
    return (
        tensor is not None
        and len(tensor.shape) == 2
        and tensor.size > 0
        and tensor.dtype == ir.DataType.FLOAT
    )


def is_row(value: ir.Value, channels: int) -> bool:
    """Whether a value is a constant with one element a channel."""
    return is_constant(value) and array_of(value).shape in ((channels,), (1, channels))
