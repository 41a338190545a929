"""Products and convolutions of codes: what quantizes them stays a node of its own, shared by all that read it.

DequantizeLinear(q, s, z) -> MatMul | Gemm (., DequantizeLinear(W)) [-> Add(bias)]    CudaInt8
DequantizeLinear(q, s, z) -> Conv(., DequantizeLinear(W), b)                          CudaConvInt8
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.backends.onnxruntime.constant_value import constant_value
from qcompiler.backends.tvm.importing.attributes import integer
from qcompiler.backends.tvm.private import behind, constants, replace
from qcompiler.backends.tvm.read_int8 import Int8Product, Int8Weight, read_activation, read_product
from qcompiler.graph.weighted import array_of, is_constant

Array = npt.NDArray[np.generic]

WINDOW = ("strides", "pads", "dilations", "kernel_shape")


def lower_int8(model: ir.Model) -> list[Lowering]:
    """Rewrite every one in place; say which."""
    imports = dict(model.graph.opset_imports)
    packed: dict[ir.Value, list[ir.Value]] = {}
    done = []
    for node in list(model.graph):
        product = read_product(node, imports)
        if product is not None:
            _lower(product, packed)
            done.append(Lowering(str(node.name), "CudaInt8"))
        elif node.op_type == "Conv" and not node.domain and _lower_conv(node, imports):
            done.append(Lowering(str(node.name), "CudaConvInt8"))
    return done


def _lower(product: Int8Product, packed: dict[ir.Value, list[ir.Value]]) -> None:
    node, weight, operand = product.node, product.weight, product.operand
    if operand not in packed:
        packed[operand] = _pack(node, str(operand.name), weight)
    inputs = [*codes_of(node.inputs[0]), *packed[operand]]
    if product.bias is not None:
        row = product.bias.astype(np.float32).reshape(-1)
        inputs += constants(node.outputs[0], str(node.name), [("bias", row)])
    attributes: dict[str, int | str] = {
        "channels": weight.codes.shape[1],
        "depth": weight.codes.shape[0],
        "bias": int(product.bias is not None),
    }
    made = replace(node, product.last, "CudaInt8", inputs, attributes)
    if product.activation.magnitude is not None:
        behind(made, "Mul", product.activation.magnitude, "row_magnitude")


def codes_of(value: ir.Value | None) -> list[ir.Value]:
    """Codes, scale and zero point of what :func:`read_activation` has read."""
    node = value.producer() if value is not None else None
    if node is not None and node.op_type == "Mul":
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    assert node is not None
    found = [item for item in node.inputs if item is not None]
    assert len(found) == 3
    return found


def _pack(node: ir.Node, name: str, weight: Int8Weight) -> list[ir.Value]:
    codes = weight.codes.T
    padded = np.zeros((codes.shape[0], -(-codes.shape[1] // 4) * 4), np.int8)
    padded[:, : codes.shape[1]] = codes
    total = codes.sum(axis=1, dtype=np.int32)
    arrays = [("packed", padded.view(np.int32)), ("scale_of_row", weight.scale), ("total", total)]
    return constants(node.outputs[0], name, arrays)


def _lower_conv(node: ir.Node, imports: dict[str, int]) -> bool:
    """Over two dimensions, with static ranges."""
    activation, source = read_activation(node.inputs[0]), node.inputs[1]
    maker = source.producer() if source is not None else None
    if activation is None or activation.kind != "static" or activation.magnitude is not None or maker is None:
        return False
    found = _conv_weight(maker, imports)
    kind = node.attributes.get("auto_pad")
    if found is None or (kind is not None and kind.as_string() not in ("NOTSET", "")):
        return False
    codes, scale = found
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if codes.ndim != 4 or shape is None or not all(isinstance(size, int) for size in list(shape)[1:]):
        return False
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = None if given is None else constant_value(given, imports)
    if bias is None and given is not None:
        return False
    arrays: list[tuple[str, Array]] = [("codes", codes), ("scales", scale * np.float32(activation.scale))]
    if bias is not None:
        arrays.append(("bias", bias.astype(np.float32)))
    values = constants(node.outputs[0], str(node.name), arrays)
    window = {name: ",".join(map(str, _window(node, name, codes))) for name in WINDOW}
    attributes: dict[str, int | str] = {
        "group": integer(node, "group", 1),
        "bias": int(bias is not None),
        **window,
    }
    quantized, _, zero = codes_of(node.inputs[0])
    replace(node, node, "CudaConvInt8", [quantized, zero, *values], attributes)
    return True


def _window(node: ir.Node, name: str, codes: Array) -> list[int]:
    attribute = node.attributes.get(name)
    if attribute is not None:
        return [int(item) for item in attribute.as_ints()]
    return {"kernel_shape": list(codes.shape[2:]), "pads": [0, 0, 0, 0]}.get(name, [1, 1])


def _conv_weight(maker: ir.Node, imports: dict[str, int]) -> tuple[Array, npt.NDArray[np.float32]] | None:
    """Codes ``[F, ...]`` and a scale for each filter; None unless symmetric."""
    stored = maker.inputs[0] if maker.op_type == "DequantizeLinear" and not maker.domain else None
    if (
        stored is None
        or not is_constant(stored)
        or stored.dtype != ir.DataType.INT8
        or "block_size" in maker.attributes
    ):
        return None
    rest = [None if item is None else constant_value(item, imports) for item in maker.inputs[1:]]
    if not rest or any(item is None for item in rest) or (len(rest) > 1 and np.any(rest[1])):
        return None
    scale = np.asarray(rest[0], np.float32)
    if scale.size > 1 and integer(maker, "axis", 1) != 0:
        return None
    codes = array_of(stored)
    return codes, np.broadcast_to(scale.reshape(-1), (codes.shape[0],)).copy()
