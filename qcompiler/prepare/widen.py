"""Float16 and bfloat16 become float32 inside a model; what a caller sees keeps its type.

    x float16 -> MatMul(w float16) -> y float16     becomes
    x float16 -> Cast -> MatMul(w float32) -> Cast -> y float16

ONNX Runtime's CPU kernels of float16 are Casts around float32 and those of bfloat16 mostly do not exist, so nothing is
lost in time.  Widening a constant is exact; results differ by the roundings to 16 bits between operators that no longer
happen.  Constants are widened when they are read, one at a time (:class:`qcompiler.tensors.Widened`); what of them
is still float at the end goes back into 16 bits (:mod:`qcompiler.graph.stored_half`).

A weight that is stored in 16 bits behind a Cast to float32, as ``qcompile export`` writes it, is widened the same way.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from qcompiler.graph.names import names_kept
from qcompiler.graph.stored_half import note_stored
from qcompiler.tensors import HALF_TYPES, Widened

_TYPE_ATTRIBUTES = frozenset(
    {"to", "dtype", "output_datatype", "output_dtype", "stash_type", "precision", "softmax_precision"}
)
_KNOWN = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


def widen(model: ir.Model, notes: list[str]) -> int:
    """Widen in place, subgraphs included, and return how many constants; inputs and outputs keep their types.

    Notes that float16 is computed in float32 where the model did otherwise, or why it is left as it is.
    """
    values = _values(model)
    constants = [value for value in values if value.is_initializer() and value.dtype in HALF_TYPES]
    computed = sorted({kind.name.lower() for kind in _computed_types(values)})
    if not constants and not computed:
        return 0
    if reason := _refusal(model):
        notes.append(f"{' and '.join(computed) or 'float16'} is left as it is: {reason}")
        return 0
    note_stored(model, {value.dtype for value in constants if value.dtype is not None})
    inputs = {value: value.type for value in model.graph.inputs if value.dtype in HALF_TYPES}
    outputs = {value: value.type for value in model.graph.outputs if value.dtype in HALF_TYPES}
    with names_kept(model):
        for value in values:
            _widen_value(value)
        for node in model.graph.all_nodes():
            _widen_attributes(node)
        _drop_casts(model)
        for value, public in outputs.items():
            if value not in inputs:
                _cast_output(model.graph, value, public)
        for value, public in inputs.items():
            _cast_input(model.graph, value, public)
    if computed:
        kept = "; inputs and outputs keep their types" if inputs or outputs else ""
        notes.append(f"{' and '.join(computed)} is computed in float32 on this target{kept}")
    return len(constants)


def _values(model: ir.Model) -> list[ir.Value]:
    """Every value of every graph, once."""
    found: dict[ir.Value, None] = {}
    for graph in model.graphs():
        found.update(dict.fromkeys((*graph.inputs, *graph.initializers.values())))
        found.update(dict.fromkeys(output for node in graph for output in node.outputs))
    return list(found)


def _computed_types(values: list[ir.Value]) -> Iterator[ir.DataType]:
    """16-bit types of values that are more than a constant in front of its Cast."""
    for value in values:
        readers = [use.node.op_type for use in value.uses()]
        only_stored = value.is_initializer() and readers and all(op == "Cast" for op in readers)
        kind = _element_type(value.type)
        if kind in HALF_TYPES and not only_stored:
            yield kind


def _element_type(type_: ir.TypeProtocol | None) -> ir.DataType | None:
    while isinstance(type_, ir.SequenceType | ir.OptionalType):
        type_ = type_.elem_type
    return None if type_ is None else type_.dtype


def _refusal(model: ir.Model) -> str:
    """Why the model cannot be widened; empty where it can."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        if _element_type(value.type) in HALF_TYPES and value.dtype is None:
            return f"{value.name!r} is a sequence of it, which no Cast converts; export the model in float32"
    for node in model.graph.all_nodes():
        touched = [*node.inputs, *node.outputs]
        halves = any(value is not None and _element_type(value.type) in HALF_TYPES for value in touched)
        if node.domain not in _KNOWN and halves:
            return f"what {node.domain}::{node.op_type} does with float32 is not known; export it in float32"
    return ""


def _widen_value(value: ir.Value) -> None:
    value.type = _widened_type(value.type)
    tensor = value.const_value
    if tensor is not None and tensor.dtype in HALF_TYPES:
        value.const_value = Widened(tensor)


def _widened_type(type_: ir.TypeProtocol | None) -> ir.TypeProtocol | None:
    if _element_type(type_) not in HALF_TYPES or type_ is None:
        return type_
    if isinstance(type_, ir.SequenceType | ir.OptionalType):
        inner = _widened_type(type_.elem_type)
        assert inner is not None
        return type(type_)(inner)
    return ir.TensorType(ir.DataType.FLOAT)


def _widen_attributes(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.INT and name in _TYPE_ATTRIBUTES:
            if attribute.value in HALF_TYPES:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
        elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in HALF_TYPES:
            node.attributes[name] = ir.AttrTensor(name, Widened(attribute.as_tensor()))
        elif attribute.type == ir.AttributeType.TYPE_PROTO:
            known = attribute.value
            widened = ir.TypeAndShape(_widened_type(known.type), known.shape)
            node.attributes[name] = ir.AttrTypeProto(name, widened)


def _drop_casts(model: ir.Model) -> None:
    """Casts between the types that are one now hand their input on; later stages remove them by name."""
    for node in list(model.graph.all_nodes()):
        if node.op_type != "Cast" or node.domain not in ("", "ai.onnx") or node.inputs[0] is None:
            continue
        if node.inputs[0].dtype == ir.DataType.FLOAT == node.attributes["to"].as_int():
            node.op_type = "Identity"
            node.attributes.clear()


def _cast_input(graph: ir.Graph, value: ir.Value, public: ir.TypeProtocol | None) -> None:
    """Give ``value`` its public type back, and its readers a float32 copy."""
    readers = list(value.uses())
    value.type = public
    if not readers:
        return
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=f"{value.name}_Cast")
    inner = cast.outputs[0]
    inner.name, inner.shape, inner.type = f"{value.name}_float32", value.shape, _widened_type(public)
    for use in readers:
        use.node.replace_input_with(use.idx, inner)
    graph.insert_before(graph[0], cast)


def _cast_output(graph: ir.Graph, value: ir.Value, public: ir.TypeProtocol | None) -> None:
    """Let a Cast give the output its public type and name; ``value`` goes on inside under another name."""
    assert public is not None
    name = str(value.name)
    cast = ir.node("Cast", [value], {"to": int(public.dtype)}, name=f"{name}_Cast")
    outer = cast.outputs[0]
    value.name = f"{name}_float32"
    outer.name, outer.shape, outer.type = name, value.shape, public
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = outer
    graph.append(cast)
