"""Codebooks of a channel: what is in the graph, that it is the k-means of the weight, and what is left and why."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.backends.base import Target
from qcompiler.backends.onnx.portable import Onnx
from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.calibration.collect import collect
from qcompiler.calibration.statistics import Statistics
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.graph.low_bit import low_bit_totals
from qcompiler.numerics.kmeans import looked_up
from qcompiler.passes.squeezellm import SqueezeLlm, channel_codebook
from qcompiler.pipeline.base import PassContext, PassReport
from qcompiler.pipeline.parse import parse_passes
from tests.passes.graphs import graph, normal
from tests.passes.low_bit import NOTHING, PORTABLE, Array, run

ROWS, COLUMNS = 96, 24
FEEDS = [
    {"x": normal(5, ROWS, seed=seed) * np.geomspace(0.1, 10, ROWS, dtype=np.float32)} for seed in range(3)
]
VNNI = OrtCpu(isa=Isa.VNNI)


def network(body: str = "y = MatMul (x, w)", **others: Array) -> ir.Model:
    constants = {"w": normal(ROWS, COLUMNS, seed=1), **others}
    return graph(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        net (float[N, {ROWS}] x) => (float[N, M] y) {{ {body} }}""",
        {name: array for name, array in constants.items() if re.search(rf"\b{name}\b", body)},
    )


def quantize(
    model: ir.Model,
    item: SqueezeLlm | None = None,
    *,
    data: bool = False,
    exclude: str = "",
    target: Target = PORTABLE,
) -> tuple[ir.Model, PassReport]:
    item, result = item or SqueezeLlm(), model.clone()
    selected = frozenset(str(node.name) for node in model.graph.all_nodes()) - {exclude}
    context = PassContext(result, model, selected, target, has_data=data)
    requests = item.statistics(context)
    return result, item.apply(context, collect(result, requests, FEEDS) if requests else NOTHING)


def weight_of(model: ir.Model) -> Array:
    """Of the first product: what comes of the identity."""
    return run(model, x=np.eye(ROWS, dtype=np.float32))


@pytest.mark.parametrize(("bits", "bits_each"), [(4, 4 + 256 / ROWS), (3, 3 + 128 / ROWS)])
def test_the_graph_holds_codes_and_a_table_a_column(bits: int, bits_each: float) -> None:
    result, report = quantize(network(), SqueezeLlm(bits=bits))
    node = next(node for node in result.graph if node.op_type == "LookUpChannels")
    codes, table = (value.const_value for value in node.inputs if value is not None)
    assert codes is not None
    assert table is not None
    assert codes.dtype == ir.DataType.UINT4
    assert list(table.shape) == [1 << bits, COLUMNS]
    count, stored_bits = low_bit_totals(result)
    assert (count, round(stored_bits / count, 3)) == (ROWS * COLUMNS, round(bits_each, 3))
    (decision,) = report.nodes
    assert (decision.action, decision.stored_only) == ("quantized", True)
    assert f"{1 << bits} values a channel, k-means: {bits_each:.2f} bits" in decision.detail
    assert ("4-bit containers" in decision.detail) == (bits == 3)


def test_foreseen_is_what_comes_and_changes_nothing() -> None:
    model = network()
    context = PassContext(model, model, frozenset({"MatMul_0"}), PORTABLE)
    assert SqueezeLlm().foreseen(context) == quantize(model)[1]
    assert [node.op_type for node in model.graph] == ["MatMul"]


@pytest.mark.parametrize(
    "body",
    [
        "y = MatMul (x, w)",
        "y = Gemm <transB = 1> (x, wt)",
        "t = Transpose <perm = [1, 0]> (wt) y = MatMul (x, t)",
    ],
    ids=["matmul", "gemm", "transposed"],
)
@pytest.mark.parametrize("data", [False, True])
def test_weights_are_those_of_the_numerics(body: str, data: bool) -> None:
    weights = normal(ROWS, COLUMNS, seed=1)
    model = network(body, wt=np.ascontiguousarray(weights.T))
    result, report = quantize(model, data=data)
    squares = np.mean([np.square(feed["x"]).mean(0) for feed in FEEDS], axis=0) if data else None
    codes, table = channel_codebook(weights, 16, squares)
    # Mean squares are summed in another order: a value in the middle of two may move to the other one.
    assert np.mean(weight_of(result) != looked_up(codes, table)) < (0.01 if data else 1e-9)
    assert ("weighed by its inputs" in report.nodes[0].detail) == data


