"""What a CPU has, what is masked, and what may run on it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from qcompiler.backends.tvm import cpu_features
from qcompiler.backends.tvm.cpu_features import MASK, Feature, Variant, host_features, runnable_variants
from qcompiler.errors import OptionError

AVX2 = "flags\t\t: fpu sse2 avx2 fma f16c\n"
ZEN5 = "flags : avx2 fma f16c avx_vnni avx512f avx512bw avx512dq avx512vl avx512_vnni\n"
SAPPHIRE_RAPIDS = ZEN5.replace("\n", " amx_tile amx_int8\n")


@pytest.fixture(autouse=True)
def x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def features_of(text: str, folder: Path, mask: str | None = None) -> frozenset[Feature]:
    (folder / "cpuinfo").write_text(text)
    return host_features(folder / "cpuinfo", {} if mask is None else {MASK: mask})


def test_features_are_read_from_flags(tmp_path: Path) -> None:
    assert features_of(AVX2, tmp_path) == {Feature.AVX2}
    assert features_of(ZEN5, tmp_path) == set(Feature) - {Feature.AMX}


@pytest.mark.parametrize("permitted", [True, False])
def test_tiles_count_where_the_system_gives_their_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, permitted: bool
) -> None:
    monkeypatch.setattr(cpu_features, "tiles_permitted", lambda: permitted)
    assert features_of(SAPPHIRE_RAPIDS, tmp_path) == set(Feature) - (set() if permitted else {Feature.AMX})
    fastest = runnable_variants(features_of(SAPPHIRE_RAPIDS, tmp_path))[0]
    assert fastest is (Variant.AMX_INT8 if permitted else Variant.AVX512_VNNI)


def test_registers_of_masked_tiles_are_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_features, "tiles_permitted", lambda: pytest.fail("asked for"))
    assert features_of(SAPPHIRE_RAPIDS, tmp_path, "avx2,avx512") == {Feature.AVX2, Feature.AVX512}


def test_part_of_a_feature_is_not_the_feature(tmp_path: Path) -> None:
    assert features_of("flags : avx2 fma avx512f avx512_vnni\n", tmp_path) == set()


def test_nothing_is_assumed_where_nothing_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host_features(tmp_path / "absent", {}) == frozenset()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert features_of(ZEN5, tmp_path) == frozenset()


def test_mask_takes_away_and_never_adds(tmp_path: Path) -> None:
    assert features_of(ZEN5, tmp_path, "avx2, avx_vnni") == {Feature.AVX2, Feature.AVX_VNNI}
    assert features_of(ZEN5, tmp_path, "") == set()
    assert features_of(AVX2, tmp_path, "amx,avx2") == {Feature.AVX2}


def test_unknown_name_in_the_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"avx3.*avx2"):
        features_of(ZEN5, tmp_path, "avx3")


def test_fastest_variant_comes_first_and_plain_always_runs(tmp_path: Path) -> None:
    vectors = [variant for variant in reversed(Variant) if variant.vectors is variant]
    assert runnable_variants(features_of(ZEN5, tmp_path)) == vectors
    assert runnable_variants(features_of(AVX2, tmp_path)) == [Variant.AVX2, Variant.PLAIN]
    assert runnable_variants(frozenset()) == [Variant.PLAIN]


def test_variant_needs_all_that_it_is_compiled_with() -> None:
    """AVX512-VNNI alone, as a mask can leave it, is not enough for code that also uses AVX2 and AVX-512."""
    assert runnable_variants(frozenset({Feature.AVX512_VNNI})) == [Variant.PLAIN]
