"""SmoothQuant: what absorbs a scale, that the float output stays, and why nodes were left."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.calibration.collect import collect
from qcompiler.calibration.requests import Rows
from qcompiler.passes.smoothquant import SharedNorm, SmoothQuant
from qcompiler.pipeline.base import PassContext, PassReport
from tests.passes.graphs import Arrays, graph, normal

Float32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
OUTLIERS = np.where(np.arange(16) == 3, 40.0, 1.0).astype(np.float32)
"""Channel 3 is forty times as large as the others."""


def feeds(*shape: int) -> list[dict[str, Float32]]:
    return [{"x": normal(*shape, seed=seed)} for seed in range(3)]


def smooth(
    model: ir.Model, shape: tuple[int, ...], item: SmoothQuant | None = None, *, exclude: tuple[str, ...] = ()
) -> tuple[ir.Model, PassReport]:
    item = item or SmoothQuant(alpha=0.5)
    result = model.clone()
    selected = frozenset(str(node.name) for node in model.graph.all_nodes()) - set(exclude)
    context = PassContext(result, model, selected, OrtCpu(isa=Isa.VNNI))
    statistics = collect(result, item.statistics(context), feeds(*shape))
    return result, item.apply(context, statistics)


def run(model: ir.Model, feed: dict[str, Float32]) -> list[Float32]:
    session = open_model(model, session_options(threads=1, optimize=False))
    return [array.astype(np.float32) for array in session.run(feed).values()]


def assert_same_output(before: ir.Model, after: ir.Model, *shape: int) -> None:
    """The float output is the same to rounding: scales are no powers of two, so each constant is rounded once
    more, and float32 sums of some dozen products differ by some 1e-6 of the largest."""
    for feed in feeds(*shape):
        for old, new in zip(run(before, feed), run(after, feed), strict=True):
            np.testing.assert_allclose(new, old, rtol=0, atol=1e-5 * float(np.abs(old).max()))


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def constant(model: ir.Model, name: str) -> Float32:
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy()


def details(report: PassReport) -> dict[str, str]:
    return {decision.node: decision.detail for decision in report.nodes}


def with_norm(norm: str, constants: Arrays, *, tail: str = "y = MatMul (h, w1)") -> ir.Model:
    return graph(
        f"""
        <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
        net (float[N, T, 16] x) => (float[N, T, M] y)
        {{
            {norm}
            {tail}
        }}
        """,
        {"w1": normal(16, 8, seed=1), **constants},
    )


LAYER_NORM = "h = LayerNormalization <axis = -1> (x, gamma, beta)"
NORM_CONSTANTS: Arrays = {"gamma": OUTLIERS, "beta": normal(16, seed=8)}


@pytest.mark.parametrize(
    ("norm", "constants", "sink"),
    [
        (LAYER_NORM, NORM_CONSTANTS, "LayerNormalization"),
        ("h = LayerNormalization <axis = -1> (x, gamma)", {"gamma": OUTLIERS}, "LayerNormalization"),
        ("h = RMSNormalization <axis = -1> (x, gamma)", {"gamma": OUTLIERS}, "RMSNormalization"),
        (
            "h = com.microsoft.SkipLayerNormalization (x, x, gamma, beta)",
            NORM_CONSTANTS,
            "SkipLayerNormalization",
        ),
        (
            "two = Constant <value = float {2.0}> () squares = Pow (x, two)"
            " mean = ReduceMean <keepdims = 1> (squares, axes) shifted = Add (mean, epsilon)"
            " root = Sqrt (shifted) unit = Div (x, root) scaled = Mul (unit, gamma) h = Add (scaled, beta)",
            {
                **NORM_CONSTANTS,
                "axes": np.array([-1], np.int64),
                "epsilon": np.array(1e-5, np.float32),
            },
            "Mul",
        ),
        (
            "first = MatMul (x, w0) biased = Add (b0, first) h = Relu (biased)",
            {"w0": normal(16, 16, seed=2) * OUTLIERS, "b0": normal(16, seed=3)},
            "MatMul",
        ),
        (
            "gate = MatMul (x, w0) sigmoid = Sigmoid (gate) silu = Mul (gate, sigmoid) up = MatMul (x, w2)"
            " h = Mul (silu, up)",
            {"w0": normal(16, 16, seed=2), "w2": normal(16, 16, seed=4) * OUTLIERS},
            "MatMul",
        ),
    ],
    ids=["layernorm", "no-beta", "rmsnorm", "skip", "decomposed", "linear", "swiglu"],
)
def test_what_makes_the_activation_absorbs_the_scale(norm: str, constants: Arrays, sink: str) -> None:
    model = with_norm(norm, constants)
    after, report = smooth(model, (2, 5, 16))
    last = report.nodes[-1]
    assert last.action == "transformed"
    assert f"into {sink}" in last.detail or f", {sink}" in last.detail
    assert ops(after) == ops(model)
    assert_same_output(model, after, 2, 5, 16)
    factor = constant(after, "w1") / constant(model, "w1")
    assert factor[3].mean() > 2 * np.median(factor)


def test_swiglu_folds_into_the_branch_that_is_linear() -> None:
    model = with_norm(
        "gate = MatMul (x, w0) silu = Sigmoid (gate) up = MatMul (x, w2) h = Mul (silu, up)",
        {"w0": normal(16, 16, seed=2), "w2": normal(16, 16, seed=4) * OUTLIERS},
    )
    after, _ = smooth(model, (2, 5, 16))
    np.testing.assert_array_equal(constant(after, "w0"), constant(model, "w0"))
    assert np.abs(constant(after, "w2") - constant(model, "w2")).max() > 0


ATTENTION = """
    v = MatMul (x, wv) vb = Add (v, bv) vs = Reshape (vb, heads) vt = Transpose <perm = [0, 2, 1, 3]> (vs)
    probabilities = Softmax (scores) mixed = MatMul (probabilities, vt)
    back = Transpose <perm = [0, 2, 1, 3]> (mixed) h = Reshape (back, flat)
