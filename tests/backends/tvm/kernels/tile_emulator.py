"""Run code with instructions of AMX on a CPU that has none: a signal handler executes them, one by one."""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcompiler.backends.tvm import compile_kernel
from qcompiler.backends.tvm.cpu_features import Feature, Variant, host_features

KINDS = ("ldtilecfg", "tilerelease", "tilezero", "tileloadd", "tilestored", "tdpbusd", "tdpbsud")
REAL = Feature.AMX in host_features()
MISSING = (
    f"this CPU cannot run {Variant.AMX_INT8.vectors}, which code with tiles also uses"
    if not Variant.AMX_INT8.vectors.needs <= host_features()
    else "no C compiler (cc) for the emulator of tiles"
    if shutil.which("cc") is None
    else ""
)

needs_tiles = pytest.mark.skipif(bool(MISSING) and not REAL, reason=MISSING)


@dataclass(frozen=True)
class Emulator:
    """What was executed since it was started."""

    library: ctypes.CDLL

    def count(self, kind: str) -> int:
        return int(self.library.emulator_count(KINDS.index(kind)))

    def check(self) -> None:
        """Nothing was executed that a CPU would refuse, and every configuration was given up."""
        assert self.library.emulator_error() is None, self.library.emulator_error()
        assert self.count("ldtilecfg") == self.count("tilerelease")


def build_emulator(folder: Path) -> ctypes.CDLL:
    source, library = Path(__file__).with_name("tile_emulator.c"), folder / "tile_emulator.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    found = ctypes.CDLL(str(library))
    found.emulator_error.restype = ctypes.c_char_p
    found.emulator_count.restype = ctypes.c_long
    return found


@contextlib.contextmanager
def emulated(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Within it kernels with tiles are compiled and run as on a CPU that has them."""
    features = host_features() | {Feature.AMX}
    monkeypatch.setattr(compile_kernel, "host_features", lambda: features)
    library.emulator_start()
    try:
        yield Emulator(library)
    finally:
        library.emulator_stop()
