"""Integer products as float products of what their codes stand for.

    MatMulInteger(x codes, W codes, x zero, W zero) -> Cast -> Mul by (x scale * W scale)       and ConvInteger alike
    MatMulIntegerToFloat(x codes, W codes, x scale, W scale, x zero, W zero, bias)
    DynamicQuantizeMatMul(x, W codes, W scale, W zero, bias)

A product whose activation has a scale per row is left: DequantizeLinear has no such form.
"""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.diagnosis.lift_qlinear import constant_operand
from qcompiler.diagnosis.stored import Array, Stored
from qcompiler.graph.weighted import array_of, is_constant

_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def lift_integer_products(model: ir.Model, stored: dict[str, Stored]) -> None:
    """Lift every integer product whose weight and scales are constant."""
    for node in list(model.graph):
        if node.op_type in ("MatMulInteger", "ConvInteger"):
            _lift_accumulated(model, node, stored)
        elif node.op_type == "MatMulIntegerToFloat":
            _lift_scaled(model, node, stored)
        elif node.op_type == "DynamicQuantizeMatMul":
            _lift_dynamic(model, node, stored)


def _lift_accumulated(model: ir.Model, node: ir.Node, stored: dict[str, Stored]) -> None:
    codes, weight, zero, weight_zero = (_input(node, index) for index in range(4))
    cast = _only_reader(node.outputs[0], "Cast")
    product = _only_reader(cast.outputs[0], "Mul") if cast is not None else None
    if codes is None or weight is None or not is_constant(weight) or cast is None or product is None:
        return
    factor = product.inputs[1] if product.inputs[0] is cast.outputs[0] else product.inputs[0]
    scale, weight_scale = _factors(codes, factor)
    if scale is None or weight_scale is None:
        return
    axis = 0 if node.op_type == "ConvInteger" else 1
    operand = constant_operand(model, weight, weight_scale, weight_zero, axis, stored)
    read = _read(codes, scale, zero, f"{node.name}_read")
    result = ir.node(
        node.op_type.removesuffix("Integer"), [read.outputs[0], operand], name=f"{node.name}_lifted"
    )
    result.attributes.update({name: node.attributes[name] for name in _CONV if name in node.attributes})
    _replace(model, product, [read, result])


def _factors(codes: ir.Value, factor: ir.Value | None) -> tuple[ir.Value | None, Array | None]:
    """The activation's scale, and the weight's, out of their product."""
    maker = factor.producer() if factor is not None else None
    scale = _scale_of(codes)
    if maker is None or maker.op_type != "Mul" or scale is None:
        return None, None
    others = [value for value in maker.inputs if value is not scale]
    if len(others) != 1 or others[0] is None or not is_constant(others[0]):
        return None, None
    array = array_of(others[0])
    return scale, array.reshape(-1) if array.size > 1 else array.reshape(())


def _scale_of(codes: ir.Value) -> ir.Value | None:
    maker = codes.producer()
    if maker is None:
        return None
    if maker.op_type == "DynamicQuantizeLinear":
        return maker.outputs[1]
    return maker.inputs[1] if maker.op_type == "QuantizeLinear" else None


def _lift_scaled(model: ir.Model, node: ir.Node, stored: dict[str, Stored]) -> None:
    codes, weight, scale, weight_scale, zero, weight_zero, bias = (_input(node, index) for index in range(7))
    if codes is None or scale is None or weight is None or weight_scale is None:
        return
    maker = codes.producer()
    is_scalar = maker is not None and maker.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")
    if not is_constant(weight) or not is_constant(weight_scale) or not is_scalar:
        return
    read = _read(codes, scale, zero, f"{node.name}_read")
    operand = constant_operand(model, weight, array_of(weight_scale), weight_zero, 1, stored)
    _replace(model, node, [read, *_product(node, read.outputs[0], operand, bias)])


def _lift_dynamic(model: ir.Model, node: ir.Node, stored: dict[str, Stored]) -> None:
    activation, weight, weight_scale, weight_zero, bias = (_input(node, index) for index in range(5))
    if weight is None or weight_scale is None or not is_constant(weight) or not is_constant(weight_scale):
        return
    quantize = ir.node("DynamicQuantizeLinear", [activation], num_outputs=3, name=f"{node.name}_write")
    codes, scale, zero = quantize.outputs
    for value, suffix in zip(quantize.outputs, ("codes", "scale", "zero_point"), strict=True):
        value.name = f"{node.name}_input_{suffix}"
    read = _read(codes, scale, zero, f"{node.name}_read")
    operand = constant_operand(model, weight, array_of(weight_scale), weight_zero, 1, stored)
    _replace(model, node, [quantize, read, *_product(node, read.outputs[0], operand, bias)])


def _read(codes: ir.Value, scale: ir.Value, zero: ir.Value | None, name: str) -> ir.Node:
    parameters = [scale] if zero is None else [scale, zero]
    node = ir.node("DequantizeLinear", [codes, *parameters], name=name)
    node.outputs[0].name, node.outputs[0].type = f"{name}_output", ir.TensorType(ir.DataType.FLOAT)
    return node


def _product(node: ir.Node, activation: ir.Value, weight: ir.Value, bias: ir.Value | None) -> list[ir.Node]:
    product = ir.node("MatMul", [activation, weight], name=f"{node.name}_lifted")
    if bias is None:
        return [product]
    product.outputs[0].name = f"{node.outputs[0].name}_product"
    return [product, ir.node("Add", [product.outputs[0], bias], name=f"{node.name}_lifted_bias")]


def _replace(model: ir.Model, old: ir.Node, new: list[ir.Node]) -> None:
    ir.convenience.replace_nodes_and_values(
        model.graph, old, [old], new, list(old.outputs), list(new[-1].outputs)
    )


def _only_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and uses[0].node.op_type == op_type else None


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None
