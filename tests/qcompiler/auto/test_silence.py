"""What a native library prints is not in the program's output."""

from __future__ import annotations

import os

import pytest

from qcompiler.auto.silence import silent_library


def test_nothing_is_printed_where_json_may_be_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    """HiGHS writes to the file descriptor, past sys.stdout."""
    with silent_library():
        os.write(1, b"from a library\n")
    os.write(1, b"ours\n")
    assert capfd.readouterr().out == "ours\n"
