"""Operators that show the same elements in another shape or order, and arithmetic on sizes that may be symbolic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import axis_of, integer, integers_of
from qcompiler.backends.tvm.importing.scope import Dim, Expr, Scope, same, simplified

Converter = Callable[[Scope, ir.Node], Any]


def reshaped(scope: Scope, source: Expr, shape: Sequence[Dim]) -> Expr:
    """A view with the same elements; of a view, one of what that was made of."""
    from tvm import relax

    source = _viewed(scope, source)
    now = scope.shape(source)
    if len(now) == len(shape) and all(map(same, now, shape)):
        return source
    return scope.emit(relax.op.reshape(source, relax.ShapeExpr([_int64(size) for size in shape])))


def _viewed(scope: Scope, source: Expr) -> Expr:
    """What a chain of views starts from."""
    from tvm import relax

    while isinstance(source, relax.Var):
        bound = scope.builder.lookup_binding(source)
        if isinstance(bound, relax.Call) and getattr(bound.op, "name", "") == "relax.reshape":
            source = bound.args[0]
        elif isinstance(bound, relax.Var):
            source = bound
        else:
            break
    return source


def _int64(size: Dim) -> Any:
    from tvm import tirx

    return tirx.IntImm("int64", size) if isinstance(size, int) else size


def product(sizes: Sequence[Dim]) -> Dim:
    """The number of elements."""
    found: Dim = 1
    for size in sizes:
        found = size * found if not isinstance(found, int) or found != 1 else size
    return simplified(found)


def quotient(sizes: Sequence[Dim], parts: Sequence[Dim]) -> Dim:
    """The product of ``sizes`` over that of ``parts``; equal symbols cancel."""
    left, right = list(sizes), []
    for part in parts:
        match = next(
            (i for i, size in enumerate(left) if not isinstance(size, int) and same(size, part)), None
        )
        if match is None:
            right.append(part)
        else:
            left.pop(match)
    above, below = product(left), product(right)
    if isinstance(above, int) and isinstance(below, int):
        return above // below if below else 0
    return simplified(above // below) if not (isinstance(below, int) and below == 1) else above


def _reshape(scope: Scope, node: ir.Node) -> Expr:
    assert node.inputs[0] is not None
    source = scope.tensor(node.inputs[0])
    now, wanted = scope.shape(source), scope.integers(node, 1)
    keep_zero = integer(node, "allowzero", 0)
    shape = [
        now[i] if isinstance(size, int) and size == 0 and not keep_zero else size
        for i, size in enumerate(wanted)
    ]
    for i, size in enumerate(shape):
        if isinstance(size, int) and size == -1:
            shape[i] = quotient(now, [other for j, other in enumerate(shape) if j != i])
    return reshaped(scope, source, shape)


def _flatten(scope: Scope, node: ir.Node) -> Expr:
    source = scope.inputs(node)[0]
    now = scope.shape(source)
    axis = axis_of(node, "axis", len(now), 1)
    return reshaped(scope, source, [product(now[:axis]), product(now[axis:])])


def _unsqueeze(scope: Scope, node: ir.Node) -> Expr:
    assert node.inputs[0] is not None
    source = scope.tensor(node.inputs[0])
    shape, axes = scope.shape(source), [int(axis) for axis in scope.integers(node, 1)]
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    return reshaped(scope, source, shape)


def _squeeze(scope: Scope, node: ir.Node) -> Expr:
    assert node.inputs[0] is not None
    source = scope.tensor(node.inputs[0])
    shape = scope.shape(source)
    given = scope.integers(node, 1) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    axes = (
        {int(axis) % len(shape) for axis in given}
        if given is not None
        else {i for i, size in enumerate(shape) if size == 1}
    )
    return reshaped(scope, source, [size for i, size in enumerate(shape) if i not in axes])


def _transpose(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    return relax.op.permute_dims(scope.inputs(node)[0], integers_of(node, "perm"))


def _expand(scope: Scope, node: ir.Node) -> Expr:
    assert node.inputs[0] is not None
    source = scope.tensor(node.inputs[0])
    return broadcast(scope, source, scope.integers(node, 1))


def broadcast(scope: Scope, source: Expr, wanted: Sequence[Dim]) -> Expr:
    """ONNX's Expand: both shapes may have ones."""
    from tvm import relax

    now = scope.shape(source)
    rank = max(len(now), len(wanted))
    padded, target = [1] * (rank - len(now)) + now, [1] * (rank - len(wanted)) + list(wanted)
    shape = [
        size if isinstance(other, int) and other == 1 else other
        for size, other in zip(padded, target, strict=True)
    ]
    if len(now) == rank and all(map(same, now, shape)):
        return source
    return scope.emit(relax.op.broadcast_to(source, relax.ShapeExpr([_int64(size) for size in shape])))


CONVERTERS: dict[str, Converter] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Expand": _expand,
}
