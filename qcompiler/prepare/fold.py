"""Computing at compile time what does not depend on an input, unless that makes the file larger."""

from __future__ import annotations

import logging
import math

import onnx_ir as ir
from onnxscript import optimizer

LARGEST_INPUT = 2**28
"""Elements of a constant that is worth reading for folding (a weight that is transposed or cast)."""

LARGEST_GROWTH = 2**14
"""Elements that folding one node may add to the file."""

SHARED_WEIGHT = 1024
"""From so many elements on, a constant with several readers is taken for a tied weight."""

_GROWING = frozenset(
    {"ConstantOfShape", "EyeLike", "Expand", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"}
)
_KEPT = frozenset({"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})

logger = logging.getLogger(__name__)


def fold_constants(model: ir.Model, notes: list[str]) -> int:
    """Fold in place, in subgraphs too, and return how many nodes fewer there are.

    Refused, with a note: results larger than what they replace, and unfolding a tied weight.
    """
    before = sum(1 for _ in model.graph.all_nodes())
    try:
        optimizer.fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=LARGEST_INPUT,
            output_size_limit=LARGEST_GROWTH,
            should_fold=lambda node: _should_fold(node, notes),
        )
    except Exception as error:
        reason = str(error.__cause__ or error).splitlines()[0][:200]
        logger.debug("constant folding stopped", exc_info=error)
        notes.append(f"constant folding stopped early: {reason}")
    return before - sum(1 for _ in model.graph.all_nodes())


def _should_fold(node: ir.Node, notes: list[str]) -> bool | None:
    """Return None to leave the decision to the size limits."""
    if node.op_type in _KEPT:
        return False
    for value in node.inputs:
        if value is None or value.const_value is None:
            continue
        if value.const_value.size >= SHARED_WEIGHT and len(value.uses()) > 1:
            notes.append(
                f"{node.name} ({node.op_type}) not folded: it reads {value.name!r}, a weight with several uses"
            )
            return False
    if node.op_type not in _GROWING:
        return None
    elements = _elements(node)
    if elements is None or elements > LARGEST_GROWTH:
        size = "an unknown number of" if elements is None else str(elements)
        notes.append(f"{node.name} ({node.op_type}) not folded: its result has {size} elements")
        return False
    return True


def _elements(node: ir.Node) -> int | None:
    """Return how many elements a node that makes large things out of small ones would make."""
    shape = node.outputs[0].shape
    if shape is not None and shape.is_static():
        return math.prod(shape.numpy())
    if (
        node.op_type == "ConstantOfShape"
        and (asked := node.inputs[0]) is not None
        and asked.const_value is not None
    ):
        return math.prod(int(dim) for dim in asked.const_value.numpy().reshape(-1))
    return None
