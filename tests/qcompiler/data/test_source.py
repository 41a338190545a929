"""Which records become feeds, in which batches."""

from __future__ import annotations

import pytest

from qcompiler.data import (
    DataOptions,
    InputSpec,
    open_data,
)
from qcompiler.errors import OptionError
from tests.qcompiler.data.specs import DATA, F32, X


def test_fixed_batch_drops_the_remainder() -> None:
    feeds = open_data(DATA, (InputSpec("x", F32, (4, 3)),), DataOptions())
    assert [len(feed["x"]) for feed in feeds] == [4, 4]


def test_a_limit_spreads_over_samples_and_takes_the_first_of_a_stream() -> None:
    spread = open_data(DATA, X, DataOptions(limit=4, batch=4))
    first = open_data(({"x": row[None]} for row in DATA), X, DataOptions(limit=4))
    assert next(iter(spread))["x"].tolist() == DATA[[0, 2, 5, 7]].tolist()
    assert [feed["x"].tolist() for feed in first] == [[row.tolist()] for row in DATA[:4]]
    assert (spread.samples, "4 samples of 10" in spread.description) == (4, True)


def test_a_limit_beyond_the_data_takes_all() -> None:
    assert open_data(DATA, X, DataOptions(limit=99)).samples == 10


def test_a_batch_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(OptionError, match="--calib-batch is 3, but the model fixes its batch at 4"):
        open_data(DATA, (InputSpec("x", F32, (4, 3)),), DataOptions(batch=3))
