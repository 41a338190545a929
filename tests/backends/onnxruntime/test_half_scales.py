"""Constant factors in float16 where that changes nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.half_scales import LEAST_SCALES, store_factors_in_half
from qcompiler.graph.qdq import add_initializer
from qcompiler.graph.weighted import array_of


@pytest.mark.parametrize("exact", [True, False])
def test_factors_are_halved_only_where_float16_holds_them(exact: bool) -> None:
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["": 21]> g (float[{LEAST_SCALES}] x) => (float[{LEAST_SCALES}] y)'
        " { y = Mul (x, x) }"
    )
    factor = np.linspace(0.5, 7, LEAST_SCALES).astype(np.float16).astype(np.float32)
    factor = factor if exact else factor * np.float32(1.0001)
    model.graph[0].replace_input_with(1, add_initializer(model.graph, "factor", factor))
    store_factors_in_half(model)
    assert [node.op_type for node in model.graph] == (["Cast", "Mul"] if exact else ["Mul"])
    (stored,) = model.graph.initializers.values()
    assert stored.dtype == (ir.DataType.FLOAT16 if exact else ir.DataType.FLOAT)
    np.testing.assert_array_equal(array_of(stored).astype(np.float32), factor)
