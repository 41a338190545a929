"""Scratch folders go away, also those of processes that were killed, and never those of processes that run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qcompiler.package import scratch
from qcompiler.package.scratch import PREFIX, scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from qcompiler.package.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("written")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)


def test_a_folder_is_gone_afterwards_whatever_happens(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_folder(tmp_path) as folder:
            (folder / "file").touch()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    assert other.stdout is not None
    folder = Path(other.stdout.readline().strip())
    try:
        with scratch_folder(tmp_path):
            assert (folder / "half").exists()
    finally:
        other.kill()
        other.wait()
    assert folder.exists()
    with scratch_folder(tmp_path):
        assert not folder.exists()


def test_a_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / f"{PREFIX}file"
    file.touch()
    with scratch_folder(tmp_path):
        pass
    assert file.exists()


def test_a_folder_that_another_process_removes_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = scratch._locked
    stolen: list[Path] = []

    def robbed(folder: Path) -> int | None:
        if not stolen:
            stolen.append(folder)
            folder.rmdir()
        return lock(folder)

    monkeypatch.setattr(scratch, "_locked", robbed)
    with scratch_folder(tmp_path) as folder:
        assert folder.is_dir()
    assert stolen
    assert stolen[0] != folder
    assert not list(tmp_path.iterdir())
