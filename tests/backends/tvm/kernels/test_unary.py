"""Functions of whole arrays, at every length around a vector."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.functions import Function
from qcompiler.backends.tvm.kernels.unary import Unary, unary
from tests.backends.tvm.kernels.running import Runner, variant_cases

pytestmark = pytest.mark.tvm


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("gated", [False, True])
def test_lengths(variant: Variant, gated: bool) -> None:
    run = Runner(unary(Unary(Function.SILU, variant, gated)), variant)
    for length in (1, 15, 16, 17, 1040, 2100):
        x, gate = np.random.default_rng(length).normal(0, 3, (2, length)).astype(np.float32)
        expected = x / (1 + np.exp(-x.astype(np.float64))) * (gate if gated else 1)
        # a few units in the last place
        np.testing.assert_allclose(
            run(*((x, gate) if gated else (x,)), shape=x.shape), expected, rtol=1e-6, atol=1e-7
        )
