"""Where two models are looked at: codes mean the same values in either sign."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.verify.points import Codes, Point, lowered_points, quantized_values

from .conftest import from_text

CHAIN = """
<ir_version: 10, opset_import: ["" : 21]>
net (float[N] x) => (float[N] y)
{
    inner = Tanh (x)
    inner_quantized = QuantizeLinear (inner, s, z)
    inner_dequantized = DequantizeLinear (inner_quantized, s, z)
    outer = Neg (inner_dequantized)
    outer_quantized = QuantizeLinear (outer, s, z)
    y = DequantizeLinear (outer_quantized, s, z)
}
"""


@pytest.fixture
def model() -> ir.Model:
    return from_text(CHAIN, s=np.array(0.01, np.float32), z=np.array(3, np.int8))


def values(model: ir.Model) -> dict[str, ir.Value]:
    return {str(output.name): output for node in model.graph for output in node.outputs}


def test_codes_in_either_sign_are_the_same_values() -> None:
    signed = np.array([-128, 0, 3, 127], np.int8)
    unsigned = (signed.astype(np.int16) + 128).astype(np.uint8)
    expected = (signed.astype(np.float32) - 3) * np.float32(0.01)
    np.testing.assert_array_equal(Codes(0.01, 3, signed=True).values(signed), expected)
    np.testing.assert_array_equal(Codes(0.01, 3, signed=True).values(unsigned), expected)
    np.testing.assert_array_equal(Codes(0.01, 131, signed=False).values(unsigned), expected)
    np.testing.assert_array_equal(Codes(0.01, 131, signed=False).values(signed), expected)


def test_codes_are_read_where_only_they_are_left(model: ir.Model) -> None:
    codes = Codes(float(np.float32(0.01)), 3, signed=True)
    points = lowered_points(
        values(model), quantized_values(model), ["inner_quantized", "outer_quantized", "y"]
    )
    assert points == [
        Point("inner", "inner_dequantized", "inner_quantized", codes),
        Point("y", "y", "outer_quantized", codes),
    ]


def test_what_is_unfused_is_read_as_float(model: ir.Model) -> None:
    points = lowered_points(values(model), quantized_values(model), ["inner", "outer"])
    assert points == [Point("inner", "inner", "inner"), Point("outer", "outer", "outer")]
