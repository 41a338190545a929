"""Readable names: what is renamed, what never is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.models.graph_names import tidy

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
main (float[s7, s9, 2] x) => (float[s7, s9, 2] y)
<float[2, 2] val_3 = {1, 2, 3, 4}, float[2] b = {1, 2}>
{
   linear = MatMul(x, val_3)
   add_1 = Add(linear, b)
   y = Add(add_1, b)
}
"""
SCOPES = "pkg.torch.onnx.name_scopes"


def traced() -> ir.Model:
    """Two operators of module ``net.0.up`` and one of no module, as the torch exporter marks them."""
    model = ir.from_onnx_text(TEXT)
    first, second, third = model.graph
    for node in (first, second):
        node.metadata_props[SCOPES] = "['', 'net.0', 'net.0.up', 'linear']"
    third.metadata_props[SCOPES] = "['_empty_nn_module_stack_from_metadata_hook', 'add']"
    first.outputs[0].shape = ir.Shape(["s7", "s9", 2])
    second.outputs[0].shape = ir.Shape(["s7", "2*s9 + s70", None])
    return model


def test_nodes_weights_and_axes_get_their_names() -> None:
    model = traced()
    tidy(model, {"x": {0: "batch", 1: "sequence"}})
    assert [node.name for node in model.graph] == ["/net.0/up/MatMul", "/net.0/up/Add", "/Add"]
    assert sorted(model.graph.initializers) == ["b", "net.0.up.weight"]
    weight = model.graph.initializers["net.0.up.weight"].const_value
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), [[1, 2], [3, 4]])
    assert model.graph.inputs[0].shape == ir.Shape(["batch", "sequence", 2])
    assert model.graph.outputs[0].shape == ir.Shape(["batch", "sequence", 2])
    assert model.graph[1].outputs[0].shape == ir.Shape(["batch", "2*sequence + s70", None])


def test_public_names_stay_and_traces_go() -> None:
    model = traced()
    tidy(model, {"x": {0: "batch"}})
    assert [value.name for value in (*model.graph.inputs, *model.graph.outputs)] == ["x", "y"]
    assert not any(node.metadata_props for node in model.graph)


def test_weights_have_no_second_record_of_their_shape() -> None:
    model = traced()
    tidy(model, {})
    recorded = {info.name for info in ir.to_proto(model).graph.value_info}
    assert recorded
    assert not recorded & set(model.graph.initializers)


def test_names_are_unique() -> None:
    model = traced()
    for node in model.graph:
        node.metadata_props[SCOPES] = "['', 'net.0.up', 'add']"
    tidy(model, {})
    names = [node.name for node in model.graph]
    assert names == ["/net.0/up/MatMul", "/net.0/up/Add", "/net.0/up/Add_1"]
