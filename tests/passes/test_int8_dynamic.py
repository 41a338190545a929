"""Dynamic int8: what is quantized at run time, what is only stored, and what it computes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.calibration.statistics import Statistics
from qcompiler.passes.int8_dynamic import Granularity, Int8Dynamic
from qcompiler.pipeline.base import PassContext, PassReport
from tests.passes.graphs import graph, normal, perceptron

TARGET = OrtCpu(isa=Isa.VNNI)
Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def quantize(
    model: ir.Model, item: Int8Dynamic, *, exclude: tuple[str, ...] = ()
) -> tuple[ir.Model, PassReport]:
    result = model.clone()
    selected = frozenset(str(node.name) for node in model.graph.all_nodes()) - set(exclude)
    return result, item.apply(PassContext(result, model, selected, TARGET), Statistics())


def run(model: ir.Model, **feed: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Array:
    outputs = open_model(model, session_options(threads=1, optimize=False)).run(feed)
    return next(iter(outputs.values())).astype(np.float32)


def dynamic_reference(x: Array, w: Array) -> Array:
    """DynamicQuantizeLinear as its specification has it, and int8 weights, in the plainest NumPy."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    x_hat = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
    w_scale = np.abs(w).max(axis=0) / 127
    half = w_scale.astype(np.float16)  # scales are the next ones that float16 holds
    w_scale = np.where(half < w_scale, np.nextafter(half, np.float16(np.inf)), half).astype(np.float32)
    return np.asarray(x_hat @ (np.clip(np.rint(w / w_scale), -127, 127) * w_scale), np.float32)


def product() -> ir.Model:
    return graph(
        '<ir_version: 10, opset_import: ["" : 21]> net (float[N, T, 16] x) => (float[N, T, 8] y) { y = MatMul (x, w) }',
        {"w": normal(16, 8)},
    )


def test_per_tensor_computes_what_the_operators_specify() -> None:
    quantized, _ = quantize(product(), Int8Dynamic())
    x = normal(2, 3, 16, seed=9)
    # float32 sums in another order.
    np.testing.assert_allclose(run(quantized, x=x), dynamic_reference(x, normal(16, 8)), rtol=1e-4, atol=1e-5)


def test_per_token_is_exact_for_small_rows_beside_a_large_one() -> None:
    model, x = product(), normal(1, 2, 16, seed=9)
    x[0, 1] *= 1000
    exact = run(model, x=x)[0, 0]
    by_tensor = run(quantize(model, Int8Dynamic())[0], x=x)[0, 0]
    by_token = run(quantize(model, Int8Dynamic(granularity=Granularity.TOKEN))[0], x=x)[0, 0]
    assert np.linalg.norm(by_tensor - exact) > 0.5 * np.linalg.norm(exact)
    # One rounding of weights and one of activations to 8 bits: 16 terms stay well within 2 %.
    assert np.linalg.norm(by_token - exact) < 0.02 * np.linalg.norm(exact)


def test_a_row_of_zeros_stays_zero_per_token() -> None:
    x = normal(1, 2, 16, seed=9)
    x[0, 0] = 0
    quantized, _ = quantize(product(), Int8Dynamic(granularity=Granularity.TOKEN))
    np.testing.assert_array_equal(run(quantized, x=x)[0, 0], 0)


def test_a_shared_activation_is_quantized_once() -> None:
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 16] x) => (float[N, 8] y)
        { a = MatMul (x, w1)  b = MatMul (x, w2)  y = Add (a, b) }
        """,
        {"w1": normal(16, 8, seed=1), "w2": normal(16, 8, seed=2)},
    )
    quantized, _ = quantize(model, Int8Dynamic())
    assert [node.op_type for node in quantized.graph].count("DynamicQuantizeLinear") == 1


@pytest.mark.parametrize("granularity", list(Granularity))
def test_passes_side_by_side_share_a_quantized_activation(granularity: Granularity) -> None:
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 16] x) => (float[N, 8] y)
        { a = MatMul (x, w1)  b = MatMul (x, w2)  y = Add (a, b) }
        """,
        {"w1": normal(16, 8, seed=1), "w2": normal(16, 8, seed=2)},
    )
    first, second = (str(node.name) for node in list(model.graph)[:2])
    one, _ = quantize(model, Int8Dynamic(granularity=granularity), exclude=(second,))
    both, _ = quantize(one, Int8Dynamic(granularity=granularity, per_channel=False), exclude=(first,))
    whole, _ = quantize(model, Int8Dynamic(granularity=granularity))
    assert [node.op_type for node in both.graph] == [node.op_type for node in whole.graph]


def test_embeddings_and_recurrent_weights_are_stored_in_int8() -> None:
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (int64[T, N] ids) => (float[T, 1, N, 6] y)
        { e = Gather (table, ids)  y = LSTM <hidden_size = 6> (e, w, r, b) }
        """,
        {"table": normal(50, 4), "w": normal(1, 24, 4), "r": normal(1, 24, 6), "b": normal(1, 48)},
    )
    quantized, report = quantize(model, Int8Dynamic())
    assert [decision.action for decision in report.nodes] == ["quantized", "quantized"]
    stored = [
        value.name for value in quantized.graph.initializers.values() if value.dtype == ir.DataType.INT8
    ]
    assert sorted(str(name) for name in stored) == ["r_quantized", "table_quantized", "w_quantized"]
    ids = np.arange(10).reshape(5, 2)
    exact, rounded = run(model, ids=ids), run(quantized, ids=ids)
    # Weights alone, one scale a row: under 1 % of the gates' input.
    assert np.abs(exact - rounded).max() < 0.02


def test_what_is_left_says_why() -> None:
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (int64[T] ids, float[1, 3, 8, 8] x) => (float[T, 4] e, float[1, 4, 8, 8] y)
        { e = Gather (table, ids)  y = Conv <pads = [1, 1, 1, 1]> (x, w) }
        """,
        {"table": normal(50, 4), "w": normal(4, 3, 3, 3)},
    )
    _, report = quantize(model, Int8Dynamic(embeddings=False))
    reasons = {decision.op_type: decision.detail for decision in report.nodes}
    assert reasons["Gather"] == "embeddings=false"
    assert "slower" in reasons["Conv"]


@pytest.mark.parametrize("exclude", [(), ("MatMul_0",)])
def test_excluded_nodes_are_untouched(exclude: tuple[str, ...]) -> None:
    quantized, report = quantize(perceptron(), Int8Dynamic(), exclude=exclude)
    first = next(node for node in quantized.graph if node.name == "MatMul_0")
    assert first.inputs[1] is not None
    assert (first.inputs[1].name == "w1") == bool(exclude)
    assert len(report.nodes) == 2
