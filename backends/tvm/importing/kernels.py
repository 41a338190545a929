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
        integer(node, "channels", 0), integer(node, "depth", 0), scope.products, activation, _epilogue(node)
    )
    return _product(scope, node, spec, partial(gemm_int8, spec))


def _gemm_low_bit(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.gemm_low_bit import GemmLowBit, gemm_low_bit

    spec = GemmLowBit(
        integer(node, "channels", 0),
        integer(node, "depth", 0),
        integer(node, "bits", 4),
        integer(node, "group", 0),
        scope.products,
        integer(node, "offset", 0),
        bool(integer(node, "table", 0)),
        bool(integer(node, "minimum", 0)),
        _epilogue(node),
    )
    return _product(scope, node, spec, partial(gemm_low_bit, spec))


def _codebook_channels(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.codebook_channels import CodebookChannels, codebook_channels

    size = integer(node, "channels", 0), integer(node, "depth", 0)
    spec = CodebookChannels(*size, scope.variant, _epilogue(node))
    return _product(scope, node, spec, partial(codebook_channels, spec))


def _codebook_vectors(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.codebook_vectors import CodebookVectors, codebook_vectors

    channels, depth, length, entries = (
        integer(node, name, 0) for name in ("channels", "depth", "length", "entries")
    )
    spec = CodebookVectors(
        channels, depth, length, entries, scope.variant, integer(node, "books", 1), _epilogue(node)
    )
    return _product(scope, node, spec, partial(codebook_vectors, spec))


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


def _float_gemm(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.float_gemm import FloatGemm, float_gemm

    spec = FloatGemm(integer(node, "channels", 0), integer(node, "depth", 0), scope.variant, _epilogue(node))
    return _product(scope, node, spec, partial(float_gemm, spec))


def _gather_rows(scope: Scope, node: ir.Node) -> Expr:
    """Rows of a quantized table, dequantized."""
    from tvm import relax

    from qcompiler.backends.tvm.kernels.gather_rows import GatherRows, gather_rows

    indices, *constants = scope.inputs(node)
    spec = GatherRows(
        integer(node, "entries", 0),
        integer(node, "columns", 0),
        integer(node, "bits", 8),
        integer(node, "group", 0),
        scope.variant,
        offset=integer(node, "offset", 0),
        minimum=bool(integer(node, "minimum", 0)),
        table=bool(integer(node, "table", 0)),
    )
    shape = scope.shape(indices)
    rows = product(shape)
    ids = reshaped(scope, indices, [rows])
    if scope.dtype(ids) != "int64":
        ids = scope.emit(relax.op.astype(ids, "int64"))
    result = scope.call(spec, partial(gather_rows, spec), [ids, *constants], [rows, spec.columns], "float32")
    return reshaped(scope, result, [*shape, spec.columns])


CONVERTERS: dict[str, Converter] = {
    f"{DOMAIN}::GemmInt8": _gemm_int8,
    f"{DOMAIN}::GemmLowBit": _gemm_low_bit,
    f"{DOMAIN}::CodebookChannels": _codebook_channels,
    f"{DOMAIN}::CodebookVectors": _codebook_vectors,
    f"{DOMAIN}::FloatGemm": _float_gemm,
    f"{DOMAIN}::GatherRows": _gather_rows,
}
