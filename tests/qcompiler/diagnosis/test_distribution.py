"""Histograms that are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qcompiler.diagnosis.distribution import BINS, Distribution, distribution


@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e6, 1e6, width=32)))
def test_every_value_is_counted_once_between_the_extremes(values: npt.NDArray[Any]) -> None:
    found = distribution(values)
    assert sum(found.counts) == values.size
    assert len(found.counts) == BINS
    assert found.low <= values.min()
    assert values.max() <= found.high


def test_nothing_and_what_is_not_finite_is_not_counted() -> None:
    assert distribution(np.array([], np.float32)) == Distribution()
    assert sum(distribution(np.array([1.0, np.inf, np.nan, 2.0])).counts) == 2


def test_one_value_has_a_bin_around_it() -> None:
    found = distribution(np.full(7, 3.0, np.float32))
    assert found.low < 3.0 < found.high
    assert max(found.counts) == 7


def test_large_tensors_are_sampled() -> None:
    values = np.linspace(0, 1, 3 << 20, dtype=np.float32)
    found = distribution(values)
    assert sum(found.counts) == pytest.approx(1 << 20, rel=1e-3)  # every third
