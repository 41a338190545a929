"""The lowered product equals its dialect form on the same input."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompiler.backends.onnxruntime.half_scales import LEAST_SCALES, in_half
from qcompiler.backends.onnxruntime.lower_dynamic import lower_dynamic_matmul
from qcompiler.graph.dynamic import DynamicActivations
from qcompiler.graph.qdq import TensorQuantization, add_initializer, dequantized_weight, quantize_activation
from qcompiler.graph.weighted import array_of

K, N = 32, 24


def _dialect(form: str, projections: int = 1, axis: int = 1) -> ir.Model:
    """``y_i = x @ W_i + b_i`` for x ``[2, 5, K]``, activation quantized as ``form`` says."""
    rng = np.random.default_rng(7)
    names = [f"y{index}" for index in range(projections)]
    outputs = ", ".join(f"float[2,5,{N}] {name}" for name in names)
    inputs = ", ".join([f"float[2,5,{K}] x", *(f"float[{K},{N}] w_{n}, float[{N}] b_{n}" for n in names)])
    body = " ".join(f"p_{n} = MatMul(x, w_{n}) {n} = Add(p_{n}, b_{n})" for n in names)
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["": 21]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )
    graph = model.graph
    for value in list(graph.inputs[1:]):
        graph.inputs.remove(value)
        value.const_value = ir.tensor(
            rng.standard_normal((K, N) if str(value.name).startswith("w_") else N, dtype=np.float32),
            name=value.name,
        )
        graph.register_initializer(value)
    activation = graph.inputs[0]
    products = [node for node in graph if node.op_type == "MatMul"]
    for product in products:
        product.name = f"node_{product.outputs[0].name}"
        weight = product.inputs[1]
        assert weight is not None
        codes = rng.integers(-127, 128, (K, N)).astype(np.int8)
        scale = rng.uniform(0.001, 0.01, N if axis == 1 else K).astype(np.float32)
        product.replace_input_with(1, dequantized_weight(weight, codes, scale, axis))
    if form == "static":
        quantize_activation(
            activation, TensorQuantization(np.float32(0.03), 120, ir.DataType.UINT8), products
        )
        return model
    activations = DynamicActivations(per_token=form == "per_token")
    for product in products:
        product.replace_input_with(0, activations.dequantized(activation))
    return model


def _run(model: ir.Model) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    x = np.random.default_rng(3).standard_normal((2, 5, K), dtype=np.float32)
    return [np.asarray(output) for output in session.run(None, {"x": x})]


@pytest.mark.parametrize("projections", [1, 3])
@pytest.mark.parametrize("form", ["per_tensor", "per_token", "static"])
def test_equals_the_dialect(form: str, projections: int) -> None:
    model = _dialect(form, projections)
    expected = _run(model)
    names = [str(value.name) for value in model.graph.outputs]
    lowered = lower_dynamic_matmul(model)
    assert lowered == [f"node_p_y{index}" for index in range(projections)]
    assert [value.name for value in model.graph.outputs] == names
    for before, after in zip(expected, _run(model), strict=True):
        # Sums of 32 products in float32 against exact integer sums: a few units in the last place of values near 10.
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_shares_one_quantization_and_absorbs_the_bias() -> None:
    model = _dialect("per_tensor", 3)
    lower_dynamic_matmul(model)
    ops = sorted(node.op_type for node in model.graph)
    assert ops == ["DynamicQuantizeLinear", *["MatMulIntegerToFloat"] * 3]


def test_a_single_reader_quantizes_for_itself() -> None:
    model = _dialect("per_tensor")
    lower_dynamic_matmul(model)
    assert [node.op_type for node in model.graph] == ["DynamicQuantizeMatMul"]


def test_is_idempotent() -> None:
    model = _dialect("per_tensor", 2)
    assert len(lower_dynamic_matmul(model)) == 2
    assert lower_dynamic_matmul(model) == []


def test_refuses_weights_quantized_along_their_rows() -> None:
    assert lower_dynamic_matmul(_dialect("per_tensor", axis=0)) == []


def test_leaves_a_statically_quantized_output_to_the_runtime() -> None:
    model = _dialect("static")
    output = model.graph.outputs[0]
    quantize_activation(output, TensorQuantization(np.float32(0.1), 128, ir.DataType.UINT8), None)
    assert lower_dynamic_matmul(model) == []


def test_keeps_a_bias_that_does_not_fit_in_its_add() -> None:
    model = _dialect("per_tensor")
    add = next(node for node in model.graph if node.op_type == "Add")
    add.replace_input_with(1, add_initializer(model.graph, "scalar", np.array(2, np.float32)))
    expected = _run(model)
    assert len(lower_dynamic_matmul(model)) == 1
    assert "Add" in [node.op_type for node in model.graph]
    # The same float operations in the same order, but for the integer sum: see above.
    np.testing.assert_allclose(_run(model)[0], expected[0], rtol=1e-5, atol=1e-5)


def test_scales_that_float16_holds_are_stored_in_half_the_bytes() -> None:
    rng = np.random.default_rng(5)
    exact = rng.uniform(0.001, 0.01, 2 * LEAST_SCALES).astype(np.float16).astype(np.float32)
    for scale, kept in (
        (exact, False),
        (exact * np.float32(1.0001), True),
        (exact[: LEAST_SCALES - 1], True),
    ):
        model = ir.from_onnx_text(
            '<ir_version: 10, opset_import: ["": 21]> g (float[1] x) => (float[1] y) { y = Identity (x) }'
        )
        value = add_initializer(model.graph, "scale", scale)
        stored = in_half(value)
        assert (stored is value) is kept
        producer = stored.producer()
        if producer is not None and producer.inputs[0] is not None:
            np.testing.assert_array_equal(array_of(producer.inputs[0]).astype(np.float32), scale)
            assert array_of(producer.inputs[0]).dtype == np.float16
