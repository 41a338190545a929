"""Norms over the last axis and softmax: one kernel each; other axes by TVM's own operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import axis_of, number
from qcompiler.backends.tvm.importing.reductions import CONVERTERS as BY_OPERATORS
from qcompiler.backends.tvm.importing.scope import Expr, Scope
from qcompiler.backends.tvm.importing.views import product, reshaped
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]
Kind = Literal["rms", "layer"]


def _norm(scope: Scope, node: ir.Node) -> Any:
    kind: Kind = "layer" if node.op_type == "LayerNormalization" else "rms"
    source, gamma, *rest = scope.inputs(node)
    shape = scope.shape(source)
    last = axis_of(node, "axis", len(shape), -1) == len(shape) - 1
    if not last or scope.dtype(source) != "float32" or len(scope.shape(gamma)) != 1:
        if kind == "rms":
            raise UnsupportedError("a norm over more than the last axis")
        return BY_OPERATORS["LayerNormalization"](scope, node)
    if any(map(_is_read, node.outputs[1:])):
        raise UnsupportedError("a norm that also gives mean or deviation")
    beta = rest[0] if rest and kind == "layer" else None
    return _call(scope, source, None, [gamma, beta, None], kind, number(node, "epsilon", 1e-5))[0]


def _is_read(value: ir.Value) -> bool:
    return bool(value.name) and (bool(value.uses()) or value.is_graph_output())


def _skip_norm(scope: Scope, node: ir.Node) -> list[Any]:
    """com.microsoft's norms of a sum, which is a result, too."""
    layer = node.op_type == "SkipLayerNormalization"
    source, residual, gamma, *rest = scope.inputs(node)
    rest += [None] * (2 - len(rest))
    if any(map(_is_read, node.outputs[1:3])):
        raise UnsupportedError("a norm that also gives mean or deviation")
    beta, bias = (rest[0], rest[1]) if layer else (None, rest[0])
    epsilon = number(node, "epsilon", 1e-12 if layer else 1e-5)
    kind: Kind = "layer" if layer else "rms"
    normed, total = _call(scope, source, residual, [gamma, beta, bias], kind, epsilon)
    return [normed, normed, normed, total]


def _call(
    scope: Scope, source: Expr, residual: Expr, rows: list[Expr], kind: Kind, epsilon: float
) -> tuple[Expr, Expr]:
    """The norm, and the sum in front of it where there is one.

    Args:
        rows: gamma, beta and bias ``[N]``, or None.
    """
    from qcompiler.backends.tvm.kernels.norm import Norm, norm

    shape = scope.shape(source)
    flat = [product(shape[:-1]), shape[-1]]
    _, beta, bias = rows
    adds = residual is not None
    spec = Norm(
        int(shape[-1]),
        scope.variant,
        kind,
        epsilon,
        residual=adds,
        bias=bias is not None,
        beta=beta is not None,
        sum=adds,
    )
    inputs = [reshaped(scope, item, flat) for item in (source, residual) if item is not None]
    inputs += [row for row in rows if row is not None]
    results = [(flat, "float32")] * (2 if adds else 1)
    if not adds:
        return reshaped(scope, scope.call(spec, partial(norm, spec), inputs, *results[0]), shape), None
    normed, total = scope.call_several(spec, partial(norm, spec), inputs, results)
    return reshaped(scope, normed, shape), reshaped(scope, total, shape)


def _softmax(scope: Scope, node: ir.Node) -> Any:
    from qcompiler.backends.tvm.kernels.softmax import Softmax, softmax

    source = scope.inputs(node)[0]
    shape = scope.shape(source)
    if axis_of(node, "axis", len(shape), -1) != len(shape) - 1 or scope.dtype(source) != "float32":
        return BY_OPERATORS["Softmax"](scope, node)
    spec = Softmax(scope.variant)
    flat = [product(shape[:-1]), shape[-1]]
    result = scope.call(spec, partial(softmax, spec), [reshaped(scope, source, flat)], flat, "float32")
    return reshaped(scope, result, shape)


CONVERTERS: dict[str, Converter] = {
    "LayerNormalization": _norm,
    "RMSNormalization": _norm,
    "SimplifiedLayerNormalization": _norm,
    "com.microsoft::SimplifiedLayerNormalization": _norm,
    "com.microsoft::SkipLayerNormalization": _skip_norm,
    "com.microsoft::SkipSimplifiedLayerNormalization": _skip_norm,
    "Softmax": _softmax,
}
