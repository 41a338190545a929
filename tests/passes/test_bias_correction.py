"""Bias correction: the mean output error goes, in every form a bias has, and only once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.calibration.collect import collect
from qcompiler.graph.qdq import FLOAT_WEIGHT
from qcompiler.passes.bias_correction import BiasCorrection
from qcompiler.passes.int8_dynamic import Int8Dynamic
from qcompiler.passes.int8_static import Int8Static
from qcompiler.pipeline.base import Pass, PassContext, PassReport
from tests.passes.graphs import Arrays, convolutions, graph, normal

Float32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def feeds(*shape: int) -> list[dict[str, Float32]]:
    """Activations with a mean, as behind a Relu: without one there is nothing to correct."""
    return [{"x": normal(*shape, seed=seed) + 2} for seed in range(4)]


def apply(
    item: Pass, model: ir.Model, reference: ir.Model, shape: tuple[int, ...], exclude: tuple[str, ...] = ()
) -> PassReport:
    selected = frozenset(str(node.name) for node in model.graph.all_nodes()) - set(exclude)
    context = PassContext(model, reference, selected, OrtCpu(isa=Isa.VNNI))
    return item.apply(context, collect(model, item.statistics(context), feeds(*shape)))


def run(model: ir.Model, *shape: int) -> Float32:
    session = open_model(model, session_options(threads=1, optimize=False))
    outputs = [next(iter(session.run(feed).values())) for feed in feeds(*shape)]
    return np.concatenate(outputs).astype(np.float32)


def coarse(weight: Float32) -> Float32:
    """A weight whose last row is large, so that one scale for all leaves the others a clear rounding error."""
    uneven: Float32 = weight.copy()
    uneven[(-1,) * weight.ndim] = 40.0
    return uneven


def layer(body: str, constants: Arrays, shape: str = "N, 6, 6, 8") -> ir.Model:
    return graph(
        f'<ir_version: 10, opset_import: ["" : 21]> net (float[{shape}] x) => (float[A, B, C, D] y) {{ {body} }}',
        constants,
    )


def conv_model(group: int, *, bias: bool) -> ir.Model:
    """A 3x3 convolution without padding, so that every kernel position sees the mean."""
    constants: Arrays = {"w": coarse(normal(8, 8 // group, 3, 3, seed=1))}
    if bias:
        constants["b"] = normal(8, seed=2)
    return layer(f"y = Conv <group = {group}> (x, w{', b' if bias else ''})", constants, "N, 8, 16, 16")


QUANTIZERS: dict[str, Pass] = {
    "static": Int8Static(per_channel=False),
    "dynamic": Int8Dynamic(per_channel=False),
}


def mean_error(reference: ir.Model, model: ir.Model, shape: tuple[int, ...], axis: int) -> Float32:
    """Mean output error per channel."""
    difference = np.moveaxis(run(model, *shape) - run(reference, *shape), axis, -1)
    return np.asarray(np.abs(difference.reshape(-1, difference.shape[-1]).mean(axis=0)))


@pytest.mark.parametrize("group", [1, 2, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_loses_its_mean_error(group: int, bias: bool) -> None:
    model, shape = conv_model(group, bias=bias), (4, 8, 16, 16)
    quantized = model.clone()
    apply(QUANTIZERS["static"], quantized, model, shape)
    before = mean_error(model, quantized, shape, 1)
    report = apply(BiasCorrection(), quantized, model, shape)
    assert report.count("transformed") == 1
    assert ("a new bias" in report.nodes[0].detail) is not bias
    after = mean_error(model, quantized, shape, 1)
    # What stays is the rounding of activations, and that pixels at the border are seen by fewer positions.
    assert after.max() < 0.35 * before.max()


@pytest.mark.parametrize("quantizer", ["static", "dynamic"])
def test_a_product_loses_its_mean_error_in_the_add_behind_it(quantizer: str) -> None:
    model = layer(
        "h = MatMul (x, w) y = Add (b, h)", {"w": coarse(normal(8, 5, seed=1)), "b": normal(5, seed=2)}
    )
    quantized, shape = model.clone(), (4, 6, 6, 8)
    apply(QUANTIZERS[quantizer], quantized, model, shape)
    before = mean_error(model, quantized, shape, -1)
    report = apply(BiasCorrection(), quantized, model, shape)
    assert "the constant of Add" in report.nodes[0].detail
    # What stays is the rounding of activations alone.
    assert mean_error(model, quantized, shape, -1).max() < 0.2 * before.max()


@pytest.mark.parametrize("quantizer", ["static", "dynamic"])
@pytest.mark.parametrize("body", ["y = Gemm (x, w, b)", "y = Gemm <transB = 1> (x, w, b)", "y = Gemm (x, w)"])
def test_a_gemm_loses_its_mean_error(quantizer: str, body: str) -> None:
    weight = coarse(normal(8, 5, seed=1))
    constants: Arrays = {"w": weight.T.copy() if "transB" in body else weight}
    if ", b)" in body:
        constants["b"] = normal(5, seed=2)
    text = f'<ir_version: 10, opset_import: ["" : 21]> net (float[N, 8] x) => (float[N, 5] y) {{ {body} }}'
    model, shape = graph(text, constants), (64, 8)
    quantized = model.clone()
    apply(QUANTIZERS[quantizer], quantized, model, shape)
    before = mean_error(model, quantized, shape, -1)
    report = apply(BiasCorrection(), quantized, model, shape)
    assert report.count("transformed") == 1
    # What stays is the rounding of activations and of the int32 bias.
    assert mean_error(model, quantized, shape, -1).max() < 0.2 * before.max()


def test_the_shift_is_the_one_of_the_formula() -> None:
    model = layer(
        "h = MatMul (x, w) y = Add (h, b)", {"w": coarse(normal(8, 5, seed=1)), "b": normal(5, seed=2)}
    )
    quantized, shape = model.clone(), (4, 6, 6, 8)
    apply(QUANTIZERS["dynamic"], quantized, model, shape)
    matmul = next(node for node in quantized.graph if node.op_type == "MatMul")
    activation, weight = matmul.inputs
    assert activation is not None
    assert weight is not None
    seen = np.concatenate([_observe(quantized, str(activation.name), feed) for feed in feeds(*shape)])
    codes, scale = (value.const_value.numpy() for value in weight.producer().inputs[:2])  # type: ignore[union-attr]
    error = codes * scale - weight.meta[FLOAT_WEIGHT].numpy()
    expected = normal(5, seed=2) - seen.reshape(-1, 8).mean(axis=0) @ error
    apply(BiasCorrection(), quantized, model, shape)
    corrected = quantized.graph.initializers["b"].const_value
    assert corrected is not None
    # Means are summed in float32 inside the calibration graph.
    np.testing.assert_allclose(corrected.numpy(), expected, rtol=1e-4, atol=1e-5)


def _observe(model: ir.Model, name: str, feed: dict[str, Float32]) -> Float32:
    observed = model.clone()
    values = {value.name: value for node in observed.graph for value in node.outputs}
    observed.graph.outputs[:] = [values[name]]
    session = open_model(observed, session_options(threads=1, optimize=False))
    return next(iter(session.run(feed).values())).astype(np.float32)


def test_a_network_is_corrected_everywhere_and_only_once() -> None:
    model, shape = convolutions(), (2, 8, 8, 8)
    quantized = model.clone()
    apply(Int8Static(), quantized, model, shape)
    nodes = [node.op_type for node in quantized.graph]
    report = apply(BiasCorrection(), quantized, model, shape)
    assert report.count("transformed") == 4
    # The only new node dequantizes the bias that the third Conv did not have.
    assert [node.op_type for node in quantized.graph].count("DequantizeLinear") == nodes.count(
        "DequantizeLinear"
    ) + 1
    again = apply(BiasCorrection(), quantized, model, shape)
    assert {decision.detail for decision in again.nodes} == {"corrected before"}


def test_what_cannot_be_corrected_says_why() -> None:
    model = layer("h = MatMul (x, w) y = Relu (h)", {"w": coarse(normal(8, 5, seed=1))})
    quantized, shape = model.clone(), (4, 6, 6, 8)
    assert "not quantized" in apply(BiasCorrection(), quantized, model, shape).nodes[0].detail
    apply(QUANTIZERS["dynamic"], quantized, model, shape)
    assert "without an Add" in apply(BiasCorrection(), quantized, model, shape).nodes[0].detail


def test_excluded_nodes_and_weights_of_unknown_origin_are_left() -> None:
    model, shape = conv_model(1, bias=True), (4, 8, 16, 16)
    quantized = model.clone()
    apply(QUANTIZERS["static"], quantized, model, shape)
    excluded = apply(BiasCorrection(), quantized, model, shape, exclude=("Conv_0",))
    assert excluded.nodes[0].detail == "excluded by the user"
    for node in quantized.graph:
        node.outputs[0].meta.pop(FLOAT_WEIGHT, None)
    unknown = apply(BiasCorrection(), quantized, model, shape)
    assert "float weight" in unknown.nodes[0].detail
