"""The private node of a rotated activation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import integer
from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.backends.tvm.importing.scope import Expr, Scope
from qcompiler.backends.tvm.importing.views import product, reshaped

Converter = Callable[[Scope, ir.Node], Any]


def _hadamard(scope: Scope, node: ir.Node) -> Expr:
    from qcompiler.backends.tvm.kernels.hadamard import Hadamard, hadamard

    (x,) = scope.inputs(node)
    spec = Hadamard(integer(node, "columns", 0), integer(node, "size", 0), scope.variant)
    shape = scope.shape(x)
    rows = product(shape[:-1])
    flat = reshaped(scope, x, [rows, spec.columns])
    result = scope.call(spec, partial(hadamard, spec), [flat], [rows, spec.columns], "float32")
    return reshaped(scope, result, shape)


CONVERTERS: dict[str, Converter] = {f"{DOMAIN}::Hadamard": _hadamard}
