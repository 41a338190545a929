"""Outlier channels in a branch of their own: the float output stays, the rest needs less range, refusals say why."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.calibration.collect import collect
from qcompiler.calibration.statistics import Statistics
from qcompiler.passes.int8_dynamic import Int8Dynamic
from qcompiler.passes.outlier_channels import OutlierChannels, outliers
from qcompiler.pipeline.base import PassContext, PassReport
from tests.passes.graphs import Arrays, graph, normal

Float32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
WIDE = 200
LOUD = 7
FEEDS = [{"x": normal(2, 5, 16, seed=seed)} for seed in range(3)]


def constants() -> Arrays:
    """Hidden channel ``LOUD`` is thirty times as large as the others."""
    first, bias = normal(16, WIDE, seed=1), normal(WIDE, seed=2)
    first[:, LOUD] *= 30
    return {"w1": first, "b1": bias, "w2": normal(WIDE, 8, seed=3), "b2": normal(8, seed=4)}


def network(body: str, **others: Float32) -> ir.Model:
    return graph(
        f"""
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[2, 5, 16] x) => (float[2, 5, M] y) {{ {body} }}
        """,
        {name: array for name, array in {**constants(), **others}.items() if re.search(rf"\b{name}\b", body)},
    )


MLP = "p = MatMul (x, w1) s = Add (p, b1) h = Gelu (s) q = MatMul (h, w2) y = Add (b2, q)"


def context_of(model: ir.Model, original: ir.Model) -> PassContext:
    selected = frozenset(str(node.name) for node in original.graph.all_nodes())
    return PassContext(model, original, selected, OrtCpu(isa=Isa.VNNI))


def split(model: ir.Model, item: OutlierChannels | None = None) -> tuple[ir.Model, PassReport]:
    item, result = item or OutlierChannels(), model.clone()
    context = context_of(result, model)
    return result, item.apply(context, collect(result, item.statistics(context), FEEDS))


def run(model: ir.Model) -> list[Float32]:
    session = open_model(model, session_options(threads=1, optimize=False))
    return [session.run(feed)["y"].astype(np.float32) for feed in FEEDS]


@pytest.mark.parametrize(
    "body",
    [
        MLP,
        "p = MatMul (x, w1) h = Relu (p) y = MatMul (h, w2)",
        "t = Transpose <perm = [1, 0]> (w1t) p = MatMul (x, t) s = Add (p, b1) h = Gelu (s) y = MatMul (h, w2)",
    ],
    ids=["bias", "no-bias", "transposed"],
)
def test_the_float_output_stays_and_the_channel_is_zero(body: str) -> None:
    model = network(body, w1t=np.ascontiguousarray(constants()["w1"].T))
    after, report = split(model)
    assert report.nodes[-1].action == "transformed"
    assert f"1 of {WIDE} channels" in report.nodes[-1].detail
    for old, new in zip(run(model), run(after), strict=True):
        # The same products in float32, summed in another order: some 1e-6 of the largest.
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-5 * float(np.abs(old).max()))
    second = after.graph.initializers["w2"].const_value
    assert second is not None
    assert not second.numpy()[LOUD].any()
    assert np.delete(second.numpy(), LOUD, axis=0).any(axis=1).all()


def test_public_names_stay() -> None:
    after, _ = split(network(MLP))
    assert [value.name for value in after.graph.outputs] == ["y"]


def test_int8_behind_it_loses_far_less_and_leaves_the_branch_in_float() -> None:
    model = network(MLP)
    after, _ = split(model)
    exact, errors = run(model), []
    for candidate in (model.clone(), after):
        report = Int8Dynamic().apply(context_of(candidate, model), Statistics({}))
        got = run(candidate)
        errors.append(sum(float(np.square(a - b).sum()) for a, b in zip(got, exact, strict=True)))
        kept = [decision for decision in report.nodes if "computed in float" in decision.detail]
        assert len(kept) == (2 if candidate is after else 0)
    # The step of the hidden codes is some ten times smaller; the weights' own error and the first product's stay.
    assert errors[1] < errors[0] / 4


def test_running_it_again_finds_nothing() -> None:
    once, _ = split(network(MLP))
    twice, report = split(once)
    assert len(list(twice.graph)) == len(list(once.graph))
    assert report.count("transformed") == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = MatMul (x, w1)", "no elementwise function"),
        ("p = MatMul (x, w1) h = Sigmoid (p) y = MatMul (h, w2)", "no elementwise function"),
        ("h = Gelu (x) y = MatMul (h, w1)", "does not read one computed value"),
        ("n = Neg (x) h = Gelu (n) y = MatMul (h, w1)", "no linear layer"),
        ("p = MatMul (x, w1) h = Gelu (p) r = ReduceMax (h) q = MatMul (h, w2) y = Add (q, r)", "others read"),
        ("p = MatMul (x, w1) e = MatMul (x, w1) h = Gelu (p) q = MatMul (h, w2)"
         " r = ReduceMax (e) y = Add (q, r)", "tied"),
    ],
)  # fmt: skip
def test_refuses_with_a_reason(body: str, reason: str) -> None:
    model = network(body)
    after, report = split(model)
    assert report.count("transformed") == 0
    assert reason in report.nodes[-1].detail
    assert [node.op_type for node in after.graph] == [node.op_type for node in model.graph]


def test_channels_that_are_alike_are_left() -> None:
    model = network(MLP, w1=normal(16, WIDE, seed=1))
    _, report = split(model)
    assert "no channel is 2 times" in report.nodes[-1].detail


def test_at_most_one_channel_in_a_hundred_is_an_outlier() -> None:
    magnitude = np.ones(200)
    magnitude[[3, 50]] = 10.0
    np.testing.assert_array_equal(outliers(magnitude, 2.0), [3, 50])
    magnitude[60] = 9.0  # three of two hundred are no exception any more
    assert outliers(magnitude, 2.0).size == 0
    assert outliers(np.array([1.0, 100.0]), 2.0).size == 0
