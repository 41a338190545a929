"""Rows of quantized tables against NumPy: widths, groups, tables, ids from the end and outside."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.gather_rows import GatherRows, gather_rows, pack
from tests.backends.tvm.kernels.running import RUNNABLE, Runner, variant_cases

pytestmark = pytest.mark.tvm

ENTRIES, COLUMNS = 7, 83
IDS = np.array([3, 0, -1, 6, 3])


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_around_an_offset(variant: Variant, bits: int) -> None:
    random = np.random.default_rng(bits)
    codes = random.integers(0, 1 << bits, (ENTRIES, COLUMNS)).astype(np.uint8)
    scale = random.uniform(0.1, 1, (ENTRIES, 1)).astype(np.float32)
    offset = 1 << (bits - 1)
    run = Runner(gather_rows(GatherRows(ENTRIES, COLUMNS, bits, COLUMNS, variant, offset)), variant)
    actual = run(IDS, pack(codes, bits), scale, shape=(len(IDS), COLUMNS))
    np.testing.assert_array_equal(actual, ((codes.astype(np.float32) - offset) * scale)[IDS])


@pytest.mark.parametrize("table", [False, True])
def test_groups_with_minima_or_a_table(table: bool) -> None:
    random, group, variant = np.random.default_rng(1), 32, RUNNABLE[0]
    codes = random.integers(0, 16, (ENTRIES, COLUMNS)).astype(np.uint8)
    scale, minimum = random.uniform(0.1, 1, (2, ENTRIES, 3)).astype(np.float32)
    levels = random.normal(0, 1, 16).astype(np.float32)
    spec = GatherRows(ENTRIES, COLUMNS, 4, group, variant, minimum=not table, table=table)
    others = [scale, levels] if table else [scale, minimum]
    actual = Runner(gather_rows(spec), variant)(IDS, pack(codes, 4), *others, shape=(len(IDS), COLUMNS))
    wide, low = (np.repeat(x, group, 1)[:, :COLUMNS] for x in (scale, minimum))
    expected = levels[codes] * wide if table else codes * wide - low
    # a product and a difference, which may be fused
    np.testing.assert_allclose(actual, expected[IDS], rtol=1e-6, atol=1e-6)


def test_ids_outside_stay_within_the_memory() -> None:
    codes, scale = np.ones((ENTRIES, COLUMNS), np.uint8), np.ones((ENTRIES, 1), np.float32)
    run = Runner(gather_rows(GatherRows(ENTRIES, COLUMNS, 8, COLUMNS, Variant.PLAIN)), Variant.PLAIN)
    assert run(np.array([-(10**9), 10**12]), pack(codes, 8), scale, shape=(2, COLUMNS)).all()


def test_a_group_across_vectors_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        gather_rows(GatherRows(ENTRIES, COLUMNS, 4, 24, Variant.PLAIN))
