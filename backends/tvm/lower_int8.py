"""Products of quantized activations and int8 weights become one kernel, which also quantizes.

    DequantizeLinear(q, s, z) -> MatMul(., DequantizeLinear(W)) [-> Add(bias)]     GemmInt8

The per-token form multiplies the product by the row magnitudes afterwards: they commute with a product.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.backends.onnxruntime.constant_value import constant_value
from qcompiler.backends.onnxruntime.lower_dynamic import bias_add, other_input
from qcompiler.backends.tvm.private import constants, replace
from qcompiler.backends.tvm.read_int8 import Activation, Int8Weight, read_activation, read_weight
from qcompiler.graph.qdq import graph_of


def lower_int8(model: ir.Model) -> list[Lowering]:
    """Rewrite every such product in place; say which."""
    imports = dict(model.graph.opset_imports)
    packed: dict[ir.Value, list[ir.Value]] = {}
    nodes = [node for node in model.graph if node.op_type in ("MatMul", "Gemm") and not node.domain]
    return [Lowering(str(node.name), "GemmInt8") for node in nodes if _lower(node, imports, packed)]


def _lower(node: ir.Node, imports: dict[str, int], packed: dict[ir.Value, list[ir.Value]]) -> bool:
    activation, source = read_activation(node.inputs[0]), node.inputs[1]
    gemm = node.op_type == "Gemm"
    if activation is None or source is None or (gemm and _is_scaled(node)):
        return False
    weight = read_weight(source, imports, transposed=gemm and _flag(node, "transB"))
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
    _replace(node, last, activation, weight, bias, packed)
    return True


def _replace(
    node: ir.Node,
    last: ir.Node,
    activation: Activation,
    weight: Int8Weight,
    bias: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None,
    packed: dict[ir.Value, list[ir.Value]],
) -> None:
    from qcompiler.backends.tvm.kernels.epilogue import pack_channels

    name, source = str(node.name), node.inputs[1]
    assert source is not None
    inputs = [activation.source]
    if activation.kind == "static":
        values = (
            ("x_scale", np.array([activation.scale], np.float32)),
            ("x_zero", np.array([activation.zero_point], np.int32)),
        )
        inputs += constants(node.outputs[0], name, values)
    if source not in packed:
        packed[source] = _pack(node, str(source.name), weight)
    inputs += packed[source]
    if bias is not None:
        inputs += constants(
            node.outputs[0], name, [("bias", pack_channels(bias.astype(np.float32).reshape(-1)))]
        )
    attributes: dict[str, int | str] = {
        "channels": weight.codes.shape[1],
        "depth": weight.codes.shape[0],
        "activation": activation.kind,
        "bias": int(bias is not None),
    }
    made = replace(node, last, "GemmInt8", inputs, attributes)
    if activation.magnitude is not None:
        _multiply(made, activation.magnitude)


def _pack(node: ir.Node, name: str, weight: Int8Weight) -> list[ir.Value]:
    from qcompiler.backends.tvm.kernels.gemm_int8 import pack

    found = pack(weight.codes, weight.scale)
    arrays = (("packed", found.weight), ("packed_scale", found.scale), ("packed_total", found.total))
    return constants(node.outputs[0], name, arrays)


def _multiply(node: ir.Node, magnitude: ir.Value) -> None:
    """Multiply the rows of a product by their magnitudes."""
    output = node.outputs[0]
    scaled = ir.node("Mul", [output, magnitude], name=f"{node.name}_row_magnitude")
    scaled.outputs[0].shape, scaled.outputs[0].type = output.shape, output.type
    graph = graph_of(output)
    name = str(output.name)
    graph.insert_after(node, scaled)
    output.replace_all_uses_with(scaled.outputs[0], replace_graph_outputs=True)
    scaled.replace_input_with(0, output)
    output.name, scaled.outputs[0].name = f"{name}_of_unit_rows", name


def _is_scaled(node: ir.Node) -> bool:
    return _number(node, "alpha") != 1 or _number(node, "beta") != 1 or _flag(node, "transA")


def _number(node: ir.Node, name: str) -> float:
    attribute = node.attributes.get(name)
    return 1.0 if attribute is None else float(attribute.as_float())


def _flag(node: ir.Node, name: str) -> bool:
    attribute = node.attributes.get(name)
    return attribute is not None and bool(attribute.as_int())
