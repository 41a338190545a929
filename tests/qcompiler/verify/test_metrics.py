"""Running sums: independent of batching, finite for every input, and right."""

from __future__ import annotations

import json

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from qcompiler.verify.metrics import EXACT_DB, Array, Difference, format_db

PAIRS = arrays.arrays(np.float32, st.tuples(st.just(2), st.integers(0, 20)), elements=st.floats(width=32))
ANY_FLOATS = arrays.arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32))


def difference(*pairs: tuple[Array, Array]) -> Difference:
    found = Difference()
    for a, b in pairs:
        found.update(a, b)
    return found


def figures(found: Difference) -> list[float]:
    return [found.sqnr_db, found.cosine, found.max_abs_error, found.rms_error, found.exact_share]


def test_against_the_formulas() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=(5, 7))
    b = a + 0.1 * random.normal(size=(5, 7))
    found = difference((a, b))
    noise = a - b
    # float64 sums in another order: 1e-12 is thousands of roundings.
    assert found.sqnr_db == pytest.approx(10 * np.log10((a**2).sum() / (noise**2).sum()), rel=1e-12)
    assert found.cosine == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()), rel=1e-12)
    assert found.max_abs_error == np.abs(noise).max()
    assert found.rms_error == pytest.approx(np.sqrt((noise**2).mean()), rel=1e-12)


@given(PAIRS)
@settings(max_examples=200, deadline=None)
def test_always_finite_and_json(pair: Array) -> None:
    a, b = pair
    found = difference((a, b))
    assert np.isfinite(figures(found)).all()
    assert -EXACT_DB <= found.sqnr_db <= EXACT_DB
    assert -1 <= found.cosine <= 1
    assert 0 <= found.exact_share <= 1
    json.dumps(figures(found), allow_nan=False)


@given(ANY_FLOATS)
@settings(max_examples=100, deadline=None)
def test_a_tensor_equals_itself(a: Array) -> None:
    found = difference((a, a.copy()))
    assert found.cosine == pytest.approx(1.0, abs=1e-12)
    assert (found.sqnr_db, found.max_abs_error, found.exact_share) == (EXACT_DB, 0.0, 1.0)


def test_batches_of_different_shapes_and_merging_give_the_same() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=60).astype(np.float32)
    b = a + np.float32(0.01)
    whole = difference((a, b))
    pairs = [(a[:24].reshape(4, 6), b[:24].reshape(4, 6)), (a[24:].reshape(2, 3, 6), b[24:].reshape(2, 3, 6))]
    assert figures(difference(*pairs)) == pytest.approx(figures(whole), rel=1e-12)
    merged = difference(pairs[0]).merge(difference(pairs[1]))
    assert merged == difference(*pairs)


def test_zero_signal() -> None:
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert difference((zero, zero)).sqnr_db == EXACT_DB
    assert difference((zero, zero)).cosine == 1.0
    assert difference((zero, one)).sqnr_db == -EXACT_DB
    assert difference((zero, one)).cosine == 0.0


def test_nan_in_one_is_flagged_and_in_both_agrees() -> None:
    a, b = np.array([1.0, np.nan, 2.0]), np.array([1.0, np.nan, np.inf])
    found = difference((a, b))
    assert (found.not_finite, found.reference_not_finite) == (1, 1)
    assert (found.sqnr_db, found.cosine) == (-EXACT_DB, 0.0)
    assert difference((a[:2], b[:2])).sqnr_db == EXACT_DB


def test_masks_do_not_drown_the_signal() -> None:
    """A score of 1.0 that is 1.1 beside a mask of -3.4e38 is 20 dB, not 760."""
    lowest = np.finfo(np.float32).min
    masked = difference((np.array([1.0, lowest, -np.inf]), np.array([1.1, lowest, lowest])))
    assert masked.sqnr_db == pytest.approx(20.0, abs=1e-9)


def test_float64_beyond_the_square_stays_finite() -> None:
    assert np.isfinite(figures(difference((np.array([1e300, 1.0]), np.array([1.0, -1e300]))))).all()


def test_integers_strings_and_empty() -> None:
    assert difference((np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]))).exact_share == 0.75
    assert difference((np.array(["a", "b"]), np.array(["a", "c"]))).exact_share == 0.5
    assert difference((np.array([True, False]), np.array([True, True]))).exact_share == 0.5
    empty = np.zeros((0, 4), np.float32)
    assert figures(difference((empty, empty))) == [EXACT_DB, 1.0, 0.0, 0.0, 1.0]


def test_another_shape_counts_as_wrong() -> None:
    found = difference((np.ones(4), np.ones(4)), (np.ones(4), np.ones(3)))
    assert found.shape_mismatches == 1
    assert found.exact_share == 0.5
    assert found.sqnr_db == -EXACT_DB


def test_words_for_the_ends_of_the_scale() -> None:
    assert format_db(EXACT_DB) == "exact"
    assert format_db(31.24) == "31.2 dB"
    assert format_db(-EXACT_DB) == "nothing in common"
