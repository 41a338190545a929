"""Equivalent forms brought into one: same results, same stored weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.expand import expand_at_load, weight_dequantizers
from qcompiler.backends.onnxruntime.guard import guard_float_nodes
from qcompiler.backends.onnxruntime.normalize import (
    sink_transposes,
    spell_out_gemm_zero_points,
    split_dynamic_gemms,
)
from qcompiler.backends.onnxruntime.session import open_model, session_options
from tests.passes.graphs import graph, normal

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def codes(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)


def scales(count: int) -> Array:
    return np.random.default_rng(1).uniform(0.01, 0.1, count).astype(np.float32)


def run(model: ir.Model, **feed: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> dict[str, Array]:
    found = open_model(model, session_options(threads=1, optimize=False)).run(feed)
    return {name: value.astype(np.float32) for name, value in found.items()}


def assert_same(before: dict[str, Array], after: dict[str, Array]) -> None:
    assert list(before) == list(after)
    for name, value in before.items():
        # The same products in float32, summed in another order.
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-5)


def tied() -> ir.Model:
    return graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (int64[T] ids, float[T, 4] x) => (float[T, 4] e, float[T, 9] y)
        {
            table = DequantizeLinear <axis = 0> (q, s)
            e = Gather (table, ids)
            turned = Transpose <perm = [1, 0]> (table)
            y = MatMul (x, turned)
        }
        """,
        {"q": codes(9, 4), "s": scales(9)},
    )


def test_a_transposed_weight_is_dequantized_after_the_transpose() -> None:
    model = tied()
    ids, x = np.arange(3), normal(3, 4)
    before = run(model, ids=ids, x=x)
    assert sink_transposes(model) == 1
    product = next(node for node in model.graph if node.op_type == "MatMul")
    assert product.inputs[1] is not None
    maker = product.inputs[1].producer()
    assert maker is not None
    assert maker.op_type == "DequantizeLinear"
    assert maker.attributes["axis"].as_int() == 1
    # Tied: still one array of codes.
    assert sum(value.dtype == ir.DataType.INT8 for value in model.graph.initializers.values()) == 1
    assert_same(before, run(model, ids=ids, x=x))


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_dynamic_gemm_becomes_a_product_and_a_sum(transposed: int) -> None:
    model = graph(
        f"""
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[T, 6] x) => (float[T, 4] y)
        {{
            a, b, c = DynamicQuantizeLinear (x)
            d = DequantizeLinear (a, b, c)
            w = DequantizeLinear <axis = {1 - transposed}> (q, s)
            y = Gemm <transB = {transposed}> (d, w, bias)
        }}
        """,
        {"q": codes(4, 6) if transposed else codes(6, 4), "s": scales(4), "bias": normal(4)},
    )
    before = run(model, x=normal(3, 6))
    assert split_dynamic_gemms(model) == 1
    assert sink_transposes(model) == transposed
    assert [node.op_type for node in model.graph if node.op_type in ("Gemm", "MatMul", "Add")] == [
        "MatMul",
        "Add",
    ]
    assert next(str(node.name) for node in model.graph if node.op_type == "MatMul").startswith("Gemm")
    assert_same(before, run(model, x=normal(3, 6)))


def test_gemm_weights_get_their_zero_point_once() -> None:
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[T, 6] x) => (float[T, 4] y)
        { w = DequantizeLinear <axis = 1> (q, s)  y = Gemm (x, w) }
        """,
        {"q": codes(6, 4), "s": scales(4)},
    )
    before = run(model, x=normal(3, 6))
    assert spell_out_gemm_zero_points(model) == 1
    assert spell_out_gemm_zero_points(model) == 0
    assert_same(before, run(model, x=normal(3, 6)))


@pytest.mark.parametrize("zero_point", [None, 0, 3])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_an_expanded_weight_is_the_dequantized_one(axis: int | None, zero_point: int | None) -> None:
    count = {None: 1, 0: 6, 1: 4}[axis]
    constants: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
        "q": codes(6, 4),
        "s": scales(count).reshape(() if axis is None else (count,)),
    }
    operands = "q, s"
    if zero_point is not None:
        constants["z"] = np.full(constants["s"].shape, zero_point, np.int8)
        operands = "q, s, z"
    attribute = "" if axis is None else f"<axis = {axis}>"
    model = graph(
        f"""
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[T, 6] x) => (float[T, 4] y)
        {{ w = DequantizeLinear {attribute} ({operands})  y = MatMul (x, w) }}
        """,
        constants,
    )
    before = run(model, x=normal(3, 6))
    expand_at_load(model.graph, weight_dequantizers(model.graph))
    assert "DequantizeLinear" not in [node.op_type for node in model.graph]
    assert_same(before, run(model, x=normal(3, 6)))


def test_a_float_conv_between_quantized_neighbours_stays_float() -> None:
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y)
        {
            a = QuantizeLinear (x, s1, z)
            b = DequantizeLinear (a, s1, z)
            c = Conv <pads = [1, 1, 1, 1]> (b, w)
            r = Relu (c)
            d = QuantizeLinear (r, s2, z)
            y = DequantizeLinear (d, s2, z)
        }
        """,
        {
            "w": normal(4, 3, 3, 3),
            "s1": np.array(0.02, np.float32),
            "s2": np.array(0.05, np.float32),
            "z": np.array(0, np.uint8),
        },
    )
    exact = run(model, x=normal(1, 3, 8, 8))
    assert guard_float_nodes(model) == ["Conv_2"]
    deployed = open_model(model, session_options(threads=1)).run({"x": normal(1, 3, 8, 8)})
    # Float Conv on both sides: only the last rounding can differ, by one code of 0.05, and rarely.
    differing = np.abs(deployed["y"].astype(np.float32) - exact["y"]) > 1e-6
    assert differing.mean() < 0.01
