"""Operators that combine elements along axes, and those built of them: norms and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import axis_of, integer, integers_of, number
from qcompiler.backends.tvm.importing.scope import Expr, Scope
from qcompiler.backends.tvm.importing.views import reshaped
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]


def _axes(scope: Scope, node: ir.Node, rank: int) -> list[int]:
    found = integers_of(node, "axes")
    if found is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        found = [int(axis) for axis in scope.integers(node, 1)]
    if not found and not integer(node, "noop_with_empty_axes", 0):
        return list(range(rank))
    return [axis % rank for axis in found or []]


def _reduction(name: str, before: str = "", after: str = "") -> Converter:
    def convert(scope: Scope, node: ir.Node) -> Expr:
        from tvm import relax

        assert node.inputs[0] is not None
        source = scope.tensor(node.inputs[0])
        axes = _axes(scope, node, len(scope.shape(source)))
        if not axes:
            return source
        if before:
            source = scope.emit(
                relax.op.multiply(source, source) if before == "square" else relax.op.abs(source)
            )
        found = getattr(relax.op, name)(source, axes, keepdims=bool(integer(node, "keepdims", 1)))
        return getattr(relax.op, after)(scope.emit(found)) if after else found

    return convert


def _argument(name: str) -> Converter:
    def convert(scope: Scope, node: ir.Node) -> Expr:
        from tvm import relax

        if integer(node, "select_last_index", 0):
            raise UnsupportedError(f"{node.op_type} of the last of equal elements")
        source = scope.inputs(node)[0]
        axis = axis_of(node, "axis", len(scope.shape(source)), 0)
        return getattr(relax.op, name)(source, axis, keepdims=bool(integer(node, "keepdims", 1)))

    return convert


def _softmax(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source = scope.inputs(node)[0]
    axis = axis_of(node, "axis", len(scope.shape(source)), -1)
    return (
        relax.op.nn.log_softmax(source, axis)
        if node.op_type == "LogSoftmax"
        else relax.op.nn.softmax(source, axis)
    )


def _layer_norm(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source, gamma, *rest = scope.inputs(node)
    shape = scope.shape(source)
    axes = list(range(axis_of(node, "axis", len(shape), -1), len(shape)))
    beta = rest[0] if rest and rest[0] is not None else scope.full(shape[axes[0] :], 0.0, scope.dtype(source))
    return relax.op.nn.layer_norm(source, gamma, beta, axes, number(node, "epsilon", 1e-5))


def _instance_norm(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source, gamma, beta = scope.inputs(node)
    shape = scope.shape(source)
    axes = list(range(2, len(shape)))
    mean = scope.emit(relax.op.mean(source, axes, keepdims=True))
    variance = scope.emit(relax.op.variance(source, axes, keepdims=True))
    inverse = scope.emit(
        relax.op.rsqrt(relax.op.add(variance, relax.const(number(node, "epsilon", 1e-5), "float32")))
    )
    side = [1, shape[1]] + [1] * (len(shape) - 2)
    scaled = scope.emit(
        relax.op.multiply(
            relax.op.multiply(relax.op.subtract(source, mean), inverse), reshaped(scope, gamma, side)
        )
    )
    return relax.op.add(scaled, reshaped(scope, beta, side))


CONVERTERS: dict[str, Converter] = {
    "ReduceMean": _reduction("mean"),
    "ReduceSum": _reduction("sum"),
    "ReduceMax": _reduction("max"),
    "ReduceMin": _reduction("min"),
    "ReduceProd": _reduction("prod"),
    "ReduceSumSquare": _reduction("sum", before="square"),
    "ReduceL1": _reduction("sum", before="abs"),
    "ReduceL2": _reduction("sum", before="square", after="sqrt"),
    "ArgMax": _argument("argmax"),
    "ArgMin": _argument("argmin"),
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
}
