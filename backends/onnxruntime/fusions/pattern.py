"""Pieces of an attention pattern, each recognized exactly or not at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.weighted import array_of, is_constant


def made_by(value: ir.Value | None, op: str) -> ir.Node | None:
    """The node that makes ``value``, where it is a standard ``op``."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op and node.domain == "" else None


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of an initializer."""
    return array_of(value) if value is not None and is_constant(value) else None


def permutes(node: ir.Node, *order: int) -> bool:
    """Whether a Transpose puts axes in this order; one without ``perm`` reverses them."""
    perm = node.attributes.get("perm")
    return tuple(perm.as_ints() if perm is not None else reversed(range(len(order)))) == order


def scaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """``value`` without a Mul or Div by a constant scalar, and the factor."""
    for op in ("Mul", "Div"):
        node = made_by(value, op)
        factor = constant(node.inputs[1]) if node is not None else None
        if node is not None and factor is not None and factor.size == 1:
            number = float(factor.item())
            return node.inputs[0], number if op == "Mul" else 1 / number
    return value, 1.0


def heads_of(
    value: ir.Value | None, order: tuple[int, ...] = (0, 2, 1, 3)
) -> tuple[ir.Value, int, int] | None:
    """``x [B, S, D]``, heads and size of ``value = Transpose(Reshape(x)) [B, heads, S, size]``, or in another order.

    No dimension is zero, as far as the shape says.
    """
    turn = made_by(value, "Transpose")
    view = made_by(turn.inputs[0], "Reshape") if turn is not None else None
    if turn is None or view is None or not permutes(turn, *order):
        return None
    source, split = view.inputs[0], view.outputs[0].shape
    if source is None or source.shape is None or split is None or len(source.shape) != 3 or len(split) != 4:
        return None
    heads, size = split[2], split[3]
    if 0 in list(source.shape):
        return None
    if not isinstance(heads, int) or not isinstance(size, int) or source.shape[2] != heads * size:
        return None
    known = [dim for dim in list(source.shape)[:2] if isinstance(dim, int) or dim.value is not None]
    return (source, heads, size) if len(known) == 2 and known == list(split)[:2] else None


def without_repeats(value: ir.Value | None) -> tuple[ir.Value | None, int]:
    """``x [B, groups, S, size]`` and n where every head of ``x`` stands n times in a row in ``value``; or n = 1."""
    view = made_by(value, "Reshape")
    wide = made_by(view.inputs[0], "Expand") if view is not None else None
    lift = made_by(wide.inputs[0], "Unsqueeze") if wide is not None else None
    axis = constant(lift.inputs[1]) if lift is not None else None
    source = lift.inputs[0] if lift is not None else None
    if view is None or wide is None or source is None or axis is None or axis.tolist() != [2]:
        return value, 1
    before, between, after = source.shape, wide.outputs[0].shape, view.outputs[0].shape
    if before is None or between is None or after is None or (len(before), len(between)) != (4, 5):
        return value, 1
    batch, groups, length, size = list(before)
    times = between[2]
    known = all(isinstance(dim, int) or dim.value is not None for dim in (batch, length, size))
    if not known or not isinstance(groups, int) or not isinstance(times, int):
        return value, 1
    same = list(between) == [batch, groups, times, length, size]
    merged = list(after) == [batch, groups * times, length, size]
    return (source, times) if same and merged else (value, 1)


def transposed_keys(value: ir.Value | None) -> ir.Value | None:
    """``k`` where ``value`` is k with its last two axes swapped, directly or through a 3-D view of it."""
    node = made_by(value, "Transpose")
    if node is not None:
        return node.inputs[0] if permutes(node, 0, 1, 3, 2) else None
    outer = made_by(value, "Reshape")
    turn = made_by(outer.inputs[0], "Transpose") if outer is not None else None
    inner = made_by(turn.inputs[0], "Reshape") if turn is not None else None
    if outer is None or turn is None or inner is None or not permutes(turn, 0, 2, 1):
        return None
    flat, full = made_by(inner.inputs[1], "Concat"), made_by(outer.inputs[1], "Concat")
    if flat is None or full is None or len(flat.inputs) != 3 or len(full.inputs) != 3:
        return None
    merged, rows, columns = flat.inputs
    leading, keys = full.inputs[0], inner.inputs[0]
    swapped = (full.inputs[1], full.inputs[2]) == (columns, rows)
    one_axis = constant(merged)
    if not swapped or one_axis is None or one_axis.tolist() != [-1]:
        return None
    ends = [_slice_of_shape(part, keys) for part in (leading, rows, columns)]
    return keys if ends[:2] == [(0, -2), (-2, -1)] and ends[2] is not None and ends[2][0] == -1 else None


def _slice_of_shape(value: ir.Value | None, source: ir.Value | None) -> tuple[int, int] | None:
    """Start and end where ``value`` is ``Shape(source)[start:end]``; anything from -4 down is axis 0 of four."""
    node = made_by(value, "Slice")
    shape = made_by(node.inputs[0], "Shape") if node is not None else None
    if node is None or shape is None or shape.inputs[0] is not source or len(node.inputs) != 3:
        return None
    start, end = constant(node.inputs[1]), constant(node.inputs[2])
    if start is None or end is None:
        return None
    return (0 if int(start.item()) <= -4 else int(start.item())), int(end.item())
