"""Static int8: where QDQ stands, that it computes what it says, and why nodes were left."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.calibration.collect import collect
from qcompiler.passes.int8_static import Int8Static
from qcompiler.pipeline.base import PassContext, PassReport
from tests.passes.graphs import convolutions, graph, normal, perceptron

TARGET = OrtCpu(isa=Isa.VNNI)


def feeds(*shape: int) -> list[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
    return [{"x": normal(*shape, seed=seed)} for seed in range(4)]


def quantize(
    model: ir.Model,
    shape: tuple[int, ...],
    item: Int8Static | None = None,
    *,
    exclude: tuple[str, ...] = (),
    target: OrtCpu = TARGET,
) -> tuple[ir.Model, PassReport]:
    item = item or Int8Static()
    selected = frozenset(str(node.name) for node in model.graph.all_nodes()) - set(exclude)
    result = model.clone()
    context = PassContext(result, model, selected, target)
    statistics = collect(result, item.statistics(context), feeds(*shape))
    return result, item.apply(context, statistics)


def run(
    model: ir.Model, feed: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]
) -> list[np.ndarray]:
    return list(open_model(model, session_options(threads=1, optimize=False)).run(feed).values())


def decisions(report: PassReport) -> dict[str, str]:
    return {decision.node: decision.action for decision in report.nodes}


def test_a_residual_network_is_integer_from_end_to_end() -> None:
    _, report = quantize(convolutions(), (2, 8, 8, 8))
    acted = {decision.node: decision.action for decision in report.nodes}
    assert set(acted.values()) == {"quantized"}
    assert {name.split("_")[0] for name in acted} == {"Conv", "Add", "GlobalAveragePool", "Flatten", "Gemm"}


def test_relu_gets_no_scale_of_its_own() -> None:
    model, _ = quantize(convolutions(), (2, 8, 8, 8))
    relus = [node for node in model.graph if node.op_type == "Relu"]
    for relu in relus:
        source = relu.inputs[0]
        assert source is not None
        producer = source.producer()
        assert producer is not None
        assert producer.op_type in ("Conv", "Add")
        assert [use.node.op_type for use in relu.outputs[0].uses()] == ["QuantizeLinear"]


def test_the_output_stays_close_to_float() -> None:
    model = convolutions()
    quantized, _ = quantize(model, (2, 8, 8, 8))
    feed = feeds(2, 8, 8, 8)[0]
    exact, rounded = run(model, feed)[0], run(quantized, feed)[0]
    # Seven roundings to 8 bits in a row, each about 1/256 of its range: 5 % is far outside chance.
    assert np.linalg.norm(exact - rounded) < 0.05 * np.linalg.norm(exact)


def test_a_linear_layer_needs_no_quantized_output() -> None:
    model, report = quantize(perceptron(), (2, 5, 16))
    products = {str(node.name): node for node in model.graph if node.op_type == "MatMul"}
    for name in ("MatMul_0", "MatMul_3"):
        assert decisions(report)[name] == "quantized"
        assert all(use.node.op_type == "Add" for use in products[name].outputs[0].uses())
    reasons = {decision.node: decision.detail for decision in report.nodes if decision.action == "skipped"}
    assert "both operands are activations" in reasons["MatMul_6"]


def test_scales_and_zero_points_of_activations_are_0d_uint8() -> None:
    model, _ = quantize(convolutions(), (2, 8, 8, 8))
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            for value in node.inputs[1:]:
                assert value is not None
                assert value.const_value is not None
                assert value.const_value.numpy().ndim == 0
            assert node.inputs[2] is not None
            assert node.inputs[2].dtype == ir.DataType.UINT8


def test_bias_is_int32_at_the_accumulators_scale() -> None:
    model, _ = quantize(convolutions(), (2, 8, 8, 8))
    conv = next(node for node in model.graph if node.op_type == "Conv")
    activation, weight, bias = (value.producer() for value in conv.inputs if value is not None)
    assert activation is not None
    assert weight is not None
    assert bias is not None

    def constant(node: ir.Node, index: int) -> np.ndarray:
        value = node.inputs[index]
        assert value is not None
        assert value.const_value is not None
        return value.const_value.numpy()

    assert constant(bias, 0).dtype == np.int32
    np.testing.assert_array_equal(constant(bias, 1), constant(activation, 1) * constant(weight, 1))


def test_excluded_nodes_keep_their_float_weight() -> None:
    model, report = quantize(convolutions(), (2, 8, 8, 8), exclude=("Conv_2",))
    excluded = next(node for node in model.graph if node.name == "Conv_2")
    assert excluded.inputs[1] is not None
    assert excluded.inputs[1].name == "w2"
    assert decisions(report)["Conv_2"] == "skipped"
    assert "excluded" in next(item.detail for item in report.nodes if item.node == "Conv_2")


def test_tied_weights_stay_tied() -> None:
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 8] x) => (float[N, 8] y)
        { a = MatMul (x, w)  b = Relu (a)  y = MatMul (b, w) }
        """,
        {"w": normal(8, 8)},
    )
    quantized, _ = quantize(model, (4, 8))
    weights = {node.inputs[1] for node in quantized.graph if node.op_type == "MatMul"}
    assert len(weights) == 1
    codes = [value for value in quantized.graph.initializers.values() if value.dtype == ir.DataType.INT8]
    assert len(codes) == 1


