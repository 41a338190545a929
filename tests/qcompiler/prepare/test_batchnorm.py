"""Batch norms go into the weights before them, and stay where that would change something else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.graph.qdq import ORIGIN
from qcompiler.prepare.batchnorm import scale_output_channels
from qcompiler.prepare.select import select_nodes
from tests.qcompiler.prepare.running import check_equivalent, op_types

RNG = np.random.default_rng(11)


def _model(
    nodes: str, weights: dict[str, tuple[int, ...]], x: str, y: str = "float[A, B, C, D]"
) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{x}] x) => ({y} y) {{ {nodes} }}'
    )
    parameters = {name: RNG.standard_normal(shape) for name, shape in weights.items()}
    channels = weights["c"][0]
    parameters |= {"gamma": RNG.uniform(0.5, 2, channels), "var": RNG.uniform(0.1, 3, channels)}
    parameters |= {"beta": RNG.standard_normal(channels), "mean": RNG.standard_normal(channels)}
    for name, array in parameters.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return proto


NORM = "[norm] y = BatchNormalization <epsilon = 0.01> (t, gamma, beta, mean, var)"

LINEAR = {
    "conv": ("t = Conv (x, w)", {"w": (6, 4, 3, 3), "c": (6,)}, "2, 4, 5, 5"),
    "conv with bias": ("t = Conv (x, w, c)", {"w": (6, 4, 3, 3), "c": (6,)}, "2, 4, 5, 5"),
    "grouped conv": ("t = Conv <group = 2> (x, w, c)", {"w": (6, 2, 3, 3), "c": (6,)}, "2, 4, 5, 5"),
    "depthwise conv": ("t = Conv <group = 4> (x, w)", {"w": (4, 1, 3, 3), "c": (4,)}, "2, 4, 5, 5"),
    "transposed": ("t = ConvTranspose (x, w, c)", {"w": (4, 6, 2, 2), "c": (6,)}, "2, 4, 5, 5"),
    "grouped transposed": (
        "t = ConvTranspose <group = 2> (x, w)",
        {"w": (4, 3, 2, 2), "c": (6,)},
        "2, 4, 5, 5",
    ),
    "gemm": ("t = Gemm <alpha = 0.5, beta = 0.25> (x, w, c)", {"w": (4, 6), "c": (6,)}, "3, 4"),
    "gemm transB": ("t = Gemm <transB = 1> (x, w, c)", {"w": (6, 4), "c": (6,)}, "3, 4"),
    "gemm transA, no bias": ("t = Gemm <transA = 1> (x, w)", {"w": (4, 6), "c": (6,)}, "4, 3"),
    "gemm, bias of one number": ("t = Gemm (x, w, b)", {"w": (4, 6), "b": (1,), "c": (6,)}, "3, 4"),
}


@pytest.mark.parametrize("name", LINEAR)
def test_folded_model_computes_the_same(name: str) -> None:
    nodes, weights, shape = LINEAR[name]
    output = "float[A, B]" if "gemm" in name else "float[A, B, C, D]"
    proto = _model(f"[linear] {nodes} {NORM}", weights, shape, output)
    x = RNG.standard_normal([int(dim) for dim in shape.split(",")]).astype(np.float32)
    model, report = check_equivalent(proto, {"x": x})
    assert report.batchnorms_folded == 1
    (node,) = model.graph
    assert (node.name, node.metadata_props[ORIGIN]) == ("linear", "linear")
    assert node.metadata_props["qcompiler.absorbed"] == "norm"


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("t = Relu (x)", "no Conv"),
        ("t = Conv (x, w) z = Relu (t)", "used elsewhere"),
        (
            "v = Abs (w) u = Relu (x) r = ReduceMax <keepdims = 0> (u) k = Mul (w, r) t = Conv (x, k)",
            "not a constant",
        ),
    ],
)
def test_refused_with_its_reason(nodes: str, reason: str) -> None:
    proto = _model(f"{nodes} {NORM}", {"w": (4, 4, 1, 1), "c": (4,)}, "2, 4, 5, 5")
    if " z = " in nodes:
        proto.graph.output.append(
            onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["A", "B", "C", "D"])
        )
    model, report = check_equivalent(proto, {"x": RNG.standard_normal((2, 4, 5, 5)).astype(np.float32)})
    assert "BatchNormalization" in op_types(model)
    assert any("norm" in note and reason in note for note in report.left)


def test_a_weight_that_two_convs_share_is_not_changed_for_the_other() -> None:
    proto = _model(
        f"t = Conv (x, w) o = Conv (x, w) {NORM[7:].replace('y =', 'n =')} y = Add (n, o)",
        {"w": (4, 4, 1, 1), "c": (4,)},
        "2, 4, 5, 5",
    )
    model, report = check_equivalent(proto, {"x": RNG.standard_normal((2, 4, 5, 5)).astype(np.float32)})
    assert report.batchnorms_folded == 1
    assert op_types(model) == ["Conv", "Conv", "Add"]


AFFINES = {
    "Conv": "u = Mul (t, p) v = Add (k, u) a = Sub (v, p) y = Div (a, two)",
    "Conv <group = 2>": "u = Div (t, p) y = Mul (u, two)",
}


@pytest.mark.parametrize("conv", AFFINES)
def test_constants_after_a_conv_are_merged(conv: str) -> None:
    weights = {
        "w": (6, 2 if "group" in conv else 4, 3, 3),
        "c": (6,),
        "p": (6, 1, 1),
        "k": (1, 6, 1, 1),
        "two": (),
    }
    proto = _model(f"[linear] t = {conv} (x, w, c) {AFFINES[conv]}", weights, "2, 4, 5, 5")
    model, report = check_equivalent(proto, {"x": RNG.standard_normal((2, 4, 5, 5)).astype(np.float32)})
    (node,) = model.graph
    assert node.name == "linear"
    assert report.batchnorms_folded == AFFINES[conv].count("=")
    assert select_nodes(model, ["Mul_*"], []) == {"linear"}, "an absorbed node is no longer addressable"


@pytest.mark.parametrize(
    "nodes",
    [
        "t = Conv (x, w) y = Mul (t, row)",
        "t = Conv (x, w) y = Div (one, t)",
        "t = Conv (x, w) y = Mul (t, t)",
        "t = Conv (x, w) u = Conv (x, w) v = Mul (u, one) y = Add (t, v)",
    ],
)
def test_what_is_no_affine_of_channels_stays(nodes: str) -> None:
    weights = {"w": (4, 4, 1, 1), "c": (4,), "row": (5,), "one": ()}
    proto = _model(nodes, weights, "2, 4, 5, 5")
    model, _ = check_equivalent(proto, {"x": RNG.standard_normal((2, 4, 5, 5)).astype(np.float32)})
    assert len(op_types(model)) == nodes.count("=")


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_scaling_a_transposed_weight_scales_its_outputs(
    groups: int, rows: int, columns: int, seed: int
) -> None:
    """Against the definition: channel ``g * columns + j`` is made by ``weight[g * rows + i, j]``."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((groups * rows, columns, 2))
    scale = rng.standard_normal(groups * columns)
    scaled = scale_output_channels(weight, scale, 1, groups)
    for group in range(groups):
        for row in range(rows):
            for column in range(columns):
                expected = weight[group * rows + row, column] * scale[group * columns + column]
                np.testing.assert_array_equal(scaled[group * rows + row, column], expected)
