"""Each operator that changed between opset 7 and 21 computes the same after the opset is raised."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompiler.errors import UnsupportedError
from qcompiler.load import load_model
from qcompiler.prepare import prepare
from tests.qcompiler.prepare.running import check_equivalent, op_types, run

X = np.random.default_rng(3).standard_normal((2, 4, 6, 5)).astype(np.float32)

NODES = {
    (7, "BatchNormalization"): "y = BatchNormalization <spatial = 1> (x, c, c, c, c)",
    (7, "Upsample"): 'y = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 3.0]> (x)',
    (8, "Dropout"): "y = Dropout <ratio = 0.3> (x)",
    (
        9,
        "Upsample",
    ): 's = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> () y = Upsample <mode = "linear"> (x, s)',
    (9, "Slice"): "y = Slice <starts = [1, 0], ends = [3, -1], axes = [1, 3]> (x)",
    (9, "Slice without axes"): "y = Slice <starts = [0, 1], ends = [2, 99]> (x)",
    (9, "TopK"): "y, i = TopK <k = 2, axis = 2> (x)",
    (10, "Clip"): "y = Clip <min = -0.5, max = 0.5> (x)",
    (10, "Clip one side"): "y = Clip <max = 0.5> (x)",
    (10, "Pad"): "y = Pad <pads = [0, 0, 1, 2, 0, 0, 3, 4], value = 1.5> (x)",
    (10, "Pad edge"): 'y = Pad <mode = "edge", pads = [0, 0, 1, 2, 0, 0, 3, 4]> (x)',
    (
        10,
        "Resize",
    ): 's = Constant <value = float[4] {1.0, 1.0, 2.5, 0.5}> () y = Resize <mode = "nearest"> (x, s)',
    (11, "Resize"): (
        "s = Constant <value = float[4] {1.0, 1.0, 2.5, 0.5}> () r = Constant <value = float[0] {}> ()"
        'y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (x, r, s)'
    ),
    (11, "Squeeze"): "u = Unsqueeze <axes = [0, 3]> (x) y = Squeeze <axes = [0, 3]> (u)",
    (12, "Split"): "y, z = Split <axis = 1, split = [1, 3]> (x)",
    (12, "Split in equal parts"): "y, z = Split <axis = 2> (x)",
    (12, "Softmax default axis"): "y = Softmax (x)",
    (12, "Softmax last axis"): "y = Softmax <axis = 3> (x)",
    (12, "Softmax middle axis"): "y = LogSoftmax <axis = 2> (x)",
    (12, "Softmax over trailing ones"): "p = GlobalAveragePool (x) y = Softmax <axis = 1> (p)",
    (12, "ReduceSum"): "y = ReduceSum <axes = [1, 3]> (x)",
    (12, "ReduceSum all"): "y = ReduceSum <keepdims = 1> (x)",
    (17, "ReduceMean"): "y = ReduceMean <axes = [-1]> (x)",
    (17, "ReduceL2"): "y = ReduceL2 <axes = [2]> (x)",
    (17, "Split in equal parts"): "y, z = Split <axis = 1> (x)",
    (20, "LayerNormalization"): "y = LayerNormalization <axis = 1> (x, l)",
    (18, "GroupNormalization"): "y = GroupNormalization <num_groups = 2> (x, g, g)",
    (16, "GridSample"): 't = Slice (x, a0, a2, a3) y = GridSample <mode = "bilinear"> (x, t)',
}

INITIALIZERS = """
<float[4] c = {0.5, 1.0, 1.5, 2.0}, float[2] g = {0.5, 1.5}, float[1] l = {2.0},
 int64[1] a0 = {0}, int64[1] a2 = {2}, int64[1] a3 = {3}>
"""


def model_of(opset: int, body: str) -> onnx.ModelProto:
    """Return a model with input ``x`` and output ``y``; body nodes on one line each."""
    return onnx.parser.parse_model(
        f'<ir_version: {7 if opset < 18 else 8}, opset_import: ["" : {opset}]>'
        f"g (float[N, 4, 6, 5] x) => (float[A, B, C, D] y) {INITIALIZERS} {{ {body} }}"
    )


@pytest.mark.parametrize(("opset", "name"), NODES)
def test_same_outputs(opset: int, name: str) -> None:
    model, report = check_equivalent(model_of(opset, NODES[opset, name]), {"x": X})
    assert report.opset_after == 21
    assert model.graph.opset_imports[""] == 21


def test_scatter_becomes_scatter_elements() -> None:
    body = "i = Constant <value = int64[1, 1, 1, 2] {2, 0}> () u = Constant <value = float[1, 1, 1, 2] {9.0, 8.0}> ()"
    model, _ = check_equivalent(model_of(9, f"{body} y = Scatter <axis = 2> (x, i, u)"), {"x": X})
    assert op_types(model) == ["ScatterElements"]


def test_nodes_in_subgraphs_are_raised_and_keep_their_names() -> None:
    proto = onnx.parser.parse_model(
        """
        <ir_version: 7, opset_import: ["" : 11]>
        g (bool c, float[2, 3] x) => (float[N] y)
        {
            [choose] y = If (c) <
                then_branch = a () => (float[N] p) { [sum] p = ReduceSum <axes = [1], keepdims = 0> (x) },
                else_branch = b () => (float[N] q) { [top] q = ReduceMax <axes = [1], keepdims = 0> (x) }
            >
        }
        """
    )
    for flag in (True, False):
        feeds = {"c": np.array(flag), "x": X[0, 0, :2, :3]}
        model, _ = check_equivalent(proto, feeds)
        assert {node.name for node in model.graph.all_nodes()} == {"choose", "sum", "top"}


def test_opset_is_never_lowered() -> None:
    model = load_model(model_of(23, "y = Relu (x)"))
    assert prepare(model).opset_after == 23


def test_what_cannot_be_raised_stays_where_it_is_or_is_refused() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[A, B, C] x, float[G] s) => (float[A, B, C] y)'
        "{ [norm] y = GroupNormalization <num_groups = 2> (x, s, s) }"
    )
    report = prepare(load_model(proto))
    assert report.opset_after == 20
    assert "norm (GroupNormalization) has an unknown number of channels" in report.notes[0]

    old = model_of(7, "y = BatchNormalization <spatial = 0> (x, c, c, c, c)")
    with pytest.raises(UnsupportedError, match=r"opset 8 cannot be raised to 13.*spatial=0"):
        prepare(load_model(old))


def test_initializers_listed_as_inputs_and_unused_imports_go() -> None:
    proto = onnx.parser.parse_model(
        """
        <ir_version: 3, opset_import: ["" : 9, "ai.onnx.ml" : 2, "com.nobody" : 1]>
        g (float[2, 3] x, float[3] w) => (float[2, 3] y) <float[3] w = {1.0, 2.0, 3.0}> { y = Mul(x, w) }
        """
    )
    model = load_model(proto)
    report = prepare(model)
    assert report.inputs_dropped == ("w",)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert dict(model.graph.opset_imports) == {"": 21}
    assert model.ir_version >= 10
    assert ir.to_proto(model).graph.initializer[0].name == "w"


def test_ir_version_is_one_that_the_runtime_reads() -> None:
    proto = model_of(21, "y = Relu (x)")
    proto.ir_version = 14
    model = load_model(proto)
    report = prepare(model)
    assert model.ir_version == 13
    assert "ir_version lowered from 14 to 13" in report.notes[0]
    run(ir.to_proto(model), {"x": X})
