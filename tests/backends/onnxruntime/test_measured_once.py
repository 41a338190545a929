"""A figure is measured once on a machine, whoever asks and however often."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.backends.onnxruntime.measured_once import machine_key, measured_once


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "qcompiler"


def _never() -> int:
    raise AssertionError("measured again")


def test_the_first_figure_stays(cache: Path) -> None:
    assert measured_once("rows", lambda: 8) == 8
    assert measured_once("rows", _never) == 8
    assert measured_once("other", lambda: 16) == 16
    assert len(list(cache.iterdir())) == 2  # no temporary files stay


def test_another_process_that_was_faster_wins(cache: Path) -> None:
    def measure() -> int:
        (cache / f"rows-{machine_key()}").write_text("4\n", "ascii")
        return 8

    cache.mkdir()
    assert measured_once("rows", measure) == 4


def test_a_broken_file_is_replaced(cache: Path) -> None:
    cache.mkdir()
    (cache / f"rows-{machine_key()}").write_text("", "ascii")
    assert measured_once("rows", lambda: 8) == 8
    assert measured_once("rows", _never) == 8


def test_a_folder_that_cannot_be_written_is_said(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("a file where the folder should be", "ascii")
    assert measured_once("rows", lambda: 8) == 8
    assert "measured anew every time" in caplog.text


def test_another_processor_has_another_key(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        info = tmp_path / name
        info.write_text(f"model name : {name}\ncpu MHz : 1000\n", "ascii")
        keys.add(machine_key(info))
        info.write_text(f"model name : {name}\ncpu MHz : 2000\n", "ascii")
        keys.add(machine_key(info))
    assert len(keys) == 2
