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
from qcompiler.backends.onnxruntime.lower_dynamic import bias_add, other_input
from qcompiler.backends.tvm.importing.attributes import integer, number
from qcompiler.backends.tvm.private import constants, replace
from qcompiler.backends.tvm.read_int8 import Activation, Int8Weight, read_activation, read_weight
from qcompiler.graph.qdq import graph_of
from qcompiler.graph.weighted import array_of, is_constant

Array = npt.NDArray[np.generic]

WINDOW = ("strides", "pads", "dilations", "kernel_shape")


def lower_int8(model: ir.Model) -> list[Lowering]:
    """Rewrite every one in place; say which."""
    imports = dict(model.graph.opset_imports)
    packed: dict[ir.Value, list[ir.Value]] = {}
    done = []
    for node in [node for node in model.graph if not node.domain]:
        if node.op_type in ("MatMul", "Gemm") and _lower(node, imports, packed):
            done.append(Lowering(str(node.name), "CudaInt8"))
        elif node.op_type == "Conv" and _lower_conv(node, imports):
            done.append(Lowering(str(node.name), "CudaConvInt8"))
    return done


def _lower(node: ir.Node, imports: dict[str, int], packed: dict[ir.Value, list[ir.Value]]) -> bool:
    activation, source = read_activation(node.inputs[0]), node.inputs[1]
    gemm = node.op_type == "Gemm"
    scaled = number(node, "alpha", 1.0) != 1 or number(node, "beta", 1.0) != 1 or integer(node, "transA", 0)
    if activation is None or source is None or (gemm and scaled):
        return False
    weight = read_weight(source, imports, transposed=gemm and bool(integer(node, "transB", 0)))
    if weight is None:
        return False
    last, bias = node, None
    if gemm and len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = constant_value(node.inputs[2], imports)
        if bias is None or bias.reshape(-1).size != weight.scale.size or activation.magnitude is not None:
            return False
    elif not gemm and activation.magnitude is None:
        add = bias_add(node, weight.scale.size)
        operand = other_input(add, node.outputs[0]) if add is not None else None
        bias = None if operand is None else constant_value(operand, imports)
        last = add if add is not None and bias is not None else node
    if source not in packed:
        packed[source] = _pack(node, str(source.name), weight)
    _replace(node, last, activation, packed[source], bias, weight)
    return True


def _replace(
    node: ir.Node,
    last: ir.Node,
    activation: Activation,
    values: list[ir.Value],
    bias: Array | None,
    weight: Int8Weight,
) -> None:
    inputs = [*codes_of(node.inputs[0]), *values]
    if bias is not None:
        row = bias.astype(np.float32).reshape(-1)
        inputs += constants(node.outputs[0], str(node.name), [("bias", row)])
    attributes: dict[str, int | str] = {
        "channels": weight.codes.shape[1],
        "depth": weight.codes.shape[0],
        "bias": int(bias is not None),
    }
    made = replace(node, last, "CudaInt8", inputs, attributes)
    if activation.magnitude is not None:
        behind(made, "Mul", activation.magnitude, "row_magnitude")


def behind(node: ir.Node, op_type: str, operand: ir.Value, suffix: str) -> None:
    """Put an operator of two inputs between a node and everything that reads its result."""
    output = node.outputs[0]
    made = ir.node(op_type, [output, operand], name=f"{node.name}_{suffix}")
    made.outputs[0].shape, made.outputs[0].type = output.shape, output.type
    name = str(output.name)
    graph_of(output).insert_after(node, made)
    output.replace_all_uses_with(made.outputs[0], replace_graph_outputs=True)
    made.replace_input_with(0, output)
    output.name, made.outputs[0].name = f"{name}_before_{suffix}", name


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
