"""ONNX Runtime's own handling of the portable form computes negative scales right."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.onnxruntime.low_bit_graphs import Case, build, feed, run


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Gather"])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("group", [32, None])
@pytest.mark.parametrize("rows", [1, 64])
def test_dequantize_linear_and_its_fusions(op: str, transposed: bool, group: int | None, rows: int) -> None:
    case = Case(k=128, op=op, transposed=transposed, group=group)
    model = build(case)
    node = next(node for node in model.graph if node.op_type == "DequantizeLinear")
    codes, scale = (np.asarray(value.const_value) for value in node.inputs if value is not None)
    assert (scale < 0).any()
    assert (scale > 0).any()
    along_k = transposed or op == "Gather"
    codes, scale = (codes.T, scale if scale.ndim == 1 else scale.T) if along_k else (codes, scale)
    each = scale if scale.ndim == 1 else np.repeat(scale, 128 // len(scale), axis=0)
    weights = codes.astype(np.float64) * each
    feeds = feed(case, rows)
    expected = weights.T[feeds["ids"]] if op == "Gather" else feeds["x"] @ weights
    # float32 sums of 128 products
    np.testing.assert_allclose(run(model, feeds, optimize=False), expected, rtol=1e-4, atol=1e-4)
    found = run(model, feeds)
    # a fusion into MatMulNBits may round activations to 8 bits per block: 0.7 % of the largest output
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * float(np.abs(expected).max()))
