"""GPTQ and GPTAQ as passes: what they ask for, what the graph then computes, what they cannot observe."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.backends.onnx.portable import Onnx
from qcompiler.calibration.requests import Gram
from qcompiler.calibration.statistics import Statistics
from qcompiler.errors import CalibrationError, OptionError, UnsupportedError
from qcompiler.low_bit.order import ORDERED
from qcompiler.numerics.gptq import solve
from qcompiler.pipeline.base import PassContext
from tests.passes.graphs import graph, normal
from tests.passes.low_bit import made, product, quantize, run

X = normal(200, 72, seed=5) @ normal(72, 72, seed=6, scale=0.3)
GRAM = (X.T @ X / len(X)).astype(np.float32)
DRIFT = (normal(72, 72, seed=7, scale=0.05) @ GRAM).astype(np.float32)


def context(model: ir.Model) -> PassContext:
    return PassContext(model, model, frozenset(str(node.name) for node in model.graph), Onnx())


@pytest.mark.parametrize("bits", [5, 6, 7])
def test_bits_between_those_that_are_stored_are_refused(bits: int) -> None:
    with pytest.raises(OptionError, match=f"option 'bits' is {bits}, expected 2, 3, 4 or 8"):
        made(f"gptq:bits={bits}")


@pytest.mark.parametrize(
    ("words", "drift"),
    [("gptq", False), ("gptaq", True), ("nf4:solver=gptq", False), ("q4_k:solver=gptaq", True)],
)
def test_it_asks_for_what_it_needs_of_what_a_product_reads(words: str, drift: bool) -> None:
    assert list(made(words).statistics(context(product()))) == [Gram("x", drift=drift)]


def test_the_graph_computes_what_was_solved() -> None:
    item = made("gptq:bits=3")
    quantized, report = quantize(product(), item, Statistics({Gram("x"): GRAM}))
    solution = solve(normal(72, 8), GRAM, item.stored, search=item.settings.search)
    expected = item.stored.decode(solution.codes, solution.grid)
    # A row of the identity picks a row of the weight.
    np.testing.assert_allclose(run(quantized, x=np.eye(72, dtype=np.float32)), expected, rtol=1e-6, atol=1e-7)
    assert report.nodes[0].detail.startswith("int3 g32 asymmetric, gptq:")


def test_rows_in_another_order_gather_the_activation_once() -> None:
    model = graph(
        """<ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 72] x) => (float[N, 8] a, float[N, 8] b) { a = MatMul (x, w1)  b = MatMul (x, w2) }""",
        {"w1": normal(72, 8, seed=1), "w2": normal(72, 8, seed=2)},
    )
    item = made("gptq:static_groups=false")
    quantized, _ = quantize(model, item, Statistics({Gram("x"): GRAM}))
    assert sum(ORDERED in node.metadata_props for node in quantized.graph) == 1
    settings = item.settings
    solution = solve(
        normal(72, 8, seed=1), GRAM, item.stored, search=settings.search, static_groups=False, order=True
    )
    assert solution.order is not None
    expected = np.empty((72, 8), np.float32)
    expected[solution.order] = item.stored.decode(solution.codes, solution.grid)
    # A row of the identity picks a row of the weight, wherever it is stored.
    np.testing.assert_allclose(run(quantized, x=np.eye(72, dtype=np.float32)), expected, rtol=1e-6, atol=1e-7)


def test_a_tied_table_has_the_codes_of_its_product() -> None:
    model = graph(
        """<ir_version: 10, opset_import: ["" : 21]>
        net (int64[N] ids) => (float[N, 50] logits)
        { e = Gather (table, ids)  t = Transpose <perm = [1, 0]> (table)  logits = MatMul (e, t) }""",
        {"table": normal(50, 72)},
    )
    item = made("gptq:static_groups=false")
    assert list(item.statistics(context(model))) == [Gram("e")]
    quantized, report = quantize(model, item, Statistics({Gram("e"): GRAM}))
    details = {node.op_type: node.detail for node in report.nodes}
    assert "gptq" in details["Gather"]
    assert "which shares it" in details["Gather"]
    assert [node.op_type for node in quantized.graph].count("DequantizeLinear") == 1
    assert not any(ORDERED in node.metadata_props for node in quantized.graph)


def test_what_is_not_observed_is_rounded_and_says_so() -> None:
    model = graph(
        '<ir_version: 10, opset_import: ["" : 21]> net (int64[N] ids) => (float[N, 40] y) { y = Gather (table, ids) }',
        {"table": normal(300, 40)},
    )
    assert not made("gptq").statistics(context(model))
    _, report = quantize(model, made("gptq"))
    assert "mse in the place of gptq, as its rows are looked up" in report.nodes[0].detail


@pytest.mark.parametrize("words", ["gptaq:sequential=false", "nf4:solver=gptaq:sequential=false"])
def test_gptaq_all_at_once_would_be_gptq_and_is_refused(words: str) -> None:
    with pytest.raises(OptionError, match="use solver gptq"):
        made(words)


@pytest.mark.parametrize("words", ["gptq", "int4:solver=gptaq", "int4:solver=mse:importance=true"])
def test_missing_data_is_found_before_anything_runs(words: str) -> None:
    with pytest.raises(CalibrationError, match="calibration data"):
        qcompiler.compile("models/digits/digits.onnx", words, target="onnx")


@pytest.mark.parametrize("words", ["int4", "nf4", "q4_k", "gptq"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_named(words: str, bad: float) -> None:
    model, weight = product(), normal(72, 8)
    weight[3, 3] = bad
    model.graph.initializers["w"].const_value = ir.tensor(weight, name="w")
    with pytest.raises(UnsupportedError, match="weight 'w' of MatMul 'MatMul_0': it holds NaN or infinity"):
        quantize(model, made(words), Statistics({Gram("x"): GRAM}))


def test_inputs_that_follow_from_one_another_name_the_node_where_there_is_no_damping() -> None:
    statistics = Statistics({Gram("x"): np.ones((72, 72), np.float32)})
    quantize(product(), made("gptq"), statistics)
    with pytest.raises(UnsupportedError, match=r"MatMul_0.*singular; give damping=0\.01"):
        quantize(product(), made("gptq:damping=0"), statistics)
