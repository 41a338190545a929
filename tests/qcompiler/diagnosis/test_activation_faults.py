"""What is said about the range of a quantized activation, on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from qcompiler.diagnosis.activation_faults import ActivationFacts, activation_facts
from qcompiler.diagnosis.quantizers import Affine
from qcompiler.diagnosis.weight_faults import sqnr_db
from qcompiler.numerics.affine import affine_parameters, dequantize, quantize

LIMITS = (0, 255)


def values(seed: int = 0) -> list[npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(2, 30, 16)).astype(np.float32) for _ in range(3)]


def fitting(arrays: Sequence[npt.NDArray[np.float32]]) -> Affine:
    low, high = min(float(x.min()) for x in arrays), max(float(x.max()) for x in arrays)
    scale, zero = affine_parameters(low, high, LIMITS)
    return Affine(float(scale), zero, LIMITS)


def facts_of(
    arrays: Sequence[npt.NDArray[np.float32]], written: Affine, read: Affine | None = None
) -> ActivationFacts:
    read = read or written
    whole = np.concatenate([x.reshape(-1) for x in arrays])
    codes = quantize(whole, written.scale, written.zero_point, LIMITS)
    found = sqnr_db(whole, dequantize(codes, read.scale, read.zero_point))
    return activation_facts(arrays, written, read, found, ratio=10.0)


def test_a_range_that_fits_has_no_fault() -> None:
    facts = facts_of(values(), fitting(values()))
    assert facts.fault is None
    assert facts.clipped_share < 0.001  # the ends are rounded
    assert facts.sqnr_db == pytest.approx(facts.minmax_db, abs=0.1)  # the same range, all values


@pytest.mark.parametrize("factor", [0.95, 1.5, 4.0])
def test_a_range_that_another_calibrator_or_other_data_would_choose_has_no_fault(factor: float) -> None:
    fit = fitting(values())
    assert facts_of(values(), Affine(fit.scale * factor, fit.zero_point, LIMITS)).fault is None


def test_a_clipped_range_is_told() -> None:
    fit = fitting(values())
    facts = facts_of(values(), Affine(fit.scale / 8, fit.zero_point, LIMITS))
    assert facts.fault is not None
    assert facts.fault.kind == "clipped"
    assert facts.clipped_share > 0.3


def test_a_range_far_too_wide_is_told() -> None:
    fit = fitting(values())
    fault = facts_of(values(), Affine(fit.scale * 32, fit.zero_point, LIMITS)).fault
    assert fault is not None
    assert fault.kind == "coarse"
    assert "they use 8 of 256 codes" in fault.text


def test_a_range_beside_the_values_is_told() -> None:
    fit = fitting(values())
    fault = facts_of(values(), Affine(fit.scale, fit.zero_point - 90, LIMITS)).fault
    assert fault is not None
    assert fault.kind == "zero_point"


def test_another_scale_for_reading_is_told() -> None:
    fit = fitting(values())
    fault = facts_of(values(), fit, Affine(fit.scale * 2, fit.zero_point, LIMITS)).fault
    assert fault is not None
    assert fault.kind == "read"


def test_a_mask_that_shares_codes_with_scores_is_told() -> None:
    masked = [x.copy() for x in values()]
    for x in masked:
        x[:, 20:] = np.finfo(np.float32).min
    facts = facts_of(masked, fitting(masked))
    assert facts.fault is not None
    assert "a mask (33% of the values" in facts.fault.text
    assert facts.low > -10.0  # the scores' own range


def test_channels_and_rows_that_stand_out_are_counted() -> None:
    arrays = values()
    arrays[1][:, :, 5] *= 40
    facts = activation_facts(arrays, None, None, 30.0, ratio=10.0)
    assert facts.outlier_channels == (5,)
    assert facts.channels == 16
    assert facts.clip_low is None
    assert facts.row_ratio > 1.0
