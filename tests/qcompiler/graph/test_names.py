"""Names of what is added never meet names that are there."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph.names import names_kept
from tests.passes.graphs import graph, normal


def test_what_is_added_gives_way_to_what_was_there() -> None:
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 4] x) => (float[N, 4] x_scale)
        {
            x_zero = MatMul (x, w)
            x_scale = Relu (x_zero)
        }
        """,
        {"w": normal(4, 4)},
    )
    product = model.graph[0]
    with names_kept(model):
        for _ in range(2):
            node = ir.node("Neg", [product.outputs[0]], name=product.name)
            node.outputs[0].name = "x_scale"
            model.graph.append(node)
        model.graph.initializers["w"].name = "x_zero"
    assert [value.name for value in model.graph.outputs] == ["x_scale"]
    assert product.outputs[0].name == "x_zero"
    assert list(model.graph.initializers) == ["x_zero_1"]
    assert [node.outputs[0].name for node in model.graph] == ["x_zero", "x_scale", "x_scale_1", "x_scale_2"]
    assert len({node.name for node in model.graph}) == 4


def test_without_clashes_nothing_is_renamed() -> None:
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 4] x) => (float[N, 4] y) { y = MatMul (x, w) }
        """,
        {"w": normal(4, 4)},
    )
    before = str(model)
    with names_kept(model):
        pass
    assert str(model) == before
