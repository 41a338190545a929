"""NF4's levels and HQQ's steps against their authors' formulas."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from qcompiler.numerics.formats.scale_search import BETA, HALF_QUADRATIC_STEPS, KAPPA
from qcompiler.numerics.formats.table import NF4
from qcompiler.numerics.formats.weighting import NORM, shrunk


def test_nf4_is_quantiles_of_the_normal_distribution() -> None:
    """arXiv:2305.14314, section 3: 8 positive and 7 negative quantiles and zero, divided by the largest."""
    last = 0.5 * (1 - 1 / 32 + 1 - 1 / 30)
    positive, negative = np.linspace(last, 0.5, 9)[:-1], np.linspace(last, 0.5, 8)[:-1]
    levels = (
        [NormalDist().inv_cdf(p) for p in positive] + [-NormalDist().inv_cdf(p) for p in negative] + [0.0]
    )
    expected = np.sort(levels) / max(levels)
    # The published figures were computed with the offset 0.9677083, in float32.
    np.testing.assert_allclose(NF4, expected, atol=2e-6)


def test_hqq_shrinks_as_its_authors_do() -> None:
    """Eq. 7 of Badri and Shaji (2023): ``sign(x) relu(|x| - |x|^(p-1) / beta)`` with their constants."""
    assert (NORM, BETA, KAPPA, HALF_QUADRATIC_STEPS) == (0.7, 10.0, 1.01, 20)
    x = np.random.default_rng(0).normal(0, 0.5, 1000).astype(np.float32)
    expected = np.sign(x) * np.maximum(np.abs(x) - np.abs(x) ** (NORM - 1) / BETA, 0)
    np.testing.assert_allclose(shrunk(x.copy(), BETA), expected, rtol=1e-4, atol=1e-6)  # powers in float32
