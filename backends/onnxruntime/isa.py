"""Which integer instructions the machine that will run the model has."""

from __future__ import annotations

import enum
import platform
from pathlib import Path


class Isa(enum.StrEnum):
    """Instruction sets that decide the number formats of ONNX Runtime's CPU kernels.

    ``avx2`` (also AVX-512 without VNNI) multiplies uint8 by int8 into saturating 16-bit sums, so weights
    get 7 bits; ``vnni`` (AVX512-VNNI, AVX-VNNI, AMX) accumulates exactly; ``arm64`` wants int8 x int8.
    """

    HOST = "host"
    AVX2 = "avx2"
    VNNI = "vnni"
    ARM64 = "arm64"


_VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


def host_isa(cpuinfo: Path = Path("/proc/cpuinfo")) -> Isa:
    """Read the instruction set of this machine; where it cannot be read, the careful choice is AVX2."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return Isa.ARM64
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return Isa.AVX2
    flags = next(
        (line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), []
    )
    return Isa.VNNI if _VNNI_FLAGS & set(flags) else Isa.AVX2
