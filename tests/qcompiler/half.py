"""Float32 models turned into 16-bit ones: every constant, value and Cast."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def in_half(model: ir.Model, kind: ir.DataType = ir.DataType.FLOAT16, *, public: bool = True) -> ir.Model:
    """``model`` in ``kind``, in place; inputs and outputs too unless ``public`` is false (they get Casts then)."""
    ends = {} if public else {v: v.type for v in (*model.graph.inputs, *model.graph.outputs)}
    for graph in model.graphs():
        made = [output for node in graph for output in node.outputs]
        for value in dict.fromkeys((*graph.inputs, *graph.initializers.values(), *made)):
            if value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(kind)
            tensor = value.const_value
            if tensor is not None and tensor.dtype == ir.DataType.FLOAT:
                value.const_value = ir.tensor(
                    tensor.numpy().astype(kind.numpy()), dtype=kind, name=value.name
                )
        for node in graph:
            _attributes(node, kind)
    for value, type_ in ends.items():
        if value.dtype == kind and type_ is not None:
            _cast(model.graph, value, kind)
    return model


def _attributes(node: ir.Node, kind: ir.DataType) -> None:
    for name, attribute in list(node.attributes.items()):
        if name == "to" and attribute.as_int() == ir.DataType.FLOAT:
            node.attributes[name] = ir.AttrInt64(name, int(kind))
        elif attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.dtype == ir.DataType.FLOAT:
                array = np.asarray(tensor.numpy()).astype(kind.numpy())
                node.attributes[name] = ir.AttrTensor(name, ir.tensor(array, dtype=kind))


def _cast(graph: ir.Graph, value: ir.Value, kind: ir.DataType) -> None:
    name = str(value.name)
    if value.is_graph_input():
        cast = ir.node("Cast", [value], {"to": int(kind)}, name=f"{name}_narrow")
        cast.outputs[0].name, cast.outputs[0].type = f"{name}_narrow", ir.TensorType(kind)
        for node, index in list(value.uses()):
            if node is not cast:
                node.replace_input_with(index, cast.outputs[0])
        value.type = ir.TensorType(ir.DataType.FLOAT)
        graph.insert_before(graph[0], cast)
        return
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=f"{name}_widen")
    value.name, shape = f"{name}_narrow", value.shape
    outer = cast.outputs[0]
    outer.name, outer.shape, outer.type = name, shape, ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[list(graph.outputs).index(value)] = outer
    graph.append(cast)
