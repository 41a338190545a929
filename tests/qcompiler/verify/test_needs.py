"""Verification that cannot fit is refused before anything runs, with what fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.driver import compile as compile_model
from qcompiler.errors import UnsupportedError
from qcompiler.models.catalog import DIGITS
from qcompiler.request import CompileOptions
from qcompiler.verify import needs
from qcompiler.verify.needs import available_bytes, refuse_unverifiable, verification_bytes


def model_of(size_bytes: int) -> ir.Model:
    """A model that claims to hold so many bytes of float32."""
    shape = ir.Shape((size_bytes // 4,))
    tensor = ir.LazyTensor(lambda: ir.tensor(np.zeros(0, np.float32)), ir.DataType.FLOAT, shape, name="w")
    value = ir.Value(name="w", const_value=tensor)
    return ir.Model(ir.Graph([], [value], nodes=[], initializers=[value]), ir_version=10)


def test_levels_need_more_and_more() -> None:
    large = model_of(4 << 30)
    needed = [verification_bytes(large, level) for level in ("none", "numerics", "speed")]
    assert needed == sorted(needed)
    assert needed[0] == 0


@pytest.mark.parametrize(("available", "fitting"), [(8 << 30, "numerics"), (1 << 30, "none")])
def test_what_does_not_fit_is_refused_with_what_does(
    available: int, fitting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "available_bytes", lambda: available)
    with pytest.raises(UnsupportedError, match=f"--verify {fitting} fits"):
        refuse_unverifiable(model_of(4 << 30), "speed")


def test_nothing_is_refused_where_the_system_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "_MEMINFO", tmp_path / "none")
    assert available_bytes() is None
    refuse_unverifiable(model_of(4 << 40), "speed")


def test_the_driver_refuses_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "available_bytes", lambda: 1000)
    with pytest.raises(UnsupportedError, match="needs about"):
        compile_model(DIGITS.onnx, "int8_dynamic", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    compile_model(DIGITS.onnx, "int8_dynamic", output=tmp_path / "out", options=CompileOptions(verify="none"))
