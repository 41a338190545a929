from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.numerics.formats.blocks import Block, for_each, group_count, split


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 3000),
    columns=st.integers(1, 700),
    group=st.sampled_from((None, 1, 16, 32, 100, 256)),
)
def test_blocks_cover_every_weight_once_and_never_cut_a_group(
    rows: int, columns: int, group: int | None
) -> None:
    seen = np.zeros((rows, columns), np.int8)
    index = np.arange(rows)[:, np.newaxis] // (group or rows) + np.zeros((1, columns), np.int64)
    seen_groups = np.zeros((group_count(rows, group), columns), np.int8)

    def work(block: Block) -> None:
        part = block.of(seen)
        part += 1
        assert np.shares_memory(part, seen)
        seen_groups[block.groups, block.columns] += 1
        expected = np.arange(block.groups.start, block.groups.stop)[:, np.newaxis, np.newaxis]
        assert np.all(block.of(index) == expected)
        assert np.array_equal(block.of_rows(index[:, 0])[:, :, 0], block.of(index)[:, :, 0])

    for_each(split((rows, columns), group), work)
    assert np.all(seen == 1)
    assert np.all(seen_groups == 1)


def test_empty_matrix_has_no_blocks() -> None:
    assert list(split((0, 5), 32)) == []
    assert list(split((5, 0), 32)) == []
    assert list(split((0, 5), None)) == []
