"""Calibration and held-out data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from qcompiler.data import (
    DataOptions,
    Feed,
    FeedSource,
    InputSpec,
    hold_out,
    open_data,
)
from qcompiler.errors import OptionError
from tests.qcompiler.data.specs import BATCH4, DATA, F32, X


def test_split_is_disjoint_complete_and_says_when_shared() -> None:
    split = hold_out(open_data(DATA, X, BATCH4))
    kept, held = (np.concatenate([feed["x"] for feed in part]) for part in split)
    assert held[:, 0].tolist() == [12, 27]
    assert sorted([*kept[:, 0], *held[:, 0]]) == DATA[:, 0].tolist()
    assert not split.shared
    assert hold_out(open_data(DATA[:1], X, BATCH4)).shared


@dataclass(frozen=True)
class Foreign:
    """A source that somebody else wrote."""

    count: int
    description: str = "foreign"
    sha256: str | None = "0" * 64
    samples: int | None = None

    def __iter__(self) -> Iterator[Feed]:
        return ({"x": np.full((1, 3), number, np.float32)} for number in range(self.count))


def first_elements(source: FeedSource) -> list[float]:
    return [float(feed["x"][0, 0]) for feed in source]


def test_feeds_of_a_foreign_source_are_split_by_their_number() -> None:
    split = hold_out(open_data(Foreign(7), X, DataOptions()))
    for _ in range(2):
        assert first_elements(split.calibration) == [0, 1, 2, 3, 5, 6]
        assert first_elements(split.held_out) == [4]
    assert split.held_out.sha256 == "0" * 64
    assert "held out" in split.held_out.description


@pytest.mark.parametrize(("count", "held"), [(1, [0.0]), (2, [1.0]), (3, [2.0])])
def test_little_foreign_data_holds_out_the_last(count: int, held: list[float]) -> None:
    split = hold_out(Foreign(count))
    assert first_elements(split.held_out) == held
    assert split.shared == (count == 1)


def test_a_fixed_batch_is_never_torn() -> None:
    split = hold_out(open_data(DATA, (InputSpec("x", F32, (2, 3)),), DataOptions()))
    assert [feed["x"][:, 0].tolist() for feed in split.held_out] == [[24, 27]]


def test_holding_everything_out_is_refused() -> None:
    with pytest.raises(OptionError, match="every 2nd"):
        hold_out(Foreign(3), every=1)
