"""Private nodes of images with channels last: each is a call of one generated kernel.

Their inputs are the kernel's parameters in order, but for the result; sizes are read from the tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import integer, integers_of, text
from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.backends.tvm.importing.scope import Dim, Expr, Scope
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]


def _conv_int8(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.conv_int8 import ConvInt8, conv_int8

    spec = ConvInt8(_shape(scope, node), scope.variant, _epilogue(node))
    return _image(scope, node, spec, partial(conv_int8, spec), spec.epilogue.codes_out)


def _conv_float(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.conv_float import ConvFloat, conv_float

    spec = ConvFloat(_shape(scope, node), scope.variant, _epilogue(node))
    return _image(scope, node, spec, partial(conv_float, spec), spec.epilogue.codes_out)


def _depthwise(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.depthwise import Depthwise, depthwise

    codes = scope.dtype(scope.inputs(node)[0]) == "uint8"
    spec = Depthwise(_shape(scope, node), scope.variant, codes, _epilogue(node))
    return _image(scope, node, spec, partial(depthwise, spec), spec.epilogue.codes_out)


def _pool(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.pool import Pool, pool

    codes = scope.dtype(scope.inputs(node)[0]) == "uint8"
    kind: Any = text(node, "kind", "mean")
    spec = Pool(_shape(scope, node), kind, codes, bool(integer(node, "codes_out", 0)))
    return _image(scope, node, spec, partial(pool, spec), spec.result == "uint8")


def _layout_change(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.conv_layout import LayoutChange, layout_change

    inputs = scope.inputs(node)
    images, *sizes = scope.shape(inputs[0])
    last = bool(integer(node, "last", 1))
    channels, height, width = _known(sizes if last else [sizes[2], sizes[0], sizes[1]])
    source: Any = text(node, "source", "float32")
    result: Any = text(node, "result", "float32")
    spec = LayoutChange(height, width, channels, last, source, result, integer(node, "padded", 0))
    shape = [images, height, width, spec.written] if last else [images, channels, height, width]
    return scope.call(spec, partial(layout_change, spec), inputs, shape, result)


def _shape(scope: Scope, node: ir.Node) -> ConvShape:
    _, *sizes = scope.shape(scope.inputs(node)[0])
    height, width, channels = _known(sizes)
    kernel, strides, pads, dilations = (
        tuple(integers_of(node, name) or ()) for name in ("kernel", "strides", "pads", "dilations")
    )
    filters, groups = integer(node, "filters", 0), integer(node, "groups", 1)
    return ConvShape(height, width, channels, filters, kernel, strides, pads, dilations, groups)  # type: ignore[arg-type]


def _known(sizes: list[Dim]) -> list[int]:
    if not all(isinstance(size, int) for size in sizes):
        shown = ", ".join(map(str, sizes))
        raise UnsupportedError(f"images of {shown}: only the batch may be unknown; export with fixed sizes")
    return sizes


def _epilogue(node: ir.Node) -> Any:
    from qcompiler.backends.tvm.kernels.conv_epilogue import ConvEpilogue
    from qcompiler.backends.tvm.kernels.functions import Function

    residual: Any = text(node, "residual", "none")
    return ConvEpilogue(
        clip=bool(integer(node, "clip", 0)),
        function=Function(text(node, "function", "none")),
        rounded=bool(integer(node, "rounded", 0)),
        residual=residual,
        codes_out=bool(integer(node, "codes_out", 0)),
    )


def _image(scope: Scope, node: ir.Node, spec: Any, make: Callable[[str], Any], codes_out: bool) -> Expr:
    inputs, shape = scope.inputs(node), spec.shape
    images = scope.shape(inputs[0])[0]
    size = [images, shape.out_height, shape.out_width, shape.filters]
    return scope.call(spec, make, inputs, size, "uint8" if codes_out else "float32")


CONVERTERS: dict[str, Converter] = {
    f"{DOMAIN}::ConvInt8": _conv_int8,
    f"{DOMAIN}::ConvFloat": _conv_float,
    f"{DOMAIN}::Depthwise": _depthwise,
    f"{DOMAIN}::Pool": _pool,
    f"{DOMAIN}::LayoutChange": _layout_change,
}
