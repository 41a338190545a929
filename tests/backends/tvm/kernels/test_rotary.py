"""Turned heads against complex numbers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.rotary import Rotary, Turn, rotary
from tests.backends.tvm.kernels.running import Runner, variant_cases

pytestmark = pytest.mark.tvm

ROWS, HEADS, SIZE, LENGTH = 3, 2, 70, 9


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("turned", [SIZE, 44])
def test_rotary(variant: Variant, turned: int, interleaved: bool) -> None:
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (ROWS, HEADS * SIZE)).astype(np.float32)
    angle = random.uniform(-3, 3, (LENGTH, turned // 2))
    positions = np.array([0, 8, 4])
    run = Runner(rotary(Rotary(HEADS, Turn(SIZE, turned, interleaved), variant)), variant)
    actual = run(
        x, positions, np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32), shape=x.shape
    )
    heads = x.reshape(ROWS, HEADS, SIZE).astype(np.float64)
    first, second = (slice(0, turned, 2), slice(1, turned, 2)) if interleaved else (
        slice(0, turned // 2), slice(turned // 2, turned)
    )  # fmt: skip
    pairs = (heads[..., first] + 1j * heads[..., second]) * np.exp(1j * angle[positions])[:, None]
    heads[..., first], heads[..., second] = pairs.real, pairs.imag
    # two products and a sum in float32
    np.testing.assert_allclose(actual, heads.reshape(x.shape), atol=1e-6)
