"""Searches that estimate: when they do, what they leave out, and that every weight is solved once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from qcompiler.auto.estimated import WORK, is_large, narrowed
from qcompiler.auto.facts import FLOAT, Bounds, Choice, Group, Problem
from qcompiler.auto.search import SearchOptions, search
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.low_bit.solver import solve_weight
from qcompiler.request import CompileOptions
from tests.passes.graphs import normal
from tests.qcompiler.auto.workbench import mlp

pytest.importorskip("scipy")


def problem_of(parameters: int) -> Problem:
    groups = (Group("a", ("a",), "MatMul", parameters),)
    choices = (
        Choice(FLOAT, ""),
        Choice("int8_static", "int8_static", weight_only=False, bits=8),
        Choice("int4", "int4", weight_only=True, bits=4),
        Choice("int2", "int2", weight_only=True, bits=2),
    )
    return Problem(groups, choices, np.ones((1, 4), np.bool_), np.zeros((1, 4)), shared=((0,),))


def test_it_is_the_work_that_decides() -> None:
    assert not is_large(problem_of(int(WORK / 2)), Bounds(max_bits=4))
    assert is_large(problem_of(int(WORK / 2) + 1), Bounds(max_bits=4))
    assert not is_large(problem_of(int(WORK)), Bounds(max_bits=4), asked=False)
    assert is_large(problem_of(100), Bounds(max_bits=4), asked=True)


@pytest.mark.parametrize(
    "bounds", [Bounds(max_latency_ms=3.0), Bounds(max_latency_ratio=0.5), Bounds(prefer="speed")]
)
def test_what_counts_time_is_measured(bounds: Bounds) -> None:
    assert not is_large(problem_of(10 * int(WORK)), bounds)
    with pytest.raises(OptionError, match="estimates say nothing of it"):
        is_large(problem_of(100), bounds, asked=True)


def test_without_weights_alone_there_is_nothing_to_estimate() -> None:
    problem = problem_of(10 * int(WORK))
    problem = dataclasses.replace(problem, choices=problem.choices[:2], allowed=problem.allowed[:, :2])
    assert not is_large(problem, Bounds(max_bits=4))
    with pytest.raises(OptionError, match="no choice stores weights alone"):
        is_large(problem, Bounds(max_bits=4), asked=True)


def test_activations_stay_in_float_and_it_is_said() -> None:
    found, note = narrowed(problem_of(2_000_000_000))
    assert [choice.name for choice in found.choices] == [FLOAT, "int4", "int2"]
    assert found.allowed.shape == found.stored_bits.shape == (1, 3)
    assert found.estimated
    assert not found.shared
    assert "2000 million parameters" in note
    assert "activations stay in float" in note


def test_a_search_solves_every_weight_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[str] = []

    def counting(matrix, stored, settings, inputs):  # type: ignore[no-untyped-def]
        if settings.solver.from_inputs:
            solved.append(str(matrix.shape))
        return solve_weight(matrix, stored, settings, inputs)

    monkeypatch.setattr("qcompiler.low_bit.write.solve_weight", counting)
    monkeypatch.setattr("qcompiler.auto.problem.candidates.BY_BITS", ("int4:group=32", "int2:group=32"))
    found = search(
        mlp(),
        {"x": normal(120, 32, seed=9)},
        bounds=Bounds(max_bits=4.0),
        metric="relative_error",
        target="ort-cpu:size_first=true",
        output=tmp_path / "net.qc.onnx",
        options=SearchOptions(CompileOptions(verify="numerics", min_cosine=0.5), estimate=True),
    )
    assert len(solved) == 3
    assert found.bits <= 4.0
    assert found.tried == 1
    assert not found.uniform
    assert found.measured.size_bytes == found.predicted.size_bytes == found.result.path.stat().st_size
    assert any("losses are estimated" in note for note in found.notes)
    assert 0 < found.surrogate < 2 * found.predicted.loss  # gptaq undoes part of what estimates add up


def test_memory_that_the_compile_would_exceed_is_refused_before_anything_is_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("estimated")

    monkeypatch.setattr("qcompiler.auto.estimated.estimated_losses", never)
    with pytest.raises(UnsupportedError, match="--max-ram"):
        search(
            mlp(),
            {"x": normal(40, 32, seed=9)},
            bounds=Bounds(max_bits=4.0),
            metric="relative_error",
            output=tmp_path / "net.qc.onnx",
            options=SearchOptions(CompileOptions(max_ram_bytes=1_000_000), estimate=True),
        )
