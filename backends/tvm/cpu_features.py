"""What the CPU can do, and which variant of a kernel that allows."""

from __future__ import annotations

import enum
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from qcompiler.backends.tvm.loader import tiles_permitted
from qcompiler.errors import OptionError, suggest

MASK = "QCOMPILER_CPU_FEATURES"
"""Environment variable: the only features to be used, separated by commas; empty for none."""


class Feature(enum.StrEnum):
    """Groups of instructions that variants of kernels are written for."""

    AVX2 = "avx2"
    AVX_VNNI = "avx_vnni"
    AVX512 = "avx512"
    AVX512_VNNI = "avx512_vnni"
    AMX = "amx"


FLAGS = {
    Feature.AVX2: {"avx2", "fma", "f16c"},
    Feature.AVX_VNNI: {"avx2", "fma", "f16c", "avx_vnni"},
    Feature.AVX512: {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c"},
    Feature.AVX512_VNNI: {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "fma", "f16c"},
    Feature.AMX: {"amx_tile", "amx_int8", "avx512f", "avx512_vnni"},
}
"""What the kernel of the operating system must list for each: instructions it also saves the registers of."""


class Variant(enum.StrEnum):
    """How a kernel is written, from what runs everywhere to what runs fastest.

    ``plain`` has no intrinsics: any x86, arm64, or C.  ``avx2`` multiplies 16-bit integers into exact sums;
    ``avx_vnni`` and ``avx512_vnni`` multiply uint8 by int8, 32 and 64 at a time; ``amx_int8`` tiles of 16 by 64.
    """

    PLAIN = "plain"
    AVX2 = "avx2"
    AVX_VNNI = "avx_vnni"
    AVX512_VNNI = "avx512_vnni"
    AMX_INT8 = "amx_int8"

    @property
    def needs(self) -> frozenset[Feature]:
        """Features without which its instructions must not be executed."""
        return _NEEDS[self]

    @property
    def vectors(self) -> Variant:
        """The variant of kernels that are written for vectors only, where products use tiles."""
        return Variant.AVX512_VNNI if self is Variant.AMX_INT8 else self


_NEEDS = {
    Variant.PLAIN: frozenset[Feature](),
    Variant.AVX2: frozenset({Feature.AVX2}),
    Variant.AVX_VNNI: frozenset({Feature.AVX2, Feature.AVX_VNNI}),
    Variant.AVX512_VNNI: frozenset({Feature.AVX2, Feature.AVX512, Feature.AVX512_VNNI}),
    Variant.AMX_INT8: frozenset({Feature.AVX2, Feature.AVX512, Feature.AVX512_VNNI, Feature.AMX}),
}


def runnable_variants(features: frozenset[Feature]) -> list[Variant]:
    """Variants that a CPU with ``features`` can run, the fastest first; ``plain`` is always the last."""
    return [variant for variant in reversed(Variant) if variant.needs <= features]


def host_features(
    cpuinfo: Path = Path("/proc/cpuinfo"), environment: Mapping[str, str] = os.environ
) -> frozenset[Feature]:
    """What this machine has, less what the environment variable ``QCOMPILER_CPU_FEATURES`` leaves out.

    Where it cannot be read (other systems, other processors) nothing is assumed.  AMX counts where the operating
    system also gives this process the registers.

    Raises:
        OptionError: the variable names an unknown feature.
    """
    found = _read_features(cpuinfo)
    mask = environment.get(MASK)
    allowed = found if mask is None else found & _parse_mask(mask)
    return allowed - {Feature.AMX} if Feature.AMX in allowed and not tiles_permitted() else allowed


def _read_features(cpuinfo: Path) -> frozenset[Feature]:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return frozenset()
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return frozenset(feature for feature, wanted in FLAGS.items() if wanted <= flags)


def _parse_mask(text: str) -> frozenset[Feature]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in set(Feature):
            raise OptionError(f"{MASK}: unknown CPU feature {name!r}.{suggest(name, list(Feature))}")
    return frozenset(Feature(name) for name in names)
