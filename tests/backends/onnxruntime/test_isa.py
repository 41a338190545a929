"""Which number formats follow from the instruction set."""

from __future__ import annotations

import platform
from pathlib import Path

import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa, host_isa


@pytest.mark.parametrize(
    ("flags", "isa"),
    [
        ("fpu sse2 avx2 avx512f avx512_vnni", Isa.VNNI),
        ("fpu avx2 avx_vnni", Isa.VNNI),
        ("fpu avx2 avx512f amx_int8", Isa.VNNI),
        ("fpu sse2 avx2 avx512f", Isa.AVX2),
        ("", Isa.AVX2),
    ],
)
def test_the_host_is_read_from_its_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, isa: Isa
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert host_isa(cpuinfo) is isa


def test_a_host_that_cannot_be_read_gets_the_careful_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert host_isa(tmp_path / "nowhere") is Isa.AVX2
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert host_isa(tmp_path / "nowhere") is Isa.ARM64


def test_a_model_for_another_kind_of_processor_comes_with_a_caveat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcompiler.backends.onnxruntime.cpu.host_isa", lambda: Isa.VNNI)
    assert "arm64" in OrtCpu(isa=Isa.ARM64).caveat()
    assert OrtCpu(isa=Isa.AVX2).caveat() == ""
    assert OrtCpu().caveat() == ""


def test_formats_follow() -> None:
    assert (OrtCpu(isa=Isa.VNNI).activation.dtype, OrtCpu(isa=Isa.VNNI).weight.largest_code) == (
        ir.DataType.UINT8,
        127,
    )
    assert (OrtCpu(isa=Isa.AVX2).activation.dtype, OrtCpu(isa=Isa.AVX2).weight.largest_code) == (
        ir.DataType.UINT8,
        63,
    )
    assert (OrtCpu(isa=Isa.ARM64).activation.dtype, OrtCpu(isa=Isa.ARM64).weight.largest_code) == (
        ir.DataType.INT8,
        127,
    )
