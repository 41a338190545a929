"""Queries that see no key get a result of zero, behind a fused attention.

Where broadcasts a condition ``[B, S, 1]`` over ``[B, S, D]`` at 87 us for ``[8, 64, 384]``.  Behind a mask of finite
numbers attention is finite also for such rows (a plain average), and a product with 0 or 1 takes a third of it.

Where nothing makes such rows zero they must stay that average, but the kernel gives zero for rows that hold nothing
above about the lowest float32.  A mask of -1e38 leaves them as they were: a score added to it is rounded away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.fusions.pattern import constant, made_by
from qcompiler.graph.qdq import add_initializer, graph_of

_BLOCKED = -1e38


def is_finite(mask: ir.Value | None) -> bool:
    """Whether a mask is seen to hold two finite numbers only: booleans times a constant, or a choice of constants."""
    product, choice = made_by(mask, "Mul"), made_by(mask, "Where")
    if product is not None:
        flags = made_by(product.inputs[0], "Cast")
        source = flags.inputs[0] if flags is not None else None
        return (
            source is not None and source.dtype == ir.DataType.BOOL and _is_finite_constant(product.inputs[1])
        )
    return choice is not None and all(map(_is_finite_constant, choice.inputs[1:]))


def bounded(mask: ir.Value, name: str) -> ir.Node:
    """A node, in no graph yet, that makes ``mask`` with nothing below -1e38.

    It costs nothing where ``is_finite`` holds: the node that makes the mask takes another constant.  Layers that share
    a mask share it after the runtime's elimination of common subexpressions.
    """
    maker, graph = mask.producer(), graph_of(mask)
    if maker is None or not is_finite(mask):
        least = add_initializer(graph, f"{name}_least", np.array(_BLOCKED, np.float32))
        node = _named("Max", [mask, least], name)
    else:
        inputs = [value for value in maker.inputs if value is not None]
        for index, value in enumerate(inputs):
            array = constant(value)
            if array is not None and array.dtype == np.float32:
                raised = np.maximum(array.astype(np.float32), np.float32(_BLOCKED))
                inputs[index] = add_initializer(graph, f"{name}_{index}", raised)
        node = _named(maker.op_type, inputs, name)
    node.outputs[0].shape, node.outputs[0].type = mask.shape, mask.type
    return node


def zero_rows(result: ir.Value, dead: ir.Value, name: str, *, finite: bool) -> list[ir.Node]:
    """The nodes, in no graph yet, that make rows of ``result [B, S, D]`` zero where ``dead [B, 1, S or 1, 1]``.

    The output of the last one is the result.  Layers that share ``dead`` share all but that after the runtime's
    elimination of common subexpressions.
    """
    graph = graph_of(dead)
    axis = add_initializer(graph, f"{name}_head_axis", np.array([1], np.int64))
    if not finite:
        zero = add_initializer(graph, f"{name}_zero", np.array(0, np.float32))
        rows = _named("Squeeze", [dead, axis], f"{name}_dead_rows")
        return [rows, _named("Where", [rows.outputs[0], zero, result], f"{name}_Where")]
    alive = _named("Not", [dead], f"{name}_alive")
    factor = _named("Cast", alive.outputs, f"{name}_alive_float", to=int(ir.DataType.FLOAT))
    rows = _named("Squeeze", [factor.outputs[0], axis], f"{name}_living_rows")
    return [alive, factor, rows, _named("Mul", [result, rows.outputs[0]], f"{name}_Mul")]


def _named(op: str, inputs: Sequence[ir.Value], name: str, **attributes: int) -> ir.Node:
    node = ir.node(op, list(inputs), attributes, name=name)
    node.outputs[0].name = f"{name}_output"
    return node


def _is_finite_constant(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and array.size == 1 and bool(np.isfinite(array.astype(np.float64)).all())
