"""Operators that pick, repeat or join elements: slices, gathers, padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import axis_of, integer, text
from qcompiler.backends.tvm.importing.scope import Dim, Expr, Scope, expression, same, simplified
from qcompiler.backends.tvm.importing.views import reshaped
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]

FAR = 1 << 29
"""Places beyond mean the end of an axis, whatever its size."""


def _concat(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    parts = scope.inputs(node)
    return relax.op.concat(parts, axis_of(node, "axis", len(scope.shape(parts[0])), 0))


def _slice(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    assert node.inputs[0] is not None
    source = scope.tensor(node.inputs[0])
    shape = scope.shape(source)
    starts, ends = scope.integers(node, 1), scope.integers(node, 2)
    given = len(node.inputs) > 3 and node.inputs[3] is not None
    axes = [int(axis) % len(shape) for axis in scope.integers(node, 3)] if given else list(range(len(starts)))
    stepped = len(node.inputs) > 4 and node.inputs[4] is not None
    steps = scope.integers(node, 4) if stepped else [1] * len(starts)
    places: dict[int, tuple[Dim, Dim, int]] = {}
    for axis, start, stop, step in zip(axes, starts, ends, steps, strict=True):
        first = _bound(scope, start, shape[axis], step, last=False)
        end = _bound(scope, stop, shape[axis], step, last=True)
        whole = step == 1 and isinstance(first, int) and first == 0 and same(end, shape[axis])
        if not whole:
            places[axis] = first, end, int(step)
    if not places:
        return source
    begin, ends, steps = map(list, zip(*places.values(), strict=True))
    if all(isinstance(place, int) for place in (*begin, *ends)):
        return relax.op.strided_slice(source, list(places), begin, ends, steps)
    if any(step != 1 for step in steps):
        raise UnsupportedError("a slice with steps between places that are known only at run time")
    return _window(scope, source, {axis: place[:2] for axis, place in places.items()})


def _window(scope: Scope, source: Expr, places: dict[int, tuple[Dim, Dim]]) -> Expr:
    """Neighbours along some axes, from and to sizes known only at run time; nothing behind the end is ever read."""
    from tvm import te, tirx

    shape = scope.shape(source)
    wanted = list(shape)
    for axis, (start, end) in places.items():
        wanted[axis] = simplified(end - start)
        if isinstance(shape[axis], int) and isinstance(start, int) and start == 0:
            scope.limit(end, shape[axis])

    axes = list(places)

    def pick(data: Any, sizes: Any, starts: Any) -> Any:
        def at(*indices: Any) -> Any:
            moved = list(indices)
            for axis, start in zip(axes, starts, strict=True):
                moved[axis] = tirx.max(tirx.min(indices[axis] + start, data.shape[axis] - 1), 0)
            return data(*moved)

        return te.compute(list(sizes), at, name="window")

    starts = [expression(places[axis][0]) for axis in axes]
    return scope.builder.emit_te(pick, source, list(map(expression, wanted)), starts)


def _bound(scope: Scope, place: Dim, size: Dim, step: Dim, *, last: bool) -> Dim:
    """A bound within the axis, where that can be known."""
    if not isinstance(place, int):
        return simplified(size + place) if scope.is_negative(place) else place
    if place >= 0 and isinstance(size, int):
        return min(place, size)
    if place > FAR:
        return size
    if place < 0 and last and isinstance(step, int) and step < 0 and place < -FAR:
        raise UnsupportedError("a slice that runs backwards to the start; use a Gather instead")
    return simplified(size + place) if place < 0 else place


def _gather(scope: Scope, node: ir.Node) -> Expr:
    source, indices = scope.inputs(node)
    axis = axis_of(node, "axis", len(scope.shape(source)), 0)
    known = scope.content(node.inputs[1])
    positive = known is not None and all(isinstance(item, int) and item >= 0 for item in known.reshape(-1))
    return take(scope, source, indices, axis, may_be_negative=not (positive or _is_ids(node)))


def take(scope: Scope, source: Expr, indices: Expr, axis: int, *, may_be_negative: bool = True) -> Expr:
    """Rows of ``source``; negative indices count from the end."""
    from tvm import relax

    if may_be_negative:
        size = scope.shape(source)[axis]
        kind = scope.dtype(indices)
        content = np.empty((), dtype=object)
        content[()] = size
        extent = scope.from_content(content, ir.DataType.from_numpy(np.dtype(kind)))
        below = relax.op.less(indices, relax.const(0, kind))
        indices = scope.emit(relax.op.where(below, relax.op.add(indices, extent), indices))
    return scope.emit(relax.op.take(source, indices, axis, mode="clip"))


def _is_ids(node: ir.Node) -> bool:
    """Graph inputs that index a table are token ids: never negative in a model that means them so."""
    indices = node.inputs[1]
    return indices is not None and indices.is_graph_input()


def _gather_nd(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    return relax.op.gather_nd(*scope.inputs(node), batch_dims=integer(node, "batch_dims", 0))


def _gather_elements(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source, indices = scope.inputs(node)
    return relax.op.gather_elements(source, indices, axis_of(node, "axis", len(scope.shape(source)), 0))


def _split(scope: Scope, node: ir.Node) -> list[Expr]:
    from tvm import relax

    assert node.inputs[0] is not None
    source = scope.tensor(node.inputs[0])
    shape = scope.shape(source)
    axis = axis_of(node, "axis", len(shape), 0)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        sizes = scope.integers(node, 1)
    else:
        count = len(node.outputs)
        size = -(-shape[axis] // count) if isinstance(shape[axis], int) else shape[axis] // count
        sizes = [size] * (count - 1) + [simplified(shape[axis] - size * (count - 1))]
    parts, start = [], 0
    for size in sizes:
        end = simplified(start + size)
        parts.append(scope.emit(relax.op.strided_slice(source, [axis], [start], [end])))
        start = end
    return parts


def _range(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    start, end, step = (scope.integers(node, index)[0] for index in range(3))
    assert node.outputs[0] is not None
    kind = (node.outputs[0].dtype or ir.DataType.INT64).numpy().name
    return relax.op.arange(start, end, step, kind)


def _constant_of_shape(scope: Scope, node: ir.Node) -> Expr:
    attribute = node.attributes.get("value")
    array = attribute.as_tensor().numpy() if attribute is not None else None
    fill, kind = (0.0, "float32") if array is None else (array.item(), str(array.dtype))
    return scope.full(scope.integers(node, 0), fill, kind)


def _tile(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    assert node.inputs[0] is not None
    return relax.op.tile(scope.tensor(node.inputs[0]), scope.integers(node, 1))


def _pad(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    assert node.inputs[0] is not None
    source = scope.tensor(node.inputs[0])
    mode, pads = text(node, "mode", "constant"), scope.integers(node, 1)
    rank = len(scope.shape(source))
    axes = (
        [int(axis) % rank for axis in scope.integers(node, 3)] if len(node.inputs) > 3 else list(range(rank))
    )
    fill = 0.0
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        known = node.inputs[2].const_value
        if known is None:
            raise UnsupportedError("its padding value depends on data")
        fill = float(known.numpy().item())
    if any(not isinstance(size, int) or size < 0 for size in pads):
        raise UnsupportedError("its padding is negative or depends on a shape")
    width = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        width[2 * axis], width[2 * axis + 1] = pads[i], pads[i + len(axes)]
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    return relax.op.nn.pad(source, width, names[mode], fill)


def _trilu(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    assert node.inputs[0] is not None
    source = scope.tensor(node.inputs[0])
    k = int(scope.integers(node, 1)[0]) if len(node.inputs) > 1 and node.inputs[1] is not None else 0
    return relax.op.triu(source, k) if integer(node, "upper", 1) else relax.op.tril(source, k)


def _cumsum(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    if integer(node, "reverse", 0):
        raise UnsupportedError("CumSum from the end")
    assert node.inputs[0] is not None
    return relax.op.cumsum(
        scope.tensor(node.inputs[0]),
        int(scope.integers(node, 1)[0]),
        exclusive=bool(integer(node, "exclusive", 0)),
    )


def _depth_to_space(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source, block = scope.inputs(node)[0], integer(node, "blocksize", 1)
    n, c, h, w = scope.shape(source)
    rows_first = text(node, "mode", "DCR") == "DCR"
    depth = c // (block * block)
    shape = [n, block, block, depth, h, w] if rows_first else [n, depth, block, block, h, w]
    order = [0, 3, 4, 1, 5, 2] if rows_first else [0, 1, 4, 2, 5, 3]
    moved = scope.emit(relax.op.permute_dims(reshaped(scope, source, shape), order))
    return reshaped(scope, moved, [n, depth, simplified(h * block), simplified(w * block)])


CONVERTERS: dict[str, Converter] = {
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "GatherElements": _gather_elements,
    "Split": _split,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    "Tile": _tile,
    "Pad": _pad,
    "Trilu": _trilu,
    "CumSum": _cumsum,
    "DepthToSpace": _depth_to_space,
}
