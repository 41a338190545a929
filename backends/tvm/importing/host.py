"""Shape arithmetic: integer tensors whose contents are known while importing are computed here, not by the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import integer, integers_of
from qcompiler.backends.tvm.importing.scope import CONTENT_ELEMENTS, Content, Scope, same, simplified

_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


def compute_content(scope: Scope, node: ir.Node) -> bool:
    """Compute the output of ``node`` if its contents can be known; say whether."""
    if node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
        return False
    rule = _RULES.get(node.op_type)
    found = rule(scope, node) if rule is not None else None
    if found is None or found.size > CONTENT_ELEMENTS:
        return False
    scope.contents[node.outputs[0]] = _simplified(found)
    return True


def _simplified(content: Content) -> Content:
    result = np.empty(content.shape, dtype=object)
    for index in np.ndindex(content.shape):
        item = content[index]
        result[index] = int(item) if isinstance(item, int | np.integer | bool) else simplified(item)
    return result


def _of(items: list[Any], shape: tuple[int, ...] | None = None) -> Content:
    result = np.empty(len(items), dtype=object)
    result[:] = items
    return result if shape is None else result.reshape(shape)


def _shape(scope: Scope, node: ir.Node) -> Content | None:
    value = node.inputs[0]
    assert value is not None
    known = scope.content(value)
    dims = list(known.shape) if known is not None else scope.shape(scope.tensor(value))
    start, end = integer(node, "start", 0), integer(node, "end", len(dims))
    return _of(dims[start:end])


def _size(scope: Scope, node: ir.Node) -> Content | None:
    dims = _shape(scope, node)
    return None if dims is None else _of([np.prod(dims) if len(dims) else 1], ())


def _known(scope: Scope, node: ir.Node) -> list[Content] | None:
    found = [scope.content(value) for value in node.inputs if value is not None]
    return None if any(item is None for item in found) else [item for item in found if item is not None]


def _elementwise(combine: Callable[..., Any]) -> Callable[[Scope, ir.Node], Content | None]:
    def rule(scope: Scope, node: ir.Node) -> Content | None:
        operands = _known(scope, node)
        if operands is None or node.inputs[-1] is None or node.inputs[-1].dtype not in (*_INTEGERS, None):
            return None
        arrays = np.broadcast_arrays(*operands)
        items = [combine(*group) for group in zip(*(array.reshape(-1) for array in arrays), strict=True)]
        return None if any(item is None for item in items) else _of(items, arrays[0].shape)

    return rule


def _divide(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        return None if right == 0 else int(left / right)
    return left // right


def _largest(*items: Any) -> Any:
    from tvm import tirx

    if all(isinstance(item, int) for item in items):
        return max(items)
    found = items[0]
    for item in items[1:]:
        found = found if same(found, item) else tirx.max(found, item)
    return found


def _equal(left: Any, right: Any) -> Any:
    """Dimensions are positive, and two different symbols are told apart only when the model runs."""
    if same(left, right):
        return 1
    fixed = [item for item in (left, right) if isinstance(item, int)]
    return 0 if len(fixed) == 2 or (fixed and fixed[0] < 0) else None


def _where(scope: Scope, node: ir.Node) -> Content | None:
    operands = _known(scope, node)
    if operands is None:
        return None
    condition, yes, no = np.broadcast_arrays(*operands)
    if not all(isinstance(item, int) for item in condition.reshape(-1)):
        return None
    flat = zip(condition.reshape(-1), yes.reshape(-1), no.reshape(-1), strict=True)
    return _of([a if chosen else b for chosen, a, b in flat], condition.shape)


def _gather(scope: Scope, node: ir.Node) -> Content | None:
    operands = _known(scope, node)
    if operands is None or any(not isinstance(item, int) for item in operands[1].reshape(-1)):
        return None
    indices = operands[1].astype(np.int64)
    return np.asarray(np.take(operands[0], indices, axis=integer(node, "axis", 0)), dtype=object)


def _concat(scope: Scope, node: ir.Node) -> Content | None:
    operands = _known(scope, node)
    return None if operands is None else np.concatenate(operands, axis=integer(node, "axis", 0))


def _slice(scope: Scope, node: ir.Node) -> Content | None:
    operands = _known(scope, node)
    if operands is None or not all(
        isinstance(item, int) for part in operands[1:] for item in part.reshape(-1)
    ):
        return None
    data, starts, ends = operands[0], operands[1], operands[2]
    axes = operands[3] if len(operands) > 3 else range(len(starts))
    steps = operands[4] if len(operands) > 4 else [1] * len(starts)
    places = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        places[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return data[tuple(places)]


def _unsqueeze(scope: Scope, node: ir.Node) -> Content | None:
    data = scope.content(node.inputs[0])
    return None if data is None else np.expand_dims(data, tuple(scope.integers(node, 1)))


def _squeeze(scope: Scope, node: ir.Node) -> Content | None:
    data = scope.content(node.inputs[0])
    if data is None:
        return None
    return np.squeeze(data, tuple(scope.integers(node, 1)) if len(node.inputs) > 1 else None)


def _reshape(scope: Scope, node: ir.Node) -> Content | None:
    operands = _known(scope, node)
    if operands is None or not all(isinstance(item, int) for item in operands[1]):
        return None
    return operands[0].reshape([int(item) for item in operands[1]])


def _product(scope: Scope, node: ir.Node) -> Content | None:
    data = scope.content(node.inputs[0])
    if data is None or data.ndim != 1 or integers_of(node, "axes") not in (None, [0]):
        return None
    keep = integer(node, "keepdims", 1)
    return _of([np.prod(data)], (1,) if keep else ())


def _cast(scope: Scope, node: ir.Node) -> Content | None:
    target = ir.DataType(integer(node, "to", int(ir.DataType.FLOAT)))
    return scope.content(node.inputs[0]) if target in _INTEGERS[:2] else None


def _same(scope: Scope, node: ir.Node) -> Content | None:
    return scope.content(node.inputs[0])


def _range(scope: Scope, node: ir.Node) -> Content | None:
    operands = _known(scope, node)
    if operands is None or not all(isinstance(item.item(), int) for item in operands):
        return None
    return _of(list(range(*(int(item.item()) for item in operands))))


_RULES: dict[str, Callable[[Scope, ir.Node], Content | None]] = {
    "Shape": _shape,
    "Size": _size,
    "Add": _elementwise(lambda a, b: a + b),
    "Sub": _elementwise(lambda a, b: a - b),
    "Mul": _elementwise(lambda a, b: a * b),
    "Div": _elementwise(_divide),
    "Max": _elementwise(_largest),
    "Equal": _elementwise(_equal),
    "Neg": _elementwise(lambda a: -a),
    "Where": _where,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "ReduceProd": _product,
    "Cast": _cast,
    "Identity": _same,
    "Range": _range,
}
