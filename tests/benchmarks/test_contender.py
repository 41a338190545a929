"""A compile in a fresh process reports its cost, and a failure becomes a row, not an exception."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.compare import FLOAT, Task, compare, ours
from benchmarks.contender import OURS, Contender, Job, run_job
from benchmarks.results_file import Scores
from qcompiler.models.catalog import DIGITS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


def test_cost_of_a_compile(tmp_path: Path) -> None:
    job = Job(
        contender=Contender(tool=OURS, passes="int8_dynamic"),
        model=DIGITS.onnx.resolve(),
        output=tmp_path / "out.onnx",
        verify="none",
    )
    cost = run_job(job)
    assert cost.failure == ""
    assert job.output.exists()
    # The interpreter with NumPy and the runtime takes over 30 MB; the model is 0.2 MB.
    assert 30e6 < cost.peak_bytes < 2e9


def test_a_contender_that_fails_is_a_row_with_the_reason(tmp_path: Path) -> None:
    task = Task(model=DIGITS.onnx.resolve(), score=lambda path: Scores(own={"size": 1.0}), timings={})
    rows = compare(task, ours("no_such_pass"), tmp_path)
    assert [row.name for row in rows] == [FLOAT, f"{OURS} no_such_pass"]
    assert "no_such_pass" in rows[1].failure
    assert rows[1].size_bytes is None
