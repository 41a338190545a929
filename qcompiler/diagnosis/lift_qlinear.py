"""Operators on codes (QOperator format) as DequantizeLinear, the float operator and QuantizeLinear.

Inputs of the standard's operators: https://onnx.ai/onnx/operators/, of the others: ONNX Runtime's
``docs/ContribOperators.md``.  A bias of codes has the scale of activation times weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.diagnosis.lift_constants import dequantized
from qcompiler.diagnosis.stored import Stored, stored_integers
from qcompiler.graph.qdq import add_initializer
from qcompiler.graph.weighted import array_of, is_constant


@dataclass(frozen=True)
class _Form:
    """Where the operands of an operator are.

    Attributes:
        op_type: the float operator.
        operands: index of codes; scale and zero point follow.
        result: index of the result's scale; its zero point follows.
        bias: index of int32 codes, -1 for none.
        keeps: attributes that the float operator has too.
        axis: along which a weight's scales run.
    """

    op_type: str
    operands: tuple[int, ...]
    result: int
    bias: int = -1
    keeps: tuple[str, ...] = ()
    axis: int = 0


_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides")
_FORMS = {
    "QLinearConv": _Form("Conv", (0, 3), 6, 8, _CONV),
    "QLinearMatMul": _Form("MatMul", (0, 3), 6, axis=1),
    "QGemm": _Form("Gemm", (0, 3), 7, 6, ("alpha", "transA", "transB"), axis=1),
    "QLinearAdd": _Form("Add", (0, 3), 6),
    "QLinearMul": _Form("Mul", (0, 3), 6),
    "QLinearSigmoid": _Form("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": _Form("LeakyRelu", (0,), 3, keeps=("alpha",)),
    "QLinearAveragePool": _Form("AveragePool", (0,), 3, keeps=_POOL),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3),
    "QLinearSoftmax": _Form("Softmax", (0,), 3, keeps=("axis",)),
}


def lift_qlinear(model: ir.Model, stored: dict[str, Stored]) -> None:
    """Lift every operator of the table; those in channels-last layout are left."""
    views: dict[tuple[ir.Value | None, ...], ir.Value] = {}
    for node in list(model.graph):
        form = _concat_form(node) if node.op_type == "QLinearConcat" else _FORMS.get(node.op_type)
        if form is not None and _int(node, "channels_last", 0) == 0:
            _lift(model, node, form, stored, views)


def _concat_form(node: ir.Node) -> _Form:
    return _Form("Concat", tuple(range(2, len(node.inputs), 3)), 0, keeps=("axis",))


def _lift(
    model: ir.Model,
    node: ir.Node,
    form: _Form,
    stored: dict[str, Stored],
    views: dict[tuple[ir.Value | None, ...], ir.Value],
) -> None:
    added: list[ir.Node] = []
    operands = []
    for index in form.operands:
        codes, scale, zero = (_input(node, index + step) for step in range(3))
        assert codes is not None
        assert scale is not None
        if is_constant(codes) and is_constant(scale):
            axis = 1 - _int(node, "transB", 0) if form.op_type == "Gemm" else form.axis
            operands.append(constant_operand(model, codes, array_of(scale), zero, axis, stored))
        else:
            operands.append(_view(codes, scale, zero, added, views))
    bias = _input(node, form.bias) if form.bias >= 0 else None
    if bias is not None:
        operands.append(_bias(model, node, bias, form, stored))
    attributes = {name: node.attributes[name] for name in form.keeps if name in node.attributes}
    result = ir.node(form.op_type, operands, name=f"{node.name}_lifted")
    result.attributes.update(attributes)
    added.append(result)
    _put_result(model, node, result, form, added)


def _put_result(model: ir.Model, node: ir.Node, result: ir.Node, form: _Form, added: list[ir.Node]) -> None:
    """Quantize the float result, or let it be the output where the operator gives floats (QGemm without a scale)."""
    old, new = node.outputs[0], result.outputs[0]
    new.type = ir.TensorType(ir.DataType.FLOAT)
    scale, zero = _input(node, form.result), _input(node, form.result + 1)
    if scale is not None:
        new.name = f"{old.name}_float"
        parameters = [scale] if zero is None else [scale, zero]
        added.append(ir.node("QuantizeLinear", [new, *parameters], name=f"{node.name}_write"))
        new = added[-1].outputs[0]
    ir.convenience.replace_nodes_and_values(model.graph, node, [node], added, [old], [new])


def constant_operand(
    model: ir.Model,
    codes: ir.Value,
    scale: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    zero: ir.Value | None,
    axis: int,
    stored: dict[str, Stored],
) -> ir.Value:
    """A float constant in the place of constant codes, scale and zero point."""
    assert codes.const_value is not None
    points = array_of(zero) if zero is not None and is_constant(zero) else None
    note = stored_integers(codes.const_value, scale, points, axis)
    value = add_initializer(model.graph, f"{codes.name}_lifted", dequantized(note))
    stored[str(value.name)] = note
    return value


def _view(
    codes: ir.Value,
    scale: ir.Value,
    zero: ir.Value | None,
    added: list[ir.Node],
    views: dict[tuple[ir.Value | None, ...], ir.Value],
) -> ir.Value:
    key = (codes, scale, zero)
    if key not in views:
        parameters = [scale] if zero is None else [scale, zero]
        node = ir.node("DequantizeLinear", [codes, *parameters], name=f"{codes.name}_read_{len(views)}")
        views[key] = node.outputs[0]
        views[key].name = f"{codes.name}_dequantized_{len(views)}"
        views[key].type = ir.TensorType(ir.DataType.FLOAT)
        added.append(node)
    return views[key]


def _bias(model: ir.Model, node: ir.Node, bias: ir.Value, form: _Form, stored: dict[str, Stored]) -> ir.Value:
    scales = [_input(node, index + 1) for index in form.operands]
    assert all(is_constant(scale) for scale in scales)
    activation, weight = (np.asarray(array_of(scale), np.float32) for scale in scales if scale is not None)
    product = activation * weight
    return constant_operand(model, bias, product, None, 0, stored)


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())
