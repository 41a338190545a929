"""Packages that only some data needs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qcompiler.data import (
    DataOptions,
    open_data,
)
from qcompiler.errors import CalibrationError
from tests.qcompiler.data.specs import IDS, PICTURE


@pytest.mark.parametrize(
    ("module", "name"), [("PIL.Image", "d.png"), ("safetensors", "d.safetensors"), ("tokenizers", "d.txt")]
)
def test_a_missing_package_says_how_to_install_it(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    (tmp_path / name).write_bytes(b"junk")
    monkeypatch.setitem(sys.modules, module, None)
    specs = PICTURE if name == "d.png" else IDS
    with pytest.raises(CalibrationError, match=r"pip install 'qcompiler\[data\]'"):
        open_data(tmp_path / name, specs, DataOptions(tokenizer=tokenizer))
