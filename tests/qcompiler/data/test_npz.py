"""Damaged and hostile .npz files."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qcompiler.data import (
    DataOptions,
    open_data,
)
from qcompiler.errors import CalibrationError
from tests.qcompiler.data.specs import DATA, X


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_is_refused_or_harmless(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "d.npz"
    save(path, x=DATA)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x41
        path.write_bytes(damaged)
        with contextlib.suppress(CalibrationError):
            feeds = open_data(path, X, DataOptions())
            np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in feeds]), DATA)


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=DATA)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1  # the flag in the member's own header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match="encrypted"):
        open_data(path, X, DataOptions())


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", b"text")
    with pytest.raises(CalibrationError, match="not a NumPy array"):
        open_data(tmp_path / "d.npz", X, DataOptions())
