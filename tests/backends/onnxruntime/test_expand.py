"""Weights of few bits that no kernel reads are expanded when the session is made, to what the dialect says."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.legalize import legalize
from tests.backends.onnxruntime.low_bit_graphs import Case, build, feed, options, run
from tests.passes.graphs import graph, normal
from tests.passes.low_bit import made, quantize
from tests.passes.low_bit import run as run_as_written


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [16, 48, None])
@pytest.mark.parametrize("symmetric", [True, False])
def test_blocks_are_expanded_exactly(bits: int, group: int | None, symmetric: bool) -> None:
    case = Case(k=100, bits=bits, group=group, symmetric=symmetric)
    model = build(case)
    product = model.graph[-1]
    negative = ir.node("Neg", [product.inputs[1]], name="negative")  # an op without such a kernel
    negative.outputs[0].name, negative.outputs[0].type = "negated", ir.TensorType(ir.DataType.FLOAT)
    model.graph.insert_before(product, negative)
    product.replace_input_with(1, negative.outputs[0])
    expected = run(model, feed(case, 3), optimize=False)
    (item,) = legalize(model, fuse=True, low_bit=options()).lowered
    assert item.kernel == ""
    assert "expanded" in item.reason
    assert "DequantizeLinear" not in [node.op_type for node in model.graph]
    # float32 sums in another order
    np.testing.assert_allclose(run(model, feed(case, 3)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [9, 200, 300])
@pytest.mark.parametrize(
    "words", ["q3_k", "q6_k", "q2_k", "nf4:double_quantized=true", "nvfp4", "fp8", "int8"]
)
def test_convolutions_whose_scales_are_made_of_codes_are_expanded_exactly(words: str, width: int) -> None:
    """One group a row (scales of one axis), one super-block, and several with a short last one."""
    model = graph(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        net (float[N, {width}, 5] x) => (float[N, 4, 5] y) {{ y = Conv (x, w) }}""",
        {"w": normal(4, width, 1)},
    )
    quantized, report = quantize(model, made(words))
    assert report.count("quantized") == 1
    x = normal(2, width, 5, seed=1)
    expected = run_as_written(quantized, x=x)
    legalize(quantized, fuse=True, low_bit=options())
    # float32 sums in another order
    np.testing.assert_allclose(run(quantized, {"x": x}), expected, rtol=1e-4, atol=1e-4)
