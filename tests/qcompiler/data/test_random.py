"""Made-up feeds."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from qcompiler.data import (
    DataOptions,
    open_data,
)
from qcompiler.errors import OptionError
from tests.qcompiler.data.specs import IDS, X


def test_random_says_what_it_is_worth(caplog: pytest.LogCaptureFixture) -> None:
    feeds = open_data("random", IDS, DataOptions(batch=2, limit=3, length=5))
    assert [feed["attention_mask"].tolist() for feed in feeds] == [[[1] * 5] * 2] * 3
    assert "mean nothing" in feeds.description
    assert any(record.levelno == logging.WARNING for record in caplog.records)


def test_the_seed_decides() -> None:
    first, again, other = (
        next(iter(open_data("random", X, DataOptions(seed=seed))))["x"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_length_that_sizes_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="--sequence-length"):
        open_data("random", X, DataOptions(length=5))
