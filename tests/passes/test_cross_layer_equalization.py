"""Cross-layer equalization: even ranges, the same float output, and which pairs are refused."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.calibration.statistics import Statistics
from qcompiler.passes.cross_layer_equalization import CrossLayerEqualization
from qcompiler.pipeline.base import PassContext, PassReport
from tests.passes.graphs import Arrays, graph, normal

Float32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
UNEVEN = np.geomspace(0.01, 10, 8).astype(np.float32)
"""One factor per output channel: ranges a thousand times apart."""


def equalize(
    model: ir.Model, item: CrossLayerEqualization | None = None, *, exclude: tuple[str, ...] = ()
) -> tuple[ir.Model, PassReport]:
    item = item or CrossLayerEqualization()
    result = model.clone()
    selected = frozenset(str(node.name) for node in model.graph.all_nodes()) - set(exclude)
    context = PassContext(result, model, selected, OrtCpu(isa=Isa.VNNI))
    assert not item.statistics(context)
    return result, item.apply(context, Statistics())


def run(model: ir.Model, x: Float32) -> Float32:
    session = open_model(model, session_options(threads=1, optimize=False))
    return next(iter(session.run({"x": x}).values())).astype(np.float32)


def assert_same_output(before: ir.Model, after: ir.Model) -> None:
    """Rounding only: every weight is rounded at most twice more (it may stand in two pairs)."""
    x = normal(2, 8, 8, 8, seed=9)
    old = run(before, x)
    np.testing.assert_allclose(run(after, x), old, rtol=0, atol=1e-5 * float(np.abs(old).max()))


def constant(model: ir.Model, name: str) -> Float32:
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy()


def ranges(weight: Float32, axis: int) -> Float32:
    return np.asarray(np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(axis=1))


def pair(
    between: str,
    second: str = "y = Conv (h, w2, b2)",
    constants: Arrays | None = None,
    output: str = "float[A, B, C, D] y",
) -> ir.Model:
    return graph(
        f"""
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[2, 8, 8, 8] x) => ({output})
        {{
            first = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            {between}
            {second}
        }}
        """,
        {
            "w1": normal(8, 8, 3, 3, seed=1) * UNEVEN[:, None, None, None],
            "b1": normal(8, seed=2),
            "w2": normal(4, 8, 1, 1, seed=3),
            "b2": normal(4, seed=4),
            **(constants or {}),
        },
    )


@pytest.mark.parametrize(
    ("between", "constants"),
    [
        ("h = Relu (first)", {}),
        ("h = Identity (first)", {}),
        ("h = LeakyRelu <alpha = 0.1> (first)", {}),
        ("h = PRelu (first, slope)", {"slope": np.full((8, 1, 1), 0.2, np.float32)}),
        ("a = Relu (first) h = MaxPool <kernel_shape = [2, 2]> (a)", {}),
        ("a = AveragePool <kernel_shape = [2, 2]> (first) h = Relu (a)", {}),
        ("h = Clip (first, zero)", {"zero": np.array(0, np.float32)}),
        ("a = Add (first, b3) h = Relu (a)", {"b3": normal(8, 1, 1, seed=7)}),
    ],
    ids=["relu", "none", "leaky", "prelu", "maxpool", "averagepool", "clip-at-zero", "second-bias"],
)
def test_ranges_meet_and_the_output_stays(between: str, constants: Arrays) -> None:
    model = pair(between, constants=constants)
    after, report = equalize(model)
    assert report.count("transformed") == 2
    # Equal by construction of s; float32 rounding of each weight.
    np.testing.assert_allclose(ranges(constant(after, "w1"), 0), ranges(constant(after, "w2"), 1), rtol=1e-5)
    assert_same_output(model, after)


def test_a_classifier_behind_global_pooling_is_a_pair() -> None:
    head = "p = GlobalAveragePool (h) f = Flatten (p) y = Gemm <transB = 1> (f, w2, b2)"
    model = pair("h = Relu (first)", head, {"w2": normal(4, 8, seed=3)}, output="float[2, 4] y")
    after, report = equalize(model)
    assert report.count("transformed") == 2
    np.testing.assert_allclose(ranges(constant(after, "w1"), 0), ranges(constant(after, "w2"), 1), rtol=1e-5)
    assert_same_output(model, after)


DEPTHWISE = "a = Relu (first) d = Conv <group = 8, pads = [1, 1, 1, 1]> (a, wd, bd) h = Relu (d)"
DEPTHWISE_CONSTANTS: Arrays = {
    "wd": normal(8, 1, 3, 3, seed=5) * UNEVEN[::-1, None, None, None],
    "bd": normal(8, seed=6),
}


def test_a_depthwise_triple_ends_at_the_cubic_root() -> None:
    model = pair(DEPTHWISE, constants=DEPTHWISE_CONSTANTS)
    after, report = equalize(model)
    assert report.count("transformed") == 3
    before = [ranges(constant(model, name), axis) for name, axis in (("w1", 0), ("wd", 0), ("w2", 1))]
    expected = np.cbrt(before[0] * before[1] * before[2])
    for name, axis in (("w1", 0), ("wd", 0), ("w2", 1)):
        # The iteration stops when no scale moves by more than 1e-3.
        np.testing.assert_allclose(ranges(constant(after, name), axis), expected, rtol=5e-3)
    assert_same_output(model, after)


@pytest.mark.parametrize("group", [2, 4])
def test_grouped_convolutions_keep_their_channels_apart(group: int) -> None:
    second = f"y = Conv <group = {group}> (h, w2, b2)"
    model = pair("h = Relu (first)", second, {"w2": normal(4, 8 // group, 1, 1, seed=3)})
    after, report = equalize(model)
    assert report.count("transformed") == 2
    assert_same_output(model, after)


def test_transposed_convolutions_scale_their_own_axes() -> None:
    second = "t = ConvTranspose <group = 2> (h, wt) r = Relu (t) y = Conv (r, w2, b2)"
    model = pair("h = Relu (first)", second, {"wt": normal(8, 4, 2, 2, seed=5)})
    after, report = equalize(model)
    assert report.count("transformed") == 3
    assert_same_output(model, after)


RELU6: Arrays = {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}


def test_relu6_is_refused_with_its_reason() -> None:
    model = pair("h = Clip (first, zero, six)", constants=RELU6)
    after, report = equalize(model)
    assert report.count("transformed") == 0
    assert "finite bound" in report.nodes[1].detail
    np.testing.assert_array_equal(constant(after, "w1"), constant(model, "w1"))


def test_relu6_becomes_relu_only_if_asked_and_that_is_said() -> None:
    model = pair("h = Clip (first, zero, six)", constants=RELU6)
    after, report = equalize(model, CrossLayerEqualization(relu6_to_relu=True))
    assert [node.op_type for node in after.graph] == ["Conv", "Relu", "Conv"]
    assert [node.name for node in after.graph] == [node.name for node in model.graph]
    assert "the float output changes" in report.nodes[1].detail
    assert_same_output(pair("h = Relu (first)"), after)


@pytest.mark.parametrize(
    ("between", "second", "reason"),
    [
        ("h = Sigmoid (first)", "y = Conv (h, w2, b2)", "no scale passes through Sigmoid"),
        ("h = Relu (first)", "c = Conv (h, w2, b2) s = ReduceMean (h) y = Add (c, s)", "reads it"),
        ("h = Add (first, x)", "y = Conv (h, w2, b2)", "a graph input"),
    ],
    ids=["sigmoid", "two-readers", "residual"],
)
def test_what_is_no_pair_says_why(between: str, second: str, reason: str) -> None:
    model = pair(between, second)
    after, report = equalize(model)
    assert report.count("transformed") == 0
    assert reason in report.nodes[1].detail
    np.testing.assert_array_equal(constant(after, "w2"), constant(model, "w2"))


def test_excluding_either_layer_leaves_the_pair() -> None:
    model = pair("h = Relu (first)")
    for name in ("Conv_0", "Conv_2"):
        after, report = equalize(model, exclude=(name,))
        assert report.count("transformed") == 0
        assert any("excluded by the user" in decision.detail for decision in report.nodes)
        np.testing.assert_array_equal(constant(after, "w1"), constant(model, "w1"))


def test_tied_weights_stay_tied() -> None:
    model = pair("h = Relu (first)", "m = Conv <pads = [1, 1, 1, 1]> (h, w1, b1) y = Conv (m, w2, b2)")
    after, report = equalize(model)
    assert report.count("transformed") == 0
    np.testing.assert_array_equal(constant(after, "w1"), constant(model, "w1"))


def test_dead_channels_keep_scale_one() -> None:
    model = pair("h = Relu (first)")
    weight = constant(model, "w1").copy()
    weight[3] = 0
    model.graph.initializers["w1"].const_value = ir.tensor(weight, name="w1")
    after, _ = equalize(model)
    assert np.isfinite(constant(after, "w2")).all()
    np.testing.assert_array_equal(constant(after, "w2")[:, 3], constant(model, "w2")[:, 3])
    assert_same_output(model, after)


def test_equalizing_again_changes_nothing() -> None:
    once, _ = equalize(pair("h = Relu (first)"))
    twice, report = equalize(once)
    assert report.count("transformed") == 0
    # Steps of a rounding error (about 1e-7) may still be taken.
    np.testing.assert_allclose(constant(twice, "w1"), constant(once, "w1"), rtol=1e-6)
