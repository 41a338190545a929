"""What is said about a quantized weight, on arrays."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.diagnosis.outliers import channel_ratio, outlier_channels
from qcompiler.diagnosis.stored import Stored, stored_integers
from qcompiler.diagnosis.weight_faults import WeightFacts, sqnr_db, weight_facts

Floats = npt.NDArray[np.float32]


def weight(seed: int = 0, shape: tuple[int, ...] = (24, 24)) -> Floats:
    """Channels on axis 1 of ranges from 1 to 20."""
    random = np.random.default_rng(seed)
    return (random.normal(size=shape) * np.geomspace(1, 20, shape[1])).astype(np.float32)


def stored_int8(exact: Floats, axis: int | None = 1) -> Stored:
    """Rounded to nearest, symmetric, one scale per channel of ``axis``."""
    others = None if axis is None else tuple(a for a in range(exact.ndim) if a != axis)
    scale = np.abs(exact).max(axis=others, keepdims=True) / 127
    codes = np.clip(np.rint(exact / scale), -127, 127).astype(np.int8)
    return stored_integers(ir.tensor(codes), np.squeeze(scale), None, axis)


def facts_of(exact: Floats, stored: Stored) -> WeightFacts:
    made = stored.values()
    assert made is not None
    return weight_facts("w", exact, made, stored, output_axis=1, ratio=10.0)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_weight_rounded_to_nearest_has_no_fault(axis: int | None) -> None:
    facts = facts_of(weight(), stored_int8(weight(), axis))
    assert facts.fault is None
    assert facts.ideal_db == pytest.approx(
        facts.sqnr_db, abs=0.5
    )  # one convention has a code more than the other


@given(st.floats(0.05, 20.0).filter(lambda factor: abs(np.log(factor)) > 0.7))
def test_a_factor_is_told_whatever_it_is(factor: float) -> None:
    stored = stored_int8(weight())
    assert stored.scale is not None
    facts = facts_of(weight(), replace(stored, scale=stored.scale * np.float32(factor)))
    assert facts.fault is not None
    assert facts.fault.kind == "scale"
    told = float(facts.fault.text.split()[3])
    assert told == pytest.approx(factor, rel=0.02)  # three digits, and what rounding adds


def test_wrong_scales_of_a_few_channels_are_told() -> None:
    stored = stored_int8(weight())
    assert stored.scale is not None
    scale = stored.scale.copy()
    scale[23] *= 4
    fault = facts_of(weight(), replace(stored, scale=scale)).fault
    assert fault is not None
    assert "1 of 24 channels along axis 1" in fault.text
    assert "channel 23 is 4 times" in fault.text


def test_a_transposed_axis_is_told() -> None:
    fault = facts_of(weight(), replace(stored_int8(weight()), axis=0)).fault
    assert fault is not None
    assert fault.kind == "axis"
    assert "read along axis 0; along axis 1" in fault.text


@given(st.integers(8, 60), st.booleans())
def test_an_offset_of_zero_points_is_told(codes: int, negative: bool) -> None:
    stored = stored_int8(weight())
    shift = np.int32(-codes if negative else codes)
    fault = facts_of(weight(), replace(stored, zero_point=np.full(24, shift))).fault
    assert fault is not None
    assert fault.kind == "zero_point"
    assert f"{-shift:+d} codes" in fault.text


def test_clipped_weights_are_told() -> None:
    exact = weight()
    scale = np.abs(exact).max(axis=0) / 127 / 4
    codes = np.clip(np.rint(exact / scale), -127, 127).astype(np.int8)
    facts = facts_of(exact, stored_integers(ir.tensor(codes), scale, None, 1))
    assert facts.fault is not None
    assert facts.fault.kind == "clipped"
    assert facts.clip_high < facts.high


def test_another_weight_is_told() -> None:
    fault = facts_of(weight(0), stored_int8(weight(1))).fault
    assert fault is not None
    assert fault.kind == "unrelated"


def test_one_scale_for_channels_of_different_ranges_is_no_fault_but_its_price_is_told() -> None:
    facts = facts_of(weight(), stored_int8(weight(), None))
    per_channel = facts_of(weight(), stored_int8(weight(), 1))
    assert facts.fault is None
    assert facts.per_channel_db == pytest.approx(per_channel.sqnr_db, abs=0.5)  # as above


@pytest.mark.parametrize(("bits", "dtype"), [(4, ml_dtypes.uint4), (8, np.uint8)])
def test_blocks_are_read_as_dequantize_linear_defines_them(bits: int, dtype: npt.DTypeLike) -> None:
    """scale (codes - zero_point), the scale of block k // 16 along axis 0; against a loop."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 1 << bits, (40, 3)).astype(dtype)
    scale, zero = random.random((3, 3)).astype(np.float32), random.integers(0, 1 << bits, (3, 3))
    stored = stored_integers(ir.tensor(codes), scale, zero, 0, 16)
    expected = np.empty((40, 3), np.float32)
    for k in range(40):
        for n in range(3):
            expected[k, n] = (int(codes[k, n]) - int(zero[k // 16, n])) * scale[k // 16, n]
    np.testing.assert_array_equal(stored.values(), expected)


def test_outliers_are_counted_against_the_median_channel() -> None:
    values = np.ones((5, 8), np.float32)
    values[2, 3], values[0, 6] = 30.0, -50.0
    assert outlier_channels(values, 1, 10.0) == (6, 3)
    assert channel_ratio(values, 1) == 50.0
    assert outlier_channels(np.ones(4, np.float32), 0, 10.0) == ()


def test_sqnr_has_words_for_its_ends() -> None:
    assert sqnr_db(weight(), weight()) == 200.0
    assert sqnr_db(np.zeros(3), np.ones(3)) == -200.0
