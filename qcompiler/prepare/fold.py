"""Computing at compile time what does not depend on an input, unless that makes the file larger."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

import onnx_ir as ir
from onnxscript import optimizer

LARGEST_GROWTH = 2**14
"""Elements that folding one node may add to the file."""

TIED_WEIGHT = 1024
"""From so many elements on, a constant with a reader that stays is taken for a tied weight, not to be copied."""

_NO_LIMIT = 2**62
"""The library's own limits are off: they count only what is removed at once and are asked after the work."""

_FOLDED_FROM = "pkg.onnxscript.optimizer.folded_from"
_KEPT = frozenset({"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})

logger = logging.getLogger(__name__)


def fold_constants(model: ir.Model, notes: list[str]) -> int:
    """Fold in place, in subgraphs too, and return how many nodes fewer there are.

    An ``If`` of constant condition is replaced by its branch.  Refused, with a note: what would add more than
    ``LARGEST_GROWTH`` elements to the file, what has a result of unknown size, and copying a tied weight.
    """
    before = sum(1 for _ in model.graph.all_nodes())
    try:
        optimizer.fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=_NO_LIMIT,
            output_size_limit=_NO_LIMIT,
            should_fold=lambda node: _should_fold(node, notes),
        )
    except Exception as error:
        reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0][:200]
        logger.debug("constant folding stopped", exc_info=error)
        notes.append(f"constant folding stopped early: {reason}")
    _drop_library_notes(model)
    return before - sum(1 for _ in model.graph.all_nodes())


def _drop_library_notes(model: ir.Model) -> None:
    """Remove the metadata in which the library lists what each value was folded from: it ends up in the file."""
    for graph in model.graphs():
        for value in (*graph.initializers.values(), *(output for node in graph for output in node.outputs)):
            value.metadata_props.pop(_FOLDED_FROM, None)


def _should_fold(node: ir.Node, notes: list[str]) -> bool:
    """Decide about a node whose inputs are all constants."""
    if node.op_type in _KEPT:
        return False
    reason = _refusal(node)
    if reason is not None:
        notes.append(f"{node.name} ({node.op_type}) not folded: {reason}")
    return reason is None


def _refusal(node: ir.Node) -> str | None:
    made = _elements(node)
    if made is None:
        return "the size of its result is unknown"
    growth: float = made
    for value in _distinct(node.inputs):
        size = _size(value)
        readers = {use.node for use in value.uses()}
        if size < TIED_WEIGHT or len(readers) == 1:
            growth -= size / max(len(readers), 1)
        elif not all(is_constant(reader) for reader in readers):
            if made >= TIED_WEIGHT:
                return f"it would copy {value.name!r}, which other nodes read as it is"
        elif sum(_elements(reader) or _NO_LIMIT for reader in readers) > size:
            return f"the readers of {value.name!r} together would make more than it holds"
        else:
            growth -= made
    if growth > LARGEST_GROWTH:
        return f"its result has {made} elements, much more than its inputs"
    return None


def _elements(node: ir.Node) -> int | None:
    """Return how many elements the node makes, None when shape inference could not tell."""
    total = 0
    for value in node.outputs:
        if value.shape is None or not value.shape.is_static():
            return None
        total += math.prod(value.shape.numpy())
    return total


def is_constant(node: ir.Node) -> bool:
    """Return whether every input is a constant, and there is one."""
    return bool(node.inputs) and all(value is None or value.const_value is not None for value in node.inputs)


def _distinct(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    return list(dict.fromkeys(value for value in values if value is not None))


def _size(value: ir.Value) -> int:
    return 0 if value.const_value is None else int(value.const_value.size)
