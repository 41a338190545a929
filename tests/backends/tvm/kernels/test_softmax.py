"""Softmax against float64, for rows of every length up to three vectors."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.softmax import Softmax, softmax
from tests.backends.tvm.kernels.running import Runner, variant_cases

pytestmark = pytest.mark.tvm


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_rows_of_any_length(variant: Variant, scale: float) -> None:
    run = Runner(softmax(Softmax(variant, scale)), variant)
    for columns in (1, 15, 16, 17, 48, 150):
        x = np.random.default_rng(columns).normal(0, 4, (3, columns)).astype(np.float32)
        x[0] = -np.finfo(np.float32).max  # all masked alike: all alike
        x[1, 0] = 500.0
        exact = x.astype(np.float64) * scale
        below = exact - exact.max(-1, keepdims=True)
        expected = np.exp(below) / np.exp(below).sum(-1, keepdims=True)
        # two units in the last place, and what a rounded argument of the exponential does; the smallest become 0
        allowed = expected * (8e-7 + 1.2e-7 * np.abs(below)) + 1e-30
        assert (np.abs(run(x, shape=x.shape) - expected) <= allowed).all()


def test_hidden_columns_get_nothing() -> None:
    x = np.zeros((1, 20), np.float32)
    x[0, 7:] = -np.inf
    actual = Runner(softmax(Softmax(Variant.PLAIN)), Variant.PLAIN)(x, shape=x.shape)
    np.testing.assert_allclose(actual[0, :7], 1 / 7, rtol=1e-6)  # two units in the last place
    assert not actual[0, 7:].any()
