"""Predicted bytes against the files that are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.auto.facts import FLOAT, Assignment, Problem
from qcompiler.auto.sizes import build_size_bytes, group_bytes, size_table
from qcompiler.load import load_model
from qcompiler.models.catalog import DIGITS
from qcompiler.result import result_files
from tests.qcompiler.auto.workbench import StandInBench, bench_of, mlp, rows

CHOICES = [
    "int8_dynamic",
    "int8_static",
    "int4",
    "int3:group=16:solver=gptq",
    "int4:solver=hqq",
    "nf4:solver=mse",
]


def mixed(problem: Problem, seed: int) -> Assignment:
    picked = np.random.default_rng(seed).integers(0, len(problem.choices), len(problem.groups))
    return {group.name: problem.choices[at].name for group, at in zip(problem.groups, picked, strict=True)}


@pytest.fixture(params=["mlp", "digits"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Problem, StandInBench]:
    if request.param == "mlp":
        return bench_of(mlp(), rows(), CHOICES, tmp_path)
    return bench_of(load_model(DIGITS.onnx), str(DIGITS.calibration), CHOICES, tmp_path)


def test_uniform_assignments_add_up_to_their_files(made: tuple[Problem, StandInBench]) -> None:
    problem, bench = made
    base, table = size_table(problem, bench)
    for column, choice in enumerate(problem.choices):
        uniform = {} if choice.name == FLOAT else problem.uniform(choice.name)
        # an equal part for each group is no whole number: the sum is exact up to float64
        assert base + table[:, column].sum() == pytest.approx(
            build_size_bytes(bench.build(uniform)), abs=1e-3
        )


@pytest.mark.parametrize("seed", range(3))
def test_rounded_codes_take_the_bytes_that_solved_ones_take(
    made: tuple[Problem, StandInBench], seed: int
) -> None:
    problem, bench = made
    assignment = mixed(problem, seed)
    rounded, solved = bench.build(assignment, rounded=True), bench.build(assignment)
    assert rounded.path != solved.path
    assert build_size_bytes(rounded) == build_size_bytes(solved)


@pytest.mark.parametrize("seed", range(3))
def test_mixed_assignments_are_predicted_nearly(made: tuple[Problem, StandInBench], seed: int) -> None:
    problem, bench = made
    base, table = size_table(problem, bench)
    assignment = mixed(problem, seed)
    predicted = base + table[np.arange(len(problem.groups)), problem.indices(assignment)].sum()
    # what neighbours share (scales, functions, codes between them) is not additive: some hundred bytes
    assert predicted == pytest.approx(
        build_size_bytes(bench.build(assignment, rounded=True)), rel=0.02, abs=1500
    )


def test_weights_beside_the_graph_count(
    made: tuple[Problem, StandInBench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcompiler.package.write.EXTERNAL_BYTES", 0)
    problem, bench = made
    solved = bench.build(problem.uniform("int3:group=16:solver=gptq"))
    assert len(result_files(solved.path)) == 2
    assert build_size_bytes(solved) == sum(path.stat().st_size for path in solved.path.parent.iterdir())
    rounded = bench.build(problem.uniform("int3:group=16:solver=gptq"), rounded=True)
    assert build_size_bytes(rounded) == build_size_bytes(solved)


def test_a_manifest_does_not_count(made: tuple[Problem, StandInBench]) -> None:
    problem, bench = made
    built = bench.build(problem.uniform("int4"))
    before = build_size_bytes(built)
    built.path.with_suffix(".manifest.json").write_text("{}")
    assert build_size_bytes(built) == before


def test_a_groups_bytes_are_those_of_its_weight(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), ["int8_dynamic"], tmp_path)
    exact = group_bytes(bench.build({}).deployed, problem, bench.reference)
    quantized = group_bytes(bench.build(problem.uniform("int8_dynamic")).deployed, problem, bench.reference)
    weights = np.array([32 * 64, 64 * 64, 64 * 8])
    # names and frames of a tensor and a node; in integers also scales of columns and their nodes
    assert (np.abs(exact - 4 * weights) < 200).all()
    assert (np.abs(quantized - weights) < 1200).all()


def test_sizes_are_remembered_and_refused_choices_have_none(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), ["int4"], tmp_path)
    problem.allowed[0, 1] = False
    base, table = size_table(problem, bench)
    built = bench.builds
    again = size_table(problem, bench)
    assert bench.builds == built
    assert again[0] == base
    np.testing.assert_array_equal(again[1], table)
    assert np.isnan(table[0, 1])
    uniform = build_size_bytes(bench.build(problem.uniform("int4")))
    assert base + table[0, 0] + table[1:, 1].sum() == pytest.approx(uniform, abs=1e-3)  # float64
