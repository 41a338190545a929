"""Nodes of the private domain ``qcompiler.tvm``: each is a call of one generated kernel.

Their inputs are the kernel's parameters in order, but for the result; their attributes are its description.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import integer, text
from qcompiler.backends.tvm.importing.scope import Expr, Scope
from qcompiler.backends.tvm.importing.views import product, reshaped

Converter = Callable[[Scope, ir.Node], Any]

DOMAIN = "qcompiler.tvm"


def _gemm_int8(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.gemm_int8 import GemmInt8, gemm_int8

    activation: Any = text(node, "activation", "dynamic")
    spec = GemmInt8(
        integer(node, "channels", 0), integer(node, "depth", 0), scope.variant, activation, _epilogue(node)
    )
    return _product(scope, node, spec, partial(gemm_int8, spec))


def _gemm_low_bit(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.gemm_low_bit import GemmLowBit, gemm_low_bit

    spec = GemmLowBit(
        integer(node, "channels", 0),
        integer(node, "depth", 0),
        integer(node, "bits", 4),
        integer(node, "group", 0),
        scope.variant,
        integer(node, "offset", 0),
        bool(integer(node, "table", 0)),
        bool(integer(node, "minimum", 0)),
        _epilogue(node),
    )
    return _product(scope, node, spec, partial(gemm_low_bit, spec))


def _epilogue(node: ir.Node) -> Any:
    from qcompiler.backends.tvm.kernels.epilogue import Epilogue
    from qcompiler.backends.tvm.kernels.functions import Function

    return Epilogue(
        bias=bool(integer(node, "bias", 0)),
        function=Function(text(node, "function", "none")),
        residual=bool(integer(node, "residual", 0)),
        codes_out=bool(integer(node, "codes_out", 0)),
    )


def _product(scope: Scope, node: ir.Node, spec: Any, make: Callable[[str], Any]) -> Expr:
    """A matrix product over the last axis, whatever is in front of it; a residual has the shape of the result."""
    x, *constants = scope.inputs(node)
    before = scope.shape(x)[:-1]
    rows = product(before)
    inputs = [reshaped(scope, x, [rows, spec.depth]), *constants]
    if spec.epilogue.residual:
        place = -3 if spec.epilogue.codes_out else -1
        inputs[place] = reshaped(scope, inputs[place], [rows, spec.channels])
    dtype = "uint8" if spec.epilogue.codes_out else "float32"
    result = scope.call(spec, make, inputs, [rows, spec.channels], dtype)
    return reshaped(scope, result, [*before, spec.channels])


def _gather_rows(scope: Scope, node: ir.Node) -> Expr:
    """Rows of a quantized table, dequantized: ``scale * code - minimum`` or ``scale * table[code]`` by groups."""
    from tvm import relax

    indices, codes, scale, *rest = scope.inputs(node)
    group, has_table = integer(node, "group", 0), bool(integer(node, "table", 0))
    width = scope.shape(codes)[1]
    groups = scope.shape(scale)[1]
    ids = scope.shape(indices)
    flat = reshaped(scope, indices, [product(ids)])

    def rows(table: Expr) -> Expr:
        return scope.emit(relax.op.take(table, flat, 0, mode="clip"))

    def spread(factor: Expr) -> Expr:
        found = rows(factor)
        if groups == 1:
            return found
        wide = scope.emit(relax.op.repeat(found, group, 1))
        whole = groups * group == width
        return wide if whole else scope.emit(relax.op.strided_slice(wide, [1], [0], [width]))

    taken = rows(codes)
    if has_table:
        levels = scope.emit(
            relax.op.take(rest[-1], scope.emit(relax.op.astype(taken, "int32")), 0, mode="clip")
        )
    else:
        levels = scope.emit(relax.op.astype(taken, "float32"))
    values = scope.emit(relax.op.multiply(levels, spread(scale)))
    if not has_table:
        values = scope.emit(relax.op.subtract(values, spread(rest[0])))
    return reshaped(scope, values, [*ids, width])


CONVERTERS: dict[str, Converter] = {
    f"{DOMAIN}::GemmInt8": _gemm_int8,
    f"{DOMAIN}::GemmLowBit": _gemm_low_bit,
    f"{DOMAIN}::GatherRows": _gather_rows,
}
