"""A compile that was killed goes on where it stopped, and gives the bytes of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.errors import OutputError
from qcompiler.pipeline.journal import FolderJournal, JournalOf
from qcompiler.result import CompileResult
from qcompiler.sequential.work import model_digest, work_folder
from tests.qcompiler.sequential.networks import residual_model

PASSES = "gptaq:group=16"

KILLED = """
import os, signal, sys
import qcompiler
from qcompiler.pipeline.journal import FolderJournal
recall, solved = FolderJournal.recall, []
def dying(self, key, solve):
    solved.append(key)
    if len(solved) > {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return recall(self, key, solve)
FolderJournal.recall = dying
qcompiler.compile("model.onnx", {passes!r}, calibration="calib.npz", target="onnx", output="out")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ir.save(residual_model(), tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "calib.npz",
        ids=rng.integers(0, 11, (16, 6)),
        tokens_mask=rng.integers(0, 2, (16, 6, 1)),
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compiled(output: str, passes: str = PASSES) -> CompileResult:
    return qcompiler.compile("model.onnx", passes, calibration="calib.npz", target="onnx", output=output)


def work_of(folder: Path) -> Path:
    return folder / ".model.qc.work"


def test_a_killed_compile_gives_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after = 6
    script = KILLED.format(after=after, passes=PASSES)
    ended = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    kept = [path.name for path in work_of(folder / "out").rglob("*") if path.is_file()]
    assert sum(name.endswith(".npz") for name in kept) == after
    assert sum(name.startswith("boundary") for name in kept) == 2  # the bytes and their index

    solved: list[str] = []
    recall = JournalOf.recall

    def counting(self, key, solve):  # type: ignore[no-untyped-def]
        return recall(self, key, lambda: solved.append(key) or solve())  # type: ignore[func-returns-value]

    monkeypatch.setattr(JournalOf, "recall", counting)
    resumed = compiled("out")
    again = len(solved)
    whole = compiled("whole")
    assert again == len(solved) - again - after
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert resumed.manifest == whole.manifest
    assert not work_of(folder / "out").exists()


def test_what_another_compile_left_is_discarded(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = compiled("whole", "gptq:group=16")
    script = KILLED.format(after=3, passes=PASSES)
    subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, timeout=120)
    assert work_of(folder / "out").exists()
    resumed = compiled("out", "gptq:group=16")
    assert "another recipe): discarded" in caplog.text
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert not work_of(folder / "out").exists()


def test_a_failure_before_anything_is_solved_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out" / "m.onnx"
    with pytest.raises(KeyboardInterrupt), work_folder(output, {"model": "1"}):
        raise KeyboardInterrupt
    assert not (output.parent / ".m.work").exists()


def test_two_compiles_to_one_place_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "m.onnx"
    with work_folder(output, {"model": "1"}) as kept:
        with (
            pytest.raises(OutputError, match=rf"still runs \(process {os.getpid()}\): wait for it, or"),
            work_folder(output, {"model": "2"}),
        ):
            pass
        assert sorted(path.name for path in kept.iterdir()) == ["key.json", "lock"]
    assert not list(tmp_path.iterdir())


HOLDER = """
import sys, time
from pathlib import Path
from qcompiler.sequential.work import work_folder
with work_folder(Path("m.onnx"), {"model": "1"}) as kept:
    (kept / "solved").touch()
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=rf"process {holder.pid}"):
            work_folder(tmp_path / "m.onnx", {"model": "1"}).__enter__()
    finally:
        holder.kill()
        holder.communicate()
    with work_folder(tmp_path / "m.onnx", {"model": "1"}) as kept:
        assert (kept / "solved").exists()
    assert "going on from there" in caplog.text


def interrupted(output: Path) -> None:
    with work_folder(output, {"model": "1"}) as kept:
        FolderJournal(kept).recall("a", lambda: {"x": np.ones(3, np.uint8)})
        raise KeyboardInterrupt


def test_a_failure_later_keeps_what_was_solved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = tmp_path / "m.onnx"
    with pytest.raises(KeyboardInterrupt):
        interrupted(output)
    assert "the same compile goes on from there" in caplog.text
    with work_folder(output, {"model": "1"}) as kept:
        found = FolderJournal(kept).recall("a", dict)
        assert found["x"].tolist() == [1, 1, 1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [np.dtype("f4").newbyteorder("<"), np.dtype("u1"), np.dtype("f2")])
def test_arrays_come_back_as_they_were(tmp_path: Path, dtype: np.dtype[np.generic]) -> None:
    """Little-endian by name too, as mapped weights are."""
    array = np.arange(6).reshape(2, 3).astype(dtype).T
    FolderJournal(tmp_path).recall("a", lambda: {"x": array})
    found = FolderJournal(tmp_path).recall("a", dict)["x"]
    assert found.dtype == array.dtype
    assert found.flags.f_contiguous
    np.testing.assert_array_equal(found, array)


def test_a_type_that_numpy_cannot_store_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="own types"):
        FolderJournal(tmp_path).recall("a", lambda: {"x": np.zeros(3, ml_dtypes.int4)})


def test_what_cannot_be_read_is_solved_again(tmp_path: Path) -> None:
    journal = FolderJournal(tmp_path)
    journal.recall("a", lambda: {"x": np.ones(3)})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    assert journal.recall("a", lambda: {"x": np.zeros(3)})["x"].tolist() == [0, 0, 0]


def test_the_digest_of_a_model_sees_every_weight_and_node() -> None:
    digests = {model_digest(residual_model()), model_digest(residual_model())}
    other = residual_model()
    array = np.array(other.graph.initializers["wo_1"].const_value.numpy())  # type: ignore[union-attr]
    array[3, 4] = np.nextafter(array[3, 4], np.float32(9))
    other.graph.initializers["wo_1"].const_value = ir.tensor(array, name="wo_1")
    digests.add(model_digest(other))
    renamed = residual_model()
    renamed.graph[0].name = "another"
    digests.add(model_digest(renamed))
    assert len(digests) == 3
    proto = ir.to_proto(residual_model())
    assert model_digest(ir.from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))) in digests