def test_data_lowers_the_error_of_the_output() -> None:
    def output_error(data: bool) -> float:
        result, _ = quantize(network(), data=data)
        return float(np.mean([np.square(run(result, **x) - run(network(), **x)).mean() for x in FEEDS]))

    assert output_error(data=True) < 0.5 * output_error(data=False)


@pytest.mark.parametrize("importance", [None, False])
def test_asks_for_nothing_without_data(importance: bool | None) -> None:
    item, model = SqueezeLlm(importance=importance), network()
    context = PassContext(model, model, frozenset({"MatMul_0"}), PORTABLE, has_data=importance is False)
    assert not item.statistics(context)
    assert not item.asks_for_data
    assert SqueezeLlm(importance=True).asks_for_data


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("g = Gather (w, i) y = MatMul (x, g)", "a table of rows has no codebook kernel"),
        ("t = Transpose <perm = [1, 0]> (w) a = MatMul (x, w) y = MatMul (a, t)", "tied to another node's"),
        ("y = MatMul (x, short)", ""),
    ],
)
def test_says_what_it_leaves_and_why(body: str, reason: str) -> None:
    model = network(body, i=np.arange(ROWS) % 7, short=normal(ROWS, 3))  # type: ignore[arg-type]
    _, report = quantize(model)
    assert reason in report.nodes[0].detail


def test_leaves_channels_too_short_for_values_of_their_own() -> None:
    body = "h = MatMul (x, w) y = MatMul (h, v)"
    _, report = quantize(network(body, v=normal(COLUMNS, 8)))
    assert [item.action for item in report.nodes] == ["quantized", "skipped"]
    assert "below 64 their 16 values take more than the codes" in report.nodes[1].detail


def test_excluded_and_lm_head() -> None:
    assert quantize(network(), exclude="MatMul_0")[1].nodes[0].detail == "excluded by the user"
    assert quantize(network(), SqueezeLlm(lm_head=False))[1].nodes[0].detail == "lm_head=false"


def test_refuses_a_weight_that_is_not_finite() -> None:
    weights = normal(ROWS, COLUMNS)
    weights[3, 4] = np.inf
    with pytest.raises(UnsupportedError, match="NaN or infinity"):
        quantize(network(w=weights))


def test_options_are_checked() -> None:
    (item,) = parse_passes("squeezellm:bits=3")
    assert item == SqueezeLlm(bits=3)
    with pytest.raises(OptionError, match="bits"):
        parse_passes("squeezellm:bits=5")


def test_again_changes_nothing() -> None:
    once, _ = quantize(network())
    context = PassContext(once, once, frozenset(str(node.name) for node in once.graph), PORTABLE)
    assert not SqueezeLlm().apply(context, Statistics()).nodes


def test_on_ort_cpu_channels_become_a_grid_of_int8() -> None:
    result, _ = quantize(network(), target=VNNI)
    weights = weight_of(result)
    (lowering,) = VNNI.legalize(result).lowered
    assert lowering.kernel == "DynamicQuantizeMatMul"
    assert "8.17 bits a weight, as int8 columns" in lowering.reason
    codes, scale = (result.graph.initializers[f"w_{name}"] for name in ("columns", "column_scale"))
    assert codes.const_value is not None
    assert scale.const_value is not None
    stored = codes.const_value.numpy() * scale.const_value.numpy()
    # Half a step of an int8 grid over the largest value of each column, its scale rounded up to float16.
    assert np.all(np.abs(stored - weights) <= 0.501 * np.abs(weights).max(0) / 127 * 1.001)


def test_on_ort_cpu_exact_keeps_activations_in_float() -> None:
    target = OrtCpu(isa=Isa.VNNI, exact=True)
    result, _ = quantize(network(), target=target)
    (lowering,) = target.legalize(result).lowered
    assert lowering.kernel == "MatMulNBits"
    assert "on a grid of int8" in lowering.reason


def test_portable_models_hold_no_function(tmp_path: Path) -> None:
    made = qcompiler.compile(network(), "squeezellm", target="onnx", output=tmp_path)
    stored = ir.load(made.path)
    assert not stored.functions
    assert {node.domain for node in stored.graph} == {""}
    assert Onnx().name in str(made.manifest)
