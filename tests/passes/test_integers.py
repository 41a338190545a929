"""Integer weights: what is stored, what it stands for, what is refused."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.backends.onnx.portable import Onnx
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.graph.low_bit import FORMAT
from qcompiler.graph.quantized import quantized_product
from qcompiler.graph.weighted import weighted_nodes
from qcompiler.passes.integers import Int4
from qcompiler.pipeline.base import PassContext
from tests.passes.graphs import Arrays, graph, normal
from tests.passes.low_bit import made, product, quantize, rounded, run

ALL = (
    "int8",
    "int4",
    "int4:symmetric=true",
    "int4:group=0",
    "int3",
    "int3:symmetric=true:group=16",
    "int2",
    "int8:symmetric=false",
)


@pytest.mark.parametrize("words", ALL)
def test_the_graph_computes_what_the_codes_stand_for(words: str) -> None:
    item = made(words)
    quantized, report = quantize(product(), item)
    assert report.count("quantized") == 1
    identity = np.eye(72, dtype=np.float32)
    # A row of the identity picks a row of the weight: exact, as scale * code - scale * zero point has few bits.
    np.testing.assert_allclose(run(quantized, x=identity), rounded(normal(72, 8), item), rtol=1e-6, atol=1e-7)


def test_every_layout_reads_the_same_codes() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> net (float[N, 72] x) => (float[N, 8] y)'
    transposed: Arrays = {"w": np.ascontiguousarray(normal(72, 8).T)}
    models = (
        product(),
        graph(text + "{ t = Transpose <perm = [1, 0]> (w)  y = MatMul (x, t) }", transposed),
        graph(text + "{ y = Gemm <transB = 1> (x, w) }", transposed),
        graph(text + "{ y = Gemm (x, w) }", {"w": normal(72, 8)}),
    )
    identity = np.eye(72, dtype=np.float32)
    first, *others = (run(quantize(model, Int4())[0], x=identity) for model in models)
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_convolution_is_stored_as_a_matrix() -> None:
    model = graph(
        """<ir_version: 10, opset_import: ["" : 21]>
        net (float[1, 8, 6, 6] x) => (float[1, 4, 4, 4] y) { y = Conv (x, w) }""",
        {"w": normal(4, 8, 3, 3)},
    )
    quantized, _ = quantize(model, Int4())
    matrix = rounded(np.ascontiguousarray(normal(4, 8, 3, 3).reshape(4, 72).T), Int4())
    expected = model.clone()
    expected.graph.initializers["w"].const_value = ir.tensor(matrix.T.reshape(4, 8, 3, 3), name="w")
    x = normal(1, 8, 6, 6, seed=3)
    np.testing.assert_array_equal(run(quantized, x=x), run(expected, x=x))


def tied() -> ir.Model:
    return graph(
        """<ir_version: 10, opset_import: ["" : 21]>
        net (int64[N] ids) => (float[N, 50] logits)
        { e = Gather (table, ids)  t = Transpose <perm = [1, 0]> (table)  logits = MatMul (e, t) }""",
        {"table": normal(50, 40)},
    )


def test_a_tied_table_is_quantized_once() -> None:
    quantized, report = quantize(tied(), Int4())
    assert report.count("quantized") == 2
    assert [node.op_type for node in quantized.graph].count("DequantizeLinear") == 1
    table = rounded(np.ascontiguousarray(normal(50, 40).T), Int4()).T
    # float32 sums of 40 products, in the order of the runtime.
    np.testing.assert_allclose(run(quantized, ids=np.arange(50)), table @ table.T, rtol=1e-5, atol=1e-5)
    assert "which shares it" in next(item.detail for item in report.nodes if item.op_type == "Gather")


@pytest.mark.parametrize("option", ["embeddings", "lm_head"])
def test_one_of_two_tied_nodes_can_stay_in_float(option: str) -> None:
    _, report = quantize(tied(), made(f"int4:{option}=false"))
    assert {item.action: item.detail for item in report.nodes}["skipped"] == f"{option}=false"


def test_running_it_again_finds_nothing() -> None:
    once, _ = quantize(product(), Int4())
    twice, report = quantize(once, Int4())
    assert report.nodes == ()
    assert [node.op_type for node in twice.graph] == [node.op_type for node in once.graph]


def test_excluded_nodes_are_untouched() -> None:
    quantized, report = quantize(product(), Int4(), exclude=("MatMul_0",))
    assert len(list(weighted_nodes(quantized))) == 1
    assert [item.detail for item in report.nodes] == ["excluded by the user"]


def test_what_was_stored_is_described() -> None:
    quantized, report = quantize(product(64), made("int3:symmetric=true"))
    node = next(node for node in quantized.graph if node.op_type == "DequantizeLinear")
    assert node.metadata_props[FORMAT] == "int3"
    assert report.nodes[0].detail == "int3 g32 symmetric, rtn: 3.50 bits, codes in 4-bit containers"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("int4:damping=0.1", "is for solver gptq or gptaq"),
        ("int4:importance=true", "is for solver mse, hqq or k_quant"),
        ("int4:group=8", "16 to 256"),
        ("int4:group=512", "between 0 and 256"),
        ("int5", "there is no pass"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(words: str, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        qcompiler.compile("/nowhere/model.onnx", words, target="onnx")


def test_weights_that_are_not_finite_name_their_node() -> None:
    model = product()
    weight = normal(72, 8)
    weight[3, 3] = np.nan
    model.graph.initializers["w"].const_value = ir.tensor(weight, name="w")
    with pytest.raises(UnsupportedError, match="MatMul_0"):
        quantize(model, Int4())


def test_what_it_would_do_is_foreseen() -> None:
    for model, item in ((tied(), Int4()), (tied(), made("int4:lm_head=false")), (product(), Int4())):
        selected = frozenset(str(node.name) for node in model.graph)
        foreseen = item.foreseen(PassContext(model, model, selected, Onnx()))
        assert foreseen == quantize(model, item)[1]


def test_biases_can_be_corrected_for_codes_in_groups() -> None:
    quantized, _ = quantize(product(), Int4())
    view = quantized_product(next(node for node in quantized.graph if node.op_type == "MatMul"))
    assert view is not None
    error = view.error()
    assert error is not None
    # The same numbers, computed by NumPy twice.
    np.testing.assert_array_equal(error, (rounded(normal(72, 8), Int4()) - normal(72, 8)).T)
