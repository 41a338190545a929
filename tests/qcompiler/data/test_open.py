"""Paths that cannot be opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qcompiler.data import (
    DataOptions,
    open_data,
)
from qcompiler.errors import CalibrationError
from tests.qcompiler.data.specs import DATA, PICTURE, X


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.npz", b"junk", "cannot read"),
        ("d.npy", b"junk", "not a NumPy array"),
        ("d.safetensors", b"junk", "safetensors"),
        ("d.png", b"junk", "cannot decode"),
        ("d.jsonl", b'{"x": [[1,2,3]]}\n{oops\n', "line 2"),
        ("d.npz", b"", "empty"),
        ("d.xyz", b"junk", "no known kind"),
        ("d.txt", b"text", "--tokenizer"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        list(open_data(tmp_path / name, PICTURE if name == "d.png" else X, DataOptions()))


def test_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="does not exist"):
        open_data(tmp_path / "no.npz", X, DataOptions())


def test_a_folder_of_two_kinds_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=DATA)
    Image.new("RGB", (6, 8)).save(tmp_path / "a.png")
    with pytest.raises(CalibrationError, match="both"):
        open_data(tmp_path, X, DataOptions())


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(CalibrationError, match="cannot be a int"):
        open_data(3, X, DataOptions())
