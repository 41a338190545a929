"""Weights that came in 16 bits and are still float at the end go back into 16 bits: the file does not double.

    table float16 -> Gather -> Cast(float32)    lookups: the table stays in 16 bits in memory too
    weight float16 -> Cast(float32) -> MatMul    anything else: a runtime widens it once, when it loads

Only what 16 bits hold exactly is narrowed, so nothing that the model computes changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir

from qcompiler.graph.weighted import weighted_nodes
from qcompiler.tensors import HALF_TYPES, Widened, kept

SMALLEST = 1024
"""Elements from which on a constant is worth a node of its own; vectors (norms, biases) never are."""

_STORED = "qcompiler.stored_types"


def note_stored(model: ir.Model, types: Collection[ir.DataType]) -> None:
    """Remember in which 16-bit types the file of ``model`` keeps constants; clones remember it too."""
    known = stored_types(model)
    model.graph.meta[_STORED] = tuple(kind for kind in HALF_TYPES if kind in types or kind in known)


def stored_types(model: ir.Model) -> tuple[ir.DataType, ...]:
    """The 16-bit types that the file of ``model`` keeps constants in."""
    types: tuple[ir.DataType, ...] = model.graph.meta.get(_STORED, ())
    return types


def store_in_half(model: ir.Model) -> tuple[str, ...]:
    """Narrow in place what the file had in 16 bits; return weights that these no longer hold exactly, by name."""
    types = stored_types(model)
    if not types:
        return ()
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in list(graph.initializers.values()):
            narrow = _narrowed(value, types)
            if narrow is not None:
                _store(graph, value, narrow)
    left = {str(view.weight.name): None for view in weighted_nodes(model) if _is_large(view.weight)}
    return tuple(left)


def _is_large(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.size >= SMALLEST and len(tensor.shape) > 1


def _narrowed(value: ir.Value, types: Iterable[ir.DataType]) -> ir.TensorProtocol | None:
    """The constant in the first of ``types`` that holds it exactly; None where none does, or it would not pay."""
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or not _is_large(value):
        return None
    if value.is_graph_input() or value.is_graph_output():
        return None
    if isinstance(tensor, Widened):
        return tensor.stored
    array = tensor.numpy()
    for kind in types:
        with np.errstate(over="ignore"):
            narrow = array.astype(kind.numpy())
        if np.array_equal(narrow.astype(np.float32), array):
            return kept(ir.tensor(narrow, dtype=kind, name=value.name))
    return None


def _store(graph: ir.Graph, value: ir.Value, narrow: ir.TensorProtocol) -> None:
    readers = list(value.uses())
    if not readers:
        return
    value.const_value, value.type = narrow, ir.TensorType(narrow.dtype)
    if all(_looks_up(node, index) for node, index in readers):
        for node, _ in readers:
            _widen_rows(node, narrow.dtype)
        return
    cast = _cast(value, f"{value.name}_Cast", f"{value.name}_float32")
    for node, index in readers:
        node.replace_input_with(index, cast.outputs[0])
    graph.insert_before(graph[0], cast)


def _looks_up(node: ir.Node, index: int) -> bool:
    return node.op_type == "Gather" and node.domain in ("", "ai.onnx") and index == 0


def _widen_rows(gather: ir.Node, kind: ir.DataType) -> None:
    """Cast what a Gather of 16-bit rows gives, under the name that its result had."""
    rows, graph = gather.outputs[0], gather.graph
    assert graph is not None
    readers, name = list(rows.uses()), rows.name
    rows.name = f"{name}_half"
    cast = _cast(rows, f"{gather.name}_Cast", str(name))
    rows.type = ir.TensorType(kind)  # a clone shares the type that it had: not to be changed in place
    for node, index in readers:
        node.replace_input_with(index, cast.outputs[0])
    for index, output in enumerate(graph.outputs):
        if output is rows:
            graph.outputs[index] = cast.outputs[0]
    graph.insert_after(gather, cast)


def _cast(value: ir.Value, name: str, output: str) -> ir.Node:
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=name)
    made = cast.outputs[0]
    made.name, made.shape, made.type = output, value.shape, ir.TensorType(ir.DataType.FLOAT)
    return cast
