"""Groups of linear nodes: every node once, in the order of the graph, under what it reads."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph.consumers import by_activation
from qcompiler.graph.weighted import weighted

GRAPH = """<ir_version: 10, opset_import: ["": 21]>
g (float[N, 2] x) => (float[N, 3] a, float[N, 3] c)
<float[2, 3] u = {1, 2, 3, 4, 5, 6}, float[2, 3] v = {6, 5, 4, 3, 2, 1}>
{
    y = Relu(x)
    [first] a = MatMul(y, u)
    [other] b = MatMul(x, v)
    [second] c = MatMul(y, v)
}"""


def test_nodes_that_read_one_value_are_one_group() -> None:
    model = ir.from_onnx_text(GRAPH)
    views = [view for node in model.graph if (view := weighted(node)) is not None]
    groups = by_activation(views)
    assert [group.name for group in groups] == ["y", "x"]
    assert [[view.node.outputs[0].name for view in group.consumers] for group in groups] == [
        ["a", "c"],
        ["b"],
    ]
    assert groups[0].channels == 2
    assert groups[0].readers == [(view.node, 0) for view in groups[0].consumers]
