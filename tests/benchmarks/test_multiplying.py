"""The kernel that only multiplies does multiply."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from benchmarks import multiplying
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.dot_product import DEPTH, STEP, accumulator_lanes
from tests.backends.tvm.kernels.running import Runner, variant_cases

pytestmark = pytest.mark.tvm


@pytest.mark.parametrize("variant", variant_cases())
def test_all_products_are_added_up(variant: Variant) -> None:
    threads, lanes = 2, accumulator_lanes(variant)
    run = Runner(multiplying.multiplier(variant, threads), variant)
    weights, codes = np.full(STEP, 2, np.uint8), np.full(STEP, -1, np.int8)
    sums = run(weights, codes, shape=(threads, multiplying.SUMS, lanes), dtype="int32")
    # A sum of 16 channels may grow in 32 lanes.
    assert (sums == -2 * DEPTH * multiplying.TURNS * 16 // lanes).all()
    assert multiplying.macs(threads) == -int(sums.sum()) // 2