def test_a_shared_weight_leaves_room_for_the_largest_of_its_biases() -> None:
    """The second bias would need 2^35 at the scale that the first allows: it must not be clipped."""
    small, large = np.zeros(4, np.float32), np.full(4, 500.0, np.float32)
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 4] x) => (float[N, 4] y, float[N, 4] z)
        { y = Gemm (x, w, b1)  z = Gemm (x, w, b2) }
        """,
        {"w": normal(4, 4, scale=1e-7), "b1": small, "b2": large},
    )
    quantized, _ = quantize(model, (3, 4))
    _, exact = run(model, feeds(3, 4)[0])
    _, rounded = run(quantized, feeds(3, 4)[0])
    # The bias has at least 30 bits; the products are nothing beside it.
    np.testing.assert_allclose(rounded, exact, rtol=1e-6)


def test_arm64_gets_signed_activations_and_avx2_seven_bit_weights() -> None:
    signed, _ = quantize(perceptron(), (2, 5, 16), target=OrtCpu(isa=Isa.ARM64))
    kinds = {
        node.inputs[2].dtype for node in signed.graph if node.op_type == "QuantizeLinear" and node.inputs[2]
    }
    assert kinds == {ir.DataType.INT8}
    narrow, _ = quantize(perceptron(), (2, 5, 16), target=OrtCpu(isa=Isa.AVX2))
    codes = [
        value.const_value.numpy()
        for value in narrow.graph.initializers.values()
        if value.dtype == ir.DataType.INT8 and value.const_value is not None
    ]
    assert codes
    assert all(np.abs(array.astype(np.int16)).max() == 63 for array in codes)


def test_what_is_inside_a_subgraph_is_left_with_its_reason() -> None:
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (bool c, float[2, 4] x) => (float[2, 4] y)
        {
            y = If (c) <
                then_branch = yes () => (float[2, 4] a) { a = MatMul (x, w) },
                else_branch = no () => (float[2, 4] b) { b = Identity (x) }
            >
        }
        """,
        {"w": normal(4, 4)},
    )
    selected = frozenset(str(node.name) for node in model.graph.all_nodes())
    context = PassContext(model.clone(), model, selected, TARGET)
    assert Int8Static().statistics(context) == []
    report = Int8Static().apply(context, collect(model, [], []))
    assert "inside a subgraph" in next(item.detail for item in report.nodes if item.op_type == "MatMul")


@pytest.mark.parametrize("calibrator", ["minmax", "moving_average", "percentile", "entropy", "mse"])
def test_every_calibrator_gives_a_working_model(calibrator: str) -> None:
    from qcompiler.calibration.requests import Calibrator

    model = perceptron()
    quantized, _ = quantize(model, (2, 5, 16), Int8Static(calibrator=Calibrator(calibrator)))
    feed = feeds(2, 5, 16)[0]
    exact, rounded = run(model, feed)[0], run(quantized, feed)[0]
    # Entropy clips hardest; even it must keep the direction of the output.
    cosine = float(np.vdot(exact, rounded) / np.linalg.norm(exact) / np.linalg.norm(rounded))
    assert cosine > 0.98
