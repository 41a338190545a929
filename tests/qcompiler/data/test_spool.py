"""Temporary files of the data: a full disk is no fault of the data."""

from __future__ import annotations

import io
import resource

import pytest

from qcompiler.data.spool import Spool
from qcompiler.errors import CalibrationError


def test_what_is_copied_is_what_is_read() -> None:
    content = bytes(range(256)) * 10_000  # more than two blocks
    assert Spool().copy(io.BytesIO(content), "copy").read_bytes() == content


def test_a_full_disk_is_called_one() -> None:
    """A limit on file sizes stands in for the disk: both fail in write(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(CalibrationError, match="TMPDIR"):
            Spool().copy(io.BytesIO(bytes(5000)), "copy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_stream_may_not_fill_the_disk() -> None:
    with pytest.raises(CalibrationError, match="half of the free space"):
        Spool().charge(1 << 62)
