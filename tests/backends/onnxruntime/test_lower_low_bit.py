"""Products by weights of few bits give what the dialect says, to the rounding that each kernel is known for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.legalize import legalize
from qcompiler.backends.onnxruntime.lower_low_bit import BLOCK_ROUNDING_DB, COLUMN_ROUNDING_DB, SMALL_WEIGHTS
from tests.backends.onnxruntime.low_bit_graphs import Case, build, feed, options, run, sqnr_db

LARGE = Case(k=512, n=SMALL_WEIGHTS // 512)
"""Enough weights for an If."""

CASES = [
    Case(bits=bits, group=group, symmetric=symmetric, k=k)
    for bits in (2, 4, 8)
    for group in (16, 32, 128, None)
    for symmetric in (True, False)
    for k in (128, 200)
]


def _ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph.all_nodes()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact_computes_what_the_dialect_says(case: Case) -> None:
    model = build(case)
    expected = run(model, feed(case, 3), optimize=False)
    report = legalize(model, fuse=True, low_bit=options(exact=True))
    assert [item.kernel for item in report.lowered] == ["MatMulNBits"]
    assert report.lowered[0].rounding_db is None
    found = run(model, feed(case, 3))
    # float32 sums of 200 products in another order
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocks_lose_the_rounding_of_activations_only(case: Case, rows: int) -> None:
    model = build(case)
    expected = run(model, feed(case, rows), optimize=False)
    (item,) = legalize(model, fuse=True, low_bit=options(size_first=True)).lowered
    assert item.rounding_db == BLOCK_ROUNDING_DB
    # int8 activations per block: 0.4 to 0.7 %; 1.5 % of 24 outputs of one row that cancel
    assert sqnr_db(expected, run(model, feed(case, rows))) > 35


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 8, 40])
def test_both_branches_compute_the_product(op: str, transposed: bool, bias: bool, rows: int) -> None:
    case = replace(LARGE, op=op, transposed=transposed, bias=bias)
    model = build(case)
    expected = run(model, feed(case, rows), optimize=False)
    (item,) = legalize(model, fuse=True, low_bit=options()).lowered
    assert item.kernel == "If(MatMulNBits, DynamicQuantizeMatMul)"
    assert "below 8 rows" in item.reason
    assert "DequantizeLinear" not in _ops(model)
    # the coarser branch rounds rows to 8 bits and columns of the weight again
    assert sqnr_db(expected, run(model, feed(case, rows))) > 33 > COLUMN_ROUNDING_DB


@pytest.mark.parametrize(("rows", "kernel"), [("4", "MatMulNBits"), ("32", "DynamicQuantizeMatMul")])
def test_known_rows_need_one_form(rows: str, kernel: str) -> None:
    model = build(replace(LARGE, rows=rows))
    (item,) = legalize(model, fuse=True, low_bit=options()).lowered
    assert item.kernel == kernel
    assert "If" not in _ops(model)


def test_what_the_copy_costs_is_said() -> None:
    report = legalize(build(LARGE), fuse=True, low_bit=options())
    assert report.lowered[0].copy_bytes == LARGE.k * LARGE.n + 2 * LARGE.n
    assert report.copies.startswith("int8 copies for prefill: 1, 0.1 MB")
    assert legalize(build(LARGE), fuse=True, low_bit=options(size_first=True)).copies == ""


def test_size_first_keeps_one_form() -> None:
    model = build(LARGE)
    (item,) = legalize(model, fuse=True, low_bit=options(size_first=True)).lowered
    assert item.kernel == "MatMulNBits"
    assert "4.50 bits a weight" in item.reason


@pytest.mark.parametrize("kind", ["table", "min"])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("exact", [True, False])
def test_tables_and_minima(kind: str, transposed: bool, exact: bool) -> None:
    case = Case(k=128, kind=kind, symmetric=False, transposed=transposed)
    model = build(case)
    expected = run(model, feed(case, 3), optimize=False)
    (item,) = legalize(model, fuse=True, low_bit=options(exact=exact)).lowered
    assert item.kernel
    # minima are exact with float activations; a table is rounded to 255 levels, columns to 255 again
    limit = 100 if exact and kind == "min" else 33
    assert sqnr_db(expected, run(model, feed(case, 3))) > limit


def test_groups_that_16_does_not_divide_run_as_columns() -> None:
    case = Case(k=120, group=20)
    model = build(case)
    assert [item.kernel for item in legalize(model, fuse=True, low_bit=options()).lowered] == [
        "DynamicQuantizeMatMul"
    ]


def test_groups_of_three_blocks_stay_exact() -> None:
    case = Case(k=192, group=96)
    model = build(case)
    expected = run(model, feed(case, 3), optimize=False)
    (item,) = legalize(model, fuse=True, low_bit=options(exact=True)).lowered
    assert "block 32" in item.reason
    # float32 sums in another order
    np.testing.assert_allclose(run(model, feed(case, 3)), expected, rtol=1e-4, atol=1e-4)


def test_two_bits_in_a_wider_container_take_two() -> None:
    model = build(Case(bits=2, group=64, k=128))
    (item,) = legalize(model, fuse=True, low_bit=options()).lowered
    assert item.reason.startswith("2.25 bits")


def test_products_in_a_chain_read_each_others_results() -> None:
    case = Case(k=64, n=64)
    model = build(case)
    first = model.graph[-1]
    second = ir.node("MatMul", [first.outputs[0], first.inputs[1]], name="second")
    output = second.outputs[0]
    output.name, output.type, output.shape = "z", first.outputs[0].type, first.outputs[0].shape
    model.graph.append(second)
    model.graph.outputs[0] = output
    report = legalize(model, fuse=True, low_bit=options())
    assert [item.node for item in report.lowered] == ["product", "second"]
    assert sum("blocks" in name and "scale" not in name for name in model.graph.initializers) == 1


@pytest.mark.parametrize("outlier", [1.0, 100.0])
def test_a_large_row_does_not_harm_the_others(outlier: float) -> None:
    case = LARGE
    feeds = feed(case, 16)
    feeds["x"][0, 0] *= outlier
    model = build(case)
    expected = run(model, feeds, optimize=False)
    legalize(model, fuse=True, low_bit=options())
    # every row has its own scale
    assert sqnr_db(expected[0, 1:], run(model, feeds)[0, 1:]) > 33


def test_refuses_vectors_and_scaled_gemms() -> None:
    model = build(Case(op="Gemm"))
    model.graph[-1].attributes["alpha"] = ir.AttrFloat32("alpha", 2.0)
    (item, *_) = legalize(model, fuse=True, low_bit=options()).lowered
    assert item.kernel == ""
    assert "alpha" in item.reason
