"""Operators that treat every element alone, with ONNX's broadcasting; TVM fuses chains of them into one loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import integer, number, text
from qcompiler.backends.tvm.importing.scope import Expr, Scope
from qcompiler.backends.tvm.importing.views import product, reshaped
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]


def _unary(name: str) -> Converter:
    def convert(scope: Scope, node: ir.Node) -> Expr:
        from tvm import relax

        operator = relax.op
        for part in name.split("."):
            operator = getattr(operator, part)
        return operator(scope.inputs(node)[0])

    return convert


def _function(name: str, otherwise: Converter) -> Converter:
    """A kernel with a polynomial in vectors, where TVM would call the C library for every value."""

    def convert(scope: Scope, node: ir.Node) -> Expr:
        from qcompiler.backends.tvm.kernels.functions import Function
        from qcompiler.backends.tvm.kernels.unary import Unary, unary

        source = scope.inputs(node)[0]
        if scope.dtype(source) != "float32":
            return otherwise(scope, node)
        tanh = name == "gelu" and text(node, "approximate", "none") == "tanh"
        spec = Unary(Function.GELU_TANH if tanh else Function(name), scope.variant)
        shape = scope.shape(source)
        flat = [product(shape)]
        result = scope.call(spec, partial(unary, spec), [reshaped(scope, source, flat)], flat, "float32")
        return reshaped(scope, result, shape)

    return convert


def _binary(name: str) -> Converter:
    def convert(scope: Scope, node: ir.Node) -> Expr:
        from tvm import relax

        operator = getattr(relax.op, name)
        return reduce(lambda left, right: scope.emit(operator(left, right)), scope.inputs(node))

    return convert


def _divide(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    left, right = scope.inputs(node)
    if scope.dtype(left).startswith("float"):
        return relax.op.divide(left, right)
    negative = scope.emit(relax.op.less(relax.op.multiply(left, right), relax.const(0, scope.dtype(left))))
    size = scope.emit(relax.op.floor_divide(relax.op.abs(left), relax.op.abs(right)))
    return relax.op.where(negative, relax.op.negative(size), size)


def _remainder(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    left, right = scope.inputs(node)
    if integer(node, "fmod", 0):
        return relax.op.mod(left, right)
    return relax.op.floor_mod(left, right)


def _power(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    base, exponent = scope.inputs(node)
    known = _scalar(node.inputs[1])
    if known == 2:
        return relax.op.multiply(base, base)
    if known == 0.5:
        return relax.op.sqrt(base)
    if scope.dtype(exponent) != scope.dtype(base):
        exponent = scope.emit(relax.op.astype(exponent, scope.dtype(base)))
    return relax.op.power(base, exponent)


def _mean(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    total = _binary("add")(scope, node)
    return relax.op.divide(total, relax.const(float(len(node.inputs)), scope.dtype(total)))


def _reciprocal(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source = scope.inputs(node)[0]
    return relax.op.divide(relax.const(1.0, scope.dtype(source)), source)


def _cast(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source = scope.inputs(node)[0]
    dtype = ir.DataType(integer(node, "to", int(ir.DataType.FLOAT))).numpy().name
    if dtype == "bool":
        return relax.op.not_equal(source, relax.const(0, scope.dtype(source)))
    return source if scope.dtype(source) == dtype else relax.op.astype(source, dtype)


def _clip(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source, *bounds = scope.inputs(node)
    if not bounds and ("min" in node.attributes or "max" in node.attributes):
        raise UnsupportedError("Clip of an opset before 11; raise the opset of the model")
    for bound, operator in zip(bounds, (relax.op.maximum, relax.op.minimum), strict=False):
        if bound is not None:
            source = scope.emit(operator(source, bound))
    return source


def _where(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    return relax.op.where(*scope.inputs(node))


def _leaky(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    return relax.op.nn.leakyrelu(scope.inputs(node)[0], number(node, "alpha", 0.01))


def _gelu(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source = scope.inputs(node)[0]
    tanh = text(node, "approximate", "none") == "tanh" or node.op_type == "FastGelu"
    return relax.op.nn.gelu_tanh(source) if tanh else relax.op.nn.gelu(source)


def _hard_sigmoid(scope: Scope, node: ir.Node) -> Expr:
    swish = node.op_type == "HardSwish"
    slope = 1 / 6 if swish else number(node, "alpha", 0.2)
    from tvm import relax

    source = scope.inputs(node)[0]
    line = relax.op.add(
        relax.op.multiply(source, relax.const(slope, "float32")),
        relax.const(0.5 if swish else number(node, "beta", 0.5), "float32"),
    )
    gate = scope.emit(relax.op.clip(scope.emit(line), 0.0, 1.0))
    return relax.op.multiply(source, gate) if swish else gate


def _elu(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source = scope.inputs(node)[0]
    below = relax.op.multiply(
        relax.const(number(node, "alpha", 1.0), "float32"),
        relax.op.subtract(relax.op.exp(source), relax.const(1.0, "float32")),
    )
    return relax.op.where(relax.op.greater(source, relax.const(0.0, "float32")), source, scope.emit(below))


def _xor(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    return relax.op.logical_xor(*scope.inputs(node))


def _equal(scope: Scope, node: ir.Node) -> Expr:
    """LLVM compares no vectors of truth values for TVM: those are joined."""
    from tvm import relax

    left, right = scope.inputs(node)
    if scope.dtype(left) == "bool":
        return relax.op.logical_not(scope.emit(relax.op.logical_xor(left, right)))
    return relax.op.equal(left, right)


def _prelu(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source, slope = scope.inputs(node)
    positive = relax.op.greater(source, relax.const(0.0, "float32"))
    return relax.op.where(positive, source, scope.emit(relax.op.multiply(source, slope)))


def _scalar(value: ir.Value | None) -> float | None:
    tensor = value.const_value if value is not None else None
    return float(np.asarray(tensor.numpy()).item()) if tensor is not None and tensor.size == 1 else None


def _identity(scope: Scope, node: ir.Node) -> Expr:
    return scope.inputs(node)[0]


BY_OPERATORS: dict[str, Converter] = {
    **{
        name: _binary(operator)
        for name, operator in {
            "Add": "add",
            "Sum": "add",
            "Sub": "subtract",
            "Mul": "multiply",
            "Max": "maximum",
            "Min": "minimum",
            "Less": "less",
            "LessOrEqual": "less_equal",
            "Greater": "greater",
            "GreaterOrEqual": "greater_equal",
            "And": "logical_and",
            "Or": "logical_or",
        }.items()
    },
    **{
        name: _unary(operator)
        for name, operator in {
            "Relu": "nn.relu",
            "Sigmoid": "sigmoid",
            "Tanh": "tanh",
            "Exp": "exp",
            "Log": "log",
            "Sqrt": "sqrt",
            "Neg": "negative",
            "Abs": "abs",
            "Erf": "erf",
            "Sin": "sin",
            "Cos": "cos",
            "Floor": "floor",
            "Ceil": "ceil",
            "Round": "round",
            "Not": "logical_not",
            "Sign": "sign",
            "Softplus": "nn.softplus",
            "IsNaN": "isnan",
            "Silu": "nn.silu",
        }.items()
    },
    "Div": _divide,
    "Mod": _remainder,
    "Pow": _power,
    "Mean": _mean,
    "Reciprocal": _reciprocal,
    "Cast": _cast,
    "Clip": _clip,
    "Where": _where,
    "LeakyRelu": _leaky,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_sigmoid,
    "Elu": _elu,
    "Xor": _xor,
    "Equal": _equal,
    "PRelu": _prelu,
    "Identity": _identity,
    "Dropout": _identity,
}

CONVERTERS: dict[str, Converter] = BY_OPERATORS | {
    name: _function(name.lower(), BY_OPERATORS[name]) for name in ("Tanh", "Sigmoid", "Erf", "Gelu")
}
