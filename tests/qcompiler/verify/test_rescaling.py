"""A scale per channel is told apart from an error."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.verify.metrics import EXACT_DB
from qcompiler.verify.rescaling import ChannelFit, rescaled_db


def test_a_scale_per_channel_leaves_only_the_noise() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=(200, 8, 5))
    scale = np.arange(1.0, 9.0).reshape(8, 1)
    fits = (ChannelFit(1), ChannelFit(-1))
    for part in (slice(0, 50), slice(50, 200)):
        b = (a[part] * (1 + 0.01 * random.normal(size=a[part].shape))) * scale
        for fit in fits:
            fit.update(a[part], b)
    # Noise of 1 % of each element is 40 dB; 8000 elements show it within a few tenths.
    assert rescaled_db(fits, -5.0) == pytest.approx(40.0, abs=0.5)
    assert rescaled_db(fits, 30.0) is None


def test_noise_is_no_rescaling() -> None:
    random = np.random.default_rng(0)
    fit = ChannelFit(1)
    fit.update(random.normal(size=(100, 8)), random.normal(size=(100, 8)))
    assert rescaled_db((fit,), 0.0) is None


def test_too_few_elements_or_changing_channels_have_no_fit() -> None:
    few, changing = ChannelFit(1), ChannelFit(1)
    few.update(np.ones((2, 8)), np.full((2, 8), 2.0))
    for width in (4, 5):
        changing.update(np.ones((100, width)), np.full((100, width), 2.0))
    assert few.sqnr_db == changing.sqnr_db == -EXACT_DB
