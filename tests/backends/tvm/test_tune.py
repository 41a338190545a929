"""Choosing tiles: an order that does not change, one measurement for each machine, results that do not depend on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm import tune
from qcompiler.backends.tvm.cpu_features import MASK, Variant
from qcompiler.backends.tvm.kernels.conv_float import ConvFloat
from qcompiler.backends.tvm.kernels.conv_int8 import ConvInt8
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.depthwise import Depthwise
from qcompiler.backends.tvm.kernels.gemm_int8 import GemmInt8
from qcompiler.backends.tvm.kernels.gemm_low_bit import GemmLowBit
from qcompiler.backends.tvm.kernels.tiling import Tile
from qcompiler.backends.tvm.tune import Effort, candidate_tiles, fastest, tuned

pytestmark = pytest.mark.tvm

SHAPE = ConvShape(8, 8, 16, 32, (3, 3), pads=(1, 1, 1, 1))
SPECS = [
    ConvInt8(SHAPE, Variant.PLAIN),
    ConvFloat(SHAPE, Variant.PLAIN),
    Depthwise(replace(SHAPE, filters=16, groups=16), Variant.PLAIN, codes=True),
    GemmInt8(32, 32, Variant.PLAIN),
    GemmLowBit(32, 32, 4, 32, Variant.PLAIN, 8),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_candidates_are_different_and_more_with_more_effort(spec: Any) -> None:
    assert candidate_tiles(spec, Effort.NONE) == []
    quick, full = (candidate_tiles(spec, effort) for effort in (Effort.QUICK, Effort.FULL))
    assert 2 <= len(quick) <= 6
    assert len(quick) <= len(full) <= 20
    assert len(set(full)) == len(full)
    assert quick[0] == full[0]  # the one that is taken without timing


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_every_candidate_compiles_and_runs(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "_ROUNDS", 1)
    monkeypatch.setattr(tune, "_ROUND_SECONDS", 0.0)
    candidates = candidate_tiles(spec, Effort.QUICK)[:3]
    assert 0 <= fastest(spec, candidates) < len(candidates)


def test_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def measure(spec: object, candidates: Any) -> int:
        calls.append(spec)
        return 1

    monkeypatch.setattr(tune, "fastest", measure)
    spec = GemmInt8(32, 32, Variant.PLAIN)
    first = tuned(spec, Effort.QUICK)
    assert first.tile == candidate_tiles(spec, Effort.QUICK)[1]
    assert tuned(spec, Effort.QUICK) == first
    assert len(calls) == 1
    tuned(replace(spec, channels=48), Effort.QUICK)
    tuned(spec, Effort.FULL)
    assert len(calls) == 3


def test_first_is_kept_unless_another_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings are made up: the second needs 2 % less, the third 10 %."""
    seconds = {Tile(1, 1): 1.0, Tile(2, 1): 0.98, Tile(3, 1): 0.9}
    monkeypatch.setattr(tune, "_runners", lambda spec, sizes: [lambda: seconds[spec.tile]] * len(sizes))
    monkeypatch.setattr(tune, "_seconds", lambda run, clock: run())
    spec, tiles = GemmInt8(32, 32, Variant.PLAIN), list(seconds)
    assert fastest(spec, tiles[:2]) == 0
    assert fastest(spec, tiles) == 2


def test_leaves_alone_what_it_cannot_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MASK, "")
    spec = GemmInt8(32, 32, Variant.AVX512_VNNI)
    assert tuned(spec, Effort.FULL) is spec
    assert tuned(SHAPE, Effort.FULL) is SHAPE  # no kernel at all
