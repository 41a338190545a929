"""Calling definitions in Relax: each becomes one function, however often it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qcompiler.backends.tvm.importing.scope import Dim, Expr, Scope

Definition = Callable[[Any], list[Any]]

_TAKES_EPILOGUES = 4
"""TVM's pattern of products: what treats every value of the result alone is fused behind it."""


def call(
    scope: Scope,
    definition: Definition,
    rows: Dim,
    inputs: Sequence[Expr],
    shape: Sequence[Dim],
    dtype: str = "float32",
) -> Expr:
    """Call a definition.

    Args:
        scope: of the caller.
        definition: hashable; gives its placeholders and the result, by the number of rows.
        rows: of this call; where it is known, the function is made for so many.
        inputs: a tensor for each placeholder.
        shape: of the result.
        dtype: of the result.
    """
    from tvm import relax, te, tirx

    known = rows if isinstance(rows, int) else None
    key = (definition, known)
    if key not in scope.functions:
        extent = tirx.Var("m", "int64") if known is None else tirx.IntImm("int64", known)
        name = f"{type(definition).__name__.lower()}_{len(scope.functions)}"
        function = te.create_prim_func(definition(extent), index_dtype_override="int64")
        function = function.without_attr("global_symbol").with_attrs(
            {"op_pattern": _TAKES_EPILOGUES, "tirx.noalias": True}
        )
        scope.functions[key] = scope.builder.add_func(function, name)
    result = relax.TensorType(tuple(shape), dtype)
    return scope.emit(relax.call_tir(scope.functions[key], list(inputs), result))