"""


def attention() -> ir.Model:
    return with_norm(
        ATTENTION,
        {
            "wv": normal(16, 16, seed=2) * OUTLIERS,
            "bv": normal(16, seed=3),
            "heads": np.array([2, 5, 4, 4], np.int64),
            "flat": np.array([2, 5, 16], np.int64),
            "scores": normal(2, 4, 5, 5, seed=5),
        },
    )


def test_the_output_projection_of_attention_folds_through_the_heads() -> None:
    model = attention()
    after, report = smooth(model, (2, 5, 16))
    assert report.nodes[-1].action == "transformed"
    assert_same_output(model, after, 2, 5, 16)


def test_consumers_of_one_activation_share_one_scale() -> None:
    model = with_norm(
        LAYER_NORM, {**NORM_CONSTANTS, "w2": normal(16, 8, seed=2)},
        tail="a = MatMul (h, w1) b = MatMul (h, w2) y = Add (a, b)",
    )  # fmt: skip
    after, report = smooth(model, (2, 5, 16))
    first = constant(after, "w1") / constant(model, "w1")
    second = constant(after, "w2") / constant(model, "w2")
    # One factor, applied to float32 numbers that are rounded once each.
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert report.count("transformed") == 2
    assert "shared by 2 nodes" in report.nodes[0].detail


POST_NORM = "a = MatMul (h, w1) b = MatMul (a, w2) y = Add (b, h)"
"""The residual branch reads the norm too."""


def post_norm() -> ir.Model:
    return with_norm(LAYER_NORM, {**NORM_CONSTANTS, "w2": normal(8, 16, seed=2)}, tail=POST_NORM)


def test_a_norm_with_other_readers_is_multiplied_for_its_consumers() -> None:
    model = post_norm()
    after, report = smooth(model, (2, 5, 16), exclude=("MatMul_2",))
    assert sorted(ops(after)) == sorted([*ops(model), "Mul"])
    assert "by a Mul at run time" in report.nodes[0].detail
    np.testing.assert_array_equal(constant(after, "gamma"), constant(model, "gamma"))
    assert_same_output(model, after, 2, 5, 16)
    again, report = smooth(after, (2, 5, 16), exclude=("MatMul_2",))
    assert ops(again) == ops(after)
    assert "smooth already" in report.nodes[0].detail


def test_a_norm_with_other_readers_is_duplicated_if_asked() -> None:
    model = post_norm()
    item = SmoothQuant(alpha=0.5, shared_norm=SharedNorm.DUPLICATE)
    after, report = smooth(model, (2, 5, 16), item, exclude=("MatMul_2",))
    assert ops(after).count("LayerNormalization") == 2
    assert "duplicated" in report.nodes[0].detail
    np.testing.assert_array_equal(constant(after, "gamma"), constant(model, "gamma"))
    assert_same_output(model, after, 2, 5, 16)


def test_a_norm_with_other_readers_is_left_alone_if_asked() -> None:
    model = post_norm()
    after, report = smooth(model, (2, 5, 16), SmoothQuant(alpha=0.5, shared_norm=SharedNorm.LEAVE))
    assert ops(after) == ops(model)
    assert "duplicating it is not allowed" in report.nodes[0].detail


def test_a_constant_that_others_read_is_duplicated_and_left_to_them() -> None:
    norms = LAYER_NORM + " other = LayerNormalization <axis = -1> (x, gamma, beta)"
    model = with_norm(norms, NORM_CONSTANTS, tail="a = MatMul (h, w1) r = ReduceMean (other) y = Add (a, r)")
    after, report = smooth(model, (2, 5, 16))
    assert report.count("transformed") == 1
    np.testing.assert_array_equal(constant(after, "gamma"), constant(model, "gamma"))
    assert_same_output(model, after, 2, 5, 16)


@pytest.mark.parametrize(
    ("norm", "reason"),
    [
        ("h = Gelu (x)", "no scale passes through Gelu"),
        ("h = Identity (x)", "it comes from 'x', a graph input"),
        ("h = Clip (x, zero, six)", "finite bound"),
        ("h = Softmax (x)", "no scale passes through Softmax"),
    ],
)
def test_what_cannot_absorb_says_so(norm: str, reason: str) -> None:
    constants: Arrays = {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    model = with_norm(norm, constants if "Clip" in norm else {})
    after, report = smooth(model, (2, 5, 16))
    assert [decision.action for decision in report.nodes] == ["skipped"]
    assert reason in report.nodes[0].detail
    np.testing.assert_array_equal(constant(after, "w1"), constant(model, "w1"))


def test_insert_mul_serves_what_nothing_absorbs() -> None:
    model = with_norm("g = Gelu (x) o = Mul (g, gamma) h = Tanh (o)", {"gamma": OUTLIERS})
    after, report = smooth(model, (2, 5, 16), SmoothQuant(alpha=0.5, insert_mul=True))
    assert ops(after).count("Mul") == ops(model).count("Mul") + 1
    assert "by a Mul at run time" in report.nodes[0].detail
    assert_same_output(model, after, 2, 5, 16)


def test_tied_weights_stay_tied() -> None:
    model = with_norm(LAYER_NORM, {**NORM_CONSTANTS, "w1": normal(16, 16, seed=1)},
                      tail="a = MatMul (h, w1) y = MatMul (a, w1)")  # fmt: skip
    after, report = smooth(model, (2, 5, 16))
    assert report.count("transformed") == 0
    assert all("tied" in decision.detail for decision in report.nodes)
    np.testing.assert_array_equal(constant(after, "w1"), constant(model, "w1"))


def test_excluded_nodes_keep_the_unscaled_activation() -> None:
    model = with_norm(
        LAYER_NORM, {**NORM_CONSTANTS, "w2": normal(16, 8, seed=2)},
        tail="a = MatMul (h, w1) b = MatMul (h, w2) y = Add (a, b)",
    )  # fmt: skip
    after, report = smooth(model, (2, 5, 16), exclude=("MatMul_2",))
    assert details(report)["MatMul_2"] == "excluded by the user"
    np.testing.assert_array_equal(constant(after, "w2"), constant(model, "w2"))
    assert_same_output(model, after, 2, 5, 16)


def test_dead_channels_and_zero_rows_give_finite_scales() -> None:
    gamma, weight = OUTLIERS.copy(), normal(16, 8, seed=1)
    gamma[[0, 5]], weight[[5, 7]] = 0, 0
    model = with_norm("h = RMSNormalization <axis = -1> (x, gamma)", {"gamma": gamma, "w1": weight})
    for item in (SmoothQuant(), SmoothQuant(alpha=0.0), SmoothQuant(alpha=1.0)):
        after, _ = smooth(model, (2, 5, 16), item)
        assert all(np.isfinite(constant(after, name)).all() for name in ("gamma", "w1"))
        assert_same_output(model, after, 2, 5, 16)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.8])
def test_smoothing_again_changes_nothing(alpha: float) -> None:
    once, _ = smooth(attention(), (2, 5, 16), SmoothQuant(alpha=alpha))
    twice, report = smooth(once, (2, 5, 16), SmoothQuant(alpha=alpha))
    assert report.count("transformed") == 0
    np.testing.assert_array_equal(constant(once, "w1"), constant(twice, "w1"))


def test_the_search_lowers_the_error_and_reports_it() -> None:
    model = with_norm(LAYER_NORM, NORM_CONSTANTS)
    after, report = smooth(model, (2, 50, 16), SmoothQuant())
    before, now = report.nodes[0].detail.split("output error ")[1].split(",")[0].split(" -> ")
    assert float(now) < 0.2 * float(before)
    assert_same_output(model, after, 2, 50, 16)


def test_only_the_search_asks_for_rows() -> None:
    model = with_norm(LAYER_NORM, NORM_CONSTANTS)
    names = frozenset(str(node.name) for node in model.graph)
    context = PassContext(model, model, names, OrtCpu(isa=Isa.VNNI))
    assert any(isinstance(request, Rows) for request in SmoothQuant().statistics(context))
    assert not any(isinstance(request, Rows) for request in SmoothQuant(alpha=0.5).statistics(context))
