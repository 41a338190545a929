"""Rotary position embedding (arXiv:2104.09864) of queries and keys becomes the runtime's ``RotaryEmbedding``.

    x [B, heads, S, size];  cos, sin = f(Concat(angles, angles)) [1, S, size], one row for every position
    x * cos + Concat(-x[..., size/2:], x[..., :size/2]) * sin

is one node of domain ``com.microsoft`` that reads ``x`` where it is, as ``[B, S, heads * size]``: it saves two
Transposes, Slice, Neg, Concat and three passes over the values for each of queries and keys.  Tables of more than one
batch (positions that are an input), of another length, or whose halves differ are refused, and so is a rotation of a
part of each head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.fusions.pattern import constant, made_by, scaled
from qcompiler.graph.qdq import add_initializer, graph_of

DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class Table:
    """``op(Concat(angles, angles)) * factor``; ``angles`` is ``[1, S, size / 2]``."""

    op: str
    angles: ir.Value
    factor: float


@dataclass(frozen=True)
class Rotation:
    """The cosines and sines that values ``[B, heads, S, size]`` are turned by."""

    cos: Table
    sin: Table


def without_rotation(value: ir.Value | None) -> tuple[ir.Value | None, Rotation | None]:
    """What a rotation turns, and the rotation; ``value`` itself where there is none."""
    add = made_by(value, "Add")
    kept, crossed = (made_by(part, "Mul") for part in add.inputs) if add is not None else (None, None)
    if kept is None or crossed is None:
        return value, None
    source = kept.inputs[0]
    size = source.shape[3] if source is not None and source.shape and len(source.shape) == 4 else None
    if source is None or source.shape is None or not isinstance(size, int) or size % 2:
        return value, None
    if not _swaps_halves(crossed.inputs[0], source, size // 2):
        return value, None
    cos, sin = _table(kept.inputs[1], "Cos", source.shape), _table(crossed.inputs[1], "Sin", source.shape)
    return (source, Rotation(cos, sin)) if cos is not None and sin is not None else (value, None)


def rotate(value: ir.Value, rotation: Rotation, heads: int, name: str) -> list[ir.Node]:
    """Nodes, in no graph yet, that turn ``value [B, S, heads * size]``; the output of the last is the result.

    Those that make the tables are the same in every layer: the runtime's elimination of common subexpressions
    leaves one of each.
    """
    graph = graph_of(value)
    nodes = [*_half(rotation.cos, f"{name}_cos"), *_half(rotation.sin, f"{name}_sin")]
    cos, sin = (
        next(n for n in reversed(nodes) if str(n.name).startswith(f"{name}_{t}")) for t in ("cos", "sin")
    )
    first = add_initializer(graph, f"{name}_first_position", np.array([0], np.int64))
    inputs = [value, first, cos.outputs[0], sin.outputs[0]]
    turn = ir.node("RotaryEmbedding", inputs, {"num_heads": heads}, domain=DOMAIN, name=name)
    turn.outputs[0].name = f"{name}_output"
    turn.outputs[0].shape, turn.outputs[0].type = value.shape, value.type
    return [*nodes, turn]


def _half(table: Table, name: str) -> list[ir.Node]:
    """``op(angles) * factor`` as ``[S, size / 2]``."""
    graph = graph_of(table.angles)
    batch = add_initializer(graph, f"{name}_batch_axis", np.array([0], np.int64))
    nodes = [_node(table.op, [table.angles], f"{name}_{table.op}")]
    nodes.append(_node("Squeeze", [nodes[-1].outputs[0], batch], f"{name}_Squeeze"))
    if table.factor != 1.0:
        factor = add_initializer(graph, f"{name}_factor", np.array(table.factor, np.float32))
        nodes.append(_node("Mul", [nodes[-1].outputs[0], factor], f"{name}_Mul"))
    return nodes


def _node(op: str, inputs: Sequence[ir.Value], name: str) -> ir.Node:
    node = ir.node(op, list(inputs), name=name)
    node.outputs[0].name = f"{name}_output"
    return node


def _swaps_halves(value: ir.Value | None, source: ir.Value, half: int) -> bool:
    """Whether ``value`` is ``Concat(-source[..., half:], source[..., :half])``."""
    join = made_by(value, "Concat")
    if join is None or len(join.inputs) != 2 or join.attributes["axis"].as_int() not in (-1, 3):
        return False
    negated = made_by(join.inputs[0], "Neg")
    if negated is None:
        return False
    upper, lower = _range(negated.inputs[0], source), _range(join.inputs[1], source)
    return lower == (0, half) and upper is not None and upper[0] == half and upper[1] >= 2 * half


def _range(value: ir.Value | None, source: ir.Value) -> tuple[int, int] | None:
    """Start and end where ``value`` is a Slice of the last of four axes of ``source``."""
    node = made_by(value, "Slice")
    if node is None or node.inputs[0] is not source or len(node.inputs) < 4:
        return None
    numbers = [constant(operand) for operand in node.inputs[1:] if operand is not None]
    if any(number is None or number.size != 1 for number in numbers):
        return None
    start, end, axis, *step = (int(number.item()) for number in numbers if number is not None)
    return (start, end) if axis in (-1, 3) and step in ([], [1]) else None


def _table(value: ir.Value | None, op: str, shape: ir.Shape) -> Table | None:
    """The table where ``value`` is ``Unsqueeze(op(Concat(angles, angles)) * factor, 1)`` and fits ``shape``."""
    lift = made_by(value, "Unsqueeze")
    axis = constant(lift.inputs[1]) if lift is not None else None
    if lift is None or axis is None or axis.tolist() != [1]:
        return None
    full, factor = scaled(lift.inputs[0])
    waves = made_by(full, op)
    join = made_by(waves.inputs[0], "Concat") if waves is not None else None
    if join is None or len(join.inputs) != 2 or join.attributes["axis"].as_int() not in (-1, 2):
        return None
    angles, again = join.inputs
    fits = angles is not None and angles.shape is not None and len(angles.shape) == 3
    if angles is None or angles is not again or not fits or angles.dtype not in (None, ir.DataType.FLOAT):
        return None
    rows, length, half = list(angles.shape or ())
    known = isinstance(length, int) or length.value is not None
    return (
        Table(op, angles, factor) if known and (rows, length, half) == (1, shape[2], shape[3] // 2) else None
    )
