"""Books of vectors: what is in the graph, that data lowers the error, and what is left and why."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.base import Target
from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.calibration.collect import collect
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.graph.low_bit import low_bit_totals
from qcompiler.numerics.vector_codebook import Shape, fit_vectors
from qcompiler.passes.aqlm import Aqlm
from qcompiler.pipeline.base import PassContext, PassReport
from qcompiler.pipeline.parse import parse_passes
from tests.passes.graphs import Arrays, graph, normal
from tests.passes.low_bit import NOTHING, PORTABLE, Array, run

ROWS, COLUMNS = 128, 256
WEIGHT = normal(ROWS, COLUMNS, seed=1)
MIX = normal(24, ROWS, seed=2)
FEEDS = [{"x": (normal(90, 24, seed=seed + 3) @ MIX).astype(np.float32)} for seed in range(3)]
VNNI = OrtCpu(isa=Isa.VNNI)


def network(body: str = "y = MatMul (x, w)", weight: Array = WEIGHT) -> ir.Model:
    constants: Arrays = {"w": weight} if "(x, w)" in body else {"wt": np.ascontiguousarray(weight.T)}
    return graph(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        net (float[N, K] x) => (float[N, M] y) {{ {body} }}""",
        constants,
    )


def quantize(
    model: ir.Model, item: Aqlm, *, data: bool = False, target: Target = PORTABLE
) -> tuple[ir.Model, PassReport]:
    result = model.clone()
    selected = frozenset(str(node.name) for node in model.graph.all_nodes())
    context = PassContext(result, model, selected, target, has_data=data)
    requests = item.statistics(context)
    assert bool(requests) == data
    return result, item.apply(context, collect(result, requests, FEEDS) if requests else NOTHING)


def weight_of(model: ir.Model) -> Array:
    return run(model, x=np.eye(ROWS, dtype=np.float32))


@pytest.mark.parametrize("body", ["y = MatMul (x, w)", "y = Gemm <transB = 1> (x, wt)"])
def test_weights_are_those_of_the_numerics(body: str) -> None:
    result, report = quantize(network(body), Aqlm(books=1))
    made = fit_vectors(WEIGHT, Shape(1), None, 4)
    # Books and scales are rounded to float16: 2^-11 of each.
    np.testing.assert_allclose(weight_of(result), made.weights(), rtol=2e-3, atol=1e-4)
    assert "1 x 256 vectors of 8, k-means without data: 2.12 bits" in report.nodes[0].detail


@pytest.mark.parametrize("books", [1, 2])
def test_the_graph_holds_codes_books_and_scales(books: int) -> None:
    result, _ = quantize(network(), Aqlm(books=books, sweeps=0))
    node = next(node for node in result.graph if node.op_type == "LookUpVectors")
    shapes = [
        list(value.const_value.shape) for value in node.inputs if value is not None and value.const_value
    ]
    assert shapes == [[books, ROWS // 8, COLUMNS], [books, 256, 8], [COLUMNS]]
    count, bits = low_bit_totals(result)
    assert round(bits / count, 3) == books * (1 + 32768 / count) + 16 / ROWS


def test_data_lowers_the_error_of_the_output() -> None:
    def error(item: Aqlm, *, data: bool) -> float:
        result, _ = quantize(network(), item, data=data)
        return float(np.mean([np.square(run(result, **x) - run(network(), **x)).mean() for x in FEEDS]))

    fitted, rounded, blind = (
        error(Aqlm(), data=True),
        error(Aqlm(sweeps=0), data=True),
        error(Aqlm(), data=False),
    )
    assert fitted < rounded < blind


@pytest.mark.parametrize(
    ("rows", "columns", "reason"),
    [(128, 8, "below 32768 the books take more"), (100, 400, "its 100 input channels are no multiple of 8")],
)
def test_says_what_it_leaves(rows: int, columns: int, reason: str) -> None:
    _, report = quantize(network(weight=normal(rows, columns)), Aqlm())
    assert reason in report.nodes[0].detail


def test_foreseen_is_what_comes_and_changes_nothing() -> None:
    model = network()
    context = PassContext(model, model, frozenset({"MatMul_0"}), PORTABLE)
    assert Aqlm().foreseen(context) == quantize(model, Aqlm())[1]
    assert [node.op_type for node in model.graph] == ["MatMul"]


def test_again_changes_nothing() -> None:
    once, _ = quantize(network(), Aqlm(books=1))
    context = PassContext(once, once, frozenset(str(node.name) for node in once.graph), PORTABLE)
    assert not Aqlm().apply(context, NOTHING).nodes


def test_refuses_a_weight_that_is_not_finite() -> None:
    with pytest.raises(UnsupportedError, match="NaN or infinity"):
        quantize(network(weight=np.full((ROWS, COLUMNS), np.nan, np.float32)), Aqlm())


def test_options_are_checked() -> None:
    (item,) = parse_passes("aqlm:books=1:sweeps=9")
    assert item == Aqlm(books=1, sweeps=9)
    with pytest.raises(OptionError, match="books"):
        parse_passes("aqlm:books=3")


def test_on_ort_cpu_columns_become_a_grid_of_int8() -> None:
    result, _ = quantize(network(), Aqlm(), target=VNNI)
    weights = weight_of(result)
    (lowering,) = VNNI.legalize(result).lowered
    assert lowering.kernel == "DynamicQuantizeMatMul"
    codes, scale = (result.graph.initializers[f"w_{name}"] for name in ("columns", "column_scale_half"))
    assert codes.const_value is not None
    assert scale.const_value is not None
    stored = codes.const_value.numpy() * scale.const_value.numpy().astype(np.float32)
    # Half a step of an int8 grid over the largest value of each column, its scale rounded up to float16.
    assert np.all(np.abs(stored - weights) <= 0.501 * np.abs(weights).max(0) / 127 * 1.001)
