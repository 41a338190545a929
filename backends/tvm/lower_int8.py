"""Products of quantized activations and int8 weights become one kernel, which also quantizes.

    DequantizeLinear(q, s, z) -> MatMul(., DequantizeLinear(W)) [-> Add(bias)]     GemmInt8

The per-token form multiplies the product by the row magnitudes afterwards: they commute with a product.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.backends.tvm.private import behind, constants, replace
from qcompiler.backends.tvm.read_int8 import Int8Product, Int8Weight, read_product


def lower_int8(model: ir.Model) -> list[Lowering]:
    """Rewrite every such product in place; say which."""
    imports = dict(model.graph.opset_imports)
    packed: dict[ir.Value, list[ir.Value]] = {}
    done = []
    for node in list(model.graph):
        product = read_product(node, imports)
        if product is not None:
            _lower(product, packed)
            done.append(Lowering(str(node.name), "GemmInt8"))
    return done


def _lower(product: Int8Product, packed: dict[ir.Value, list[ir.Value]]) -> None:
    from qcompiler.backends.tvm.kernels.epilogue import pack_channels

    node, activation, weight, bias = product.node, product.activation, product.weight, product.bias
    holder, name = node.outputs[0], str(node.name)
    inputs = [activation.source]
    if activation.kind == "static":
        scale, zero = np.array([activation.scale], np.float32), np.array([activation.zero_point], np.int32)
        inputs += constants(holder, name, [("x_scale", scale), ("x_zero", zero)])
    if product.operand not in packed:
        packed[product.operand] = _pack(node, str(product.operand.name), weight)
    inputs += packed[product.operand]
    if bias is not None:
        row = pack_channels(bias.astype(np.float32).reshape(-1))
        inputs += constants(holder, name, [("bias", row)])
    attributes: dict[str, int | str] = {
        "channels": weight.codes.shape[1],
        "depth": weight.codes.shape[0],
        "activation": activation.kind,
        "bias": int(bias is not None),
    }
    made = replace(node, product.last, "GemmInt8", inputs, attributes)
    if activation.magnitude is not None:
        behind(made, "Mul", activation.magnitude, "row_magnitude")


def _pack(node: ir.Node, name: str, weight: Int8Weight) -> list[ir.Value]:
    from qcompiler.backends.tvm.kernels.gemm_int8 import pack

    found = pack(weight.codes, weight.scale)
    arrays = (("packed", found.weight), ("packed_scale", found.scale), ("packed_total", found.total))
    return constants(node.outputs[0], name, arrays)
