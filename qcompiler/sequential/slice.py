"""A runnable model between values that are known and values that are wanted; weights are shared, never copied."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import onnx_ir as ir

from qcompiler.calibration.tapgraph import tappable_values
from qcompiler.errors import CalibrationError

FLOAT_TWIN = "float::"
"""Prefix of the names that the float model's values and nodes have beside the quantized model's."""


def slice_model(model: ir.Model, known: Iterable[str], wanted: Iterable[str]) -> ir.Model:
    """The part of ``model`` that computes ``wanted`` from values ``known`` and the graph's inputs.

    Args:
        model: not changed; it may change afterwards without changing the slice.
        known: names of values whose arrays will be fed; those that ``model`` does not have are passed over, and
            then what they would have saved is computed.
        wanted: names of values of the main graph, which become the outputs.

    Returns:
        A model whose inputs are the known values and graph inputs that it needs.

    Raises:
        CalibrationError: a wanted value does not exist.
    """
    values = tappable_values(model)
    missing = [name for name in wanted if name not in values]
    if missing:
        raise CalibrationError(f"there is no value {missing[0]!r} in the main graph to observe.")
    public = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    inputs = dict.fromkeys([*(values[name] for name in known if name in values), *public])
    graph = ir.convenience.extract(
        model.graph, list(inputs), [values[name] for name in dict.fromkeys(wanted)]
    )
    for value in list(graph.inputs):
        if not value.uses() and not value.is_graph_output():
            graph.inputs.remove(value)
    return _model_of(graph, model)


def beside(current: ir.Model, twin: ir.Model, known: Iterable[str]) -> ir.Model:
    """Both slices in one model that reads each of the graph's inputs once; both are used up by it.

    Values and nodes of ``twin`` are renamed with :data:`FLOAT_TWIN`, and so are its outputs and those of its inputs
    that are ``known`` (their arrays are another model's); the graph's own inputs are shared.
    """
    apart = set(known)
    shared = {str(value.name): value for value in current.graph.inputs if value.name not in apart}
    inputs = dict.fromkeys(current.graph.inputs)
    outputs = [*current.graph.outputs]
    outputs += [shared.get(str(value.name), value) for value in twin.graph.outputs]
    twin.graph.outputs.clear()
    _rename(twin, keep=[value for value in twin.graph.inputs if value.name not in apart])
    for value in list(twin.graph.inputs):
        if value.name in shared:
            ir.convenience.replace_all_uses_with(value, shared[value.name])
        else:
            inputs[value] = None
    view = ir.GraphView(
        list(inputs),
        list(dict.fromkeys(outputs)),
        nodes=[*current.graph, *twin.graph],
        initializers=[*current.graph.initializers.values(), *twin.graph.initializers.values()],
        opset_imports={**twin.graph.opset_imports, **current.graph.opset_imports},
        name=current.graph.name,
    )
    model = _model_of(view.clone(), current)
    for key, function in twin.functions.items():
        model.functions.setdefault(key, function)
    return model


def _model_of(graph: ir.Graph, like: ir.Model) -> ir.Model:
    functions = [function.clone() for function in like.functions.values()]
    return ir.Model(graph, ir_version=like.ir_version, functions=functions)


def _rename(model: ir.Model, keep: Iterable[ir.Value]) -> None:
    kept = set(keep)
    for node in model.graph.all_nodes():
        node.name = f"{FLOAT_TWIN}{node.name}"
    for graph in model.graphs():
        values = [*graph.inputs, *graph.initializers.values()]
        values += [output for node in graph for output in node.outputs]
        for value in dict.fromkeys(values):
            if value.name and value not in kept:
                value.const_value = copy.copy(value.const_value)  # renaming a value renames its tensor
                value.name = f"{FLOAT_TWIN}{value.name}"
