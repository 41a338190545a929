"""A search that is killed goes on from what it has measured and compiled, and ends as if nothing had happened."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from qcompiler.auto import compiled
from qcompiler.auto.judge import Judge
from qcompiler.auto.outcome import SearchResult
from qcompiler.driver import compile_request
from qcompiler.report.gather import gather
from tests.qcompiler.auto.killed_search import UNIFORM, searched
from tests.qcompiler.auto.workbench import mlp

pytest.importorskip("scipy")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")

ROOT = Path(__file__).parents[3]
UNTIMED = "onnx"
"""A target whose models are not timed: two searches measure the same."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "mlp.onnx"
    ir.save(mlp(), path)
    return path


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A search that nobody killed."""
    return searched(model, tmp_path_factory.mktemp("whole") / "net.onnx", UNTIMED)


def killed(model: Path, output: Path, target: str, point: str) -> None:
    words = [str(model), str(output), target, point]
    command = [sys.executable, "-m", "tests.qcompiler.auto.killed_search", *words]
    environment = os.environ | {"XDG_CACHE_HOME": str(output.parent / "cache"), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == -9, ended.stderr


def digests(found: SearchResult) -> Mapping[str, str]:
    folder = found.result.path.parent
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(f"{found.result.path.stem}*"))
        if path.is_file()
    }


def counted(monkeypatch: pytest.MonkeyPatch, holder: object, name: str) -> list[object]:
    real: Callable[..., Any] = getattr(holder, name)
    calls: list[object] = []

    def called(*given: Any, **options: Any) -> Any:
        calls.append(given)
        return real(*given, **options)

    monkeypatch.setattr(holder, name, called)
    return calls


@pytest.mark.parametrize(
    ("point", "judged", "compiled_before"),
    [("measuring", 2, 0), ("compiling", UNIFORM + 1, 1), ("judging", UNIFORM + 1, 2)],
)
def test_a_killed_search_ends_as_one_that_was_not(
    whole: SearchResult,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    judged: int,
    compiled_before: int,
) -> None:
    killed(model, tmp_path / "net.onnx", UNTIMED, point)
    judgements = counted(monkeypatch, Judge, "judge")
    compiles = counted(monkeypatch, compiled, "compile_request")
    found = searched(model, tmp_path / "net.onnx", UNTIMED)
    assert len(judgements) == UNIFORM + whole.tried - judged
    assert len(compiles) == whole.tried - compiled_before
    assert digests(found) == digests(whole)
    assert (found.assignment, found.predicted, found.measured) == (
        whole.assignment,
        whole.predicted,
        whole.measured,
    )
    assert found.considered == whole.considered
    assert not list(tmp_path.glob(".*"))


def test_what_was_measured_decides_and_is_not_measured_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times differ from run to run, and the journal's count, also where the cache of timings is gone."""
    first, second = tmp_path / "first" / "net.onnx", tmp_path / "second" / "net.onnx"
    killed(model, first, "ort-cpu", "publishing")
    shutil.copytree(first.with_name(".net.work"), second.with_name(".net.work"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    for name in (
        "judge.Judge.judge",
        "compiled.compile_request",
        "latency.table.time_model",
        "latency.deployed.time_model",
        "builds.build",
    ):
        monkeypatch.setattr(f"qcompiler.auto.{name}", lambda *_, **__: pytest.fail("done again"))
    ended = [searched(model, output, "ort-cpu") for output in (first, second)]
    assert digests(ended[0]) == digests(ended[1])
    assert ended[0].measured == ended[1].measured


def test_a_result_that_was_read_back_says_what_its_compile_said(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published result always is read back; here it is compared with what the compiles returned."""
    made = {}
    real = compile_request

    def remembered(*given: Any) -> Any:
        result = real(*given)
        made[hashlib.sha256(result.path.read_bytes()).hexdigest()] = result
        return result

    monkeypatch.setattr(compiled, "compile_request", remembered)
    found = searched(model, tmp_path / "net.onnx", UNTIMED)
    result = found.result
    expected = made[hashlib.sha256(result.path.read_bytes()).hexdigest()]
    assert result.verification == expected.verification
    assert result.passes == expected.passes
    assert result.origin is not None
    assert expected.origin is not None
    dialect, of_compile = (ir.to_proto(origin.dialect) for origin in (result.origin, expected.origin))
    assert dialect.SerializeToString(deterministic=True) == of_compile.SerializeToString(deterministic=True)
    facts, of_facts = (gather(each, model).nodes for each in (result, expected))
    assert facts == of_facts


def test_a_candidate_that_was_changed_is_compiled_again(
    whole: SearchResult,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    killed(model, tmp_path / "net.onnx", UNTIMED, "publishing")
    for path in (tmp_path / ".net.work" / "candidates").glob("*/net.onnx"):
        path.write_bytes(path.read_bytes()[:-1])
    compiles = counted(monkeypatch, compiled, "compile_request")
    found = searched(model, tmp_path / "net.onnx", UNTIMED)
    assert len(compiles) == whole.tried
    assert "is not what was proven: compiled again" in caplog.text
    assert digests(found) == digests(whole)
