"""Energies of solved errors that are estimated from a sample of columns, against weights that are solved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.auto.facts import Problem, Table
from qcompiler.auto.losses import columns
from qcompiler.auto.losses.columns import (
    context_of,
    find_energies,
    format_of,
    noise_choice,
    noise_of,
    owners_of,
)
from qcompiler.auto.losses.second_order import Energies
from qcompiler.auto.losses.switchboard import Switchboard
from qcompiler.auto.problem.roles import find_roles
from qcompiler.pipeline.journal import Journal
from tests.qcompiler.auto.losses.test_second_order import with_bits
from tests.qcompiler.auto.workbench import StandInBench, bench_of, mlp, rows

SOLVED = [
    f"int{bits}:group={size}:solver=gptq:sequential=false"
    for bits, size in ((4, 16), (4, 32), (3, 16), (2, 16))
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Problem, StandInBench]:
    """Three products of correlated inputs."""
    mixing = np.random.default_rng(3).normal(size=(32, 32)) * np.linspace(0.05, 1, 32)
    data = {"x": (np.asarray(rows(200)["x"]) @ mixing).astype(np.float32)}
    problem, bench = bench_of(
        mlp(), data, [*SOLVED, "int4:group=16:solver=mse"], tmp_path_factory.mktemp("m")
    )
    return with_bits(problem), bench


def solved_energies(problem: Problem, bench: StandInBench) -> Table:
    """Of every weight solved for every choice."""
    assert bench.samples.calibration is not None
    energies = Energies(problem, bench, list(bench.samples.calibration))
    found = np.zeros(problem.allowed.shape)
    for column, choice in enumerate(problem.choices[1:], 1):
        board = Switchboard(bench.build(problem.uniform(choice.name)).dialect, problem.groups, threads=1)
        for row, group in enumerate(problem.groups):
            errors = board.errors(group)
            assert errors is not None
            found[row, column] = energies.of(group, errors)
    return found


def estimated(problem: Problem, bench: StandInBench, folder: Path, *, anew: bool = True) -> columns.Energies:
    bench.journal = Journal() if anew else bench.journal
    assert bench.samples.calibration is not None
    roles = find_roles(problem, bench.reference)
    return find_energies(problem, bench, roles, list(bench.samples.calibration), folder)


def test_estimates_are_near_what_solved_weights_have(
    opened: tuple[Problem, StandInBench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "COLUMNS", 32)
    monkeypatch.setattr(columns, "SOLVED_COLUMNS", 16)
    problem, bench = opened
    found, exact = estimated(problem, bench, tmp_path).solved, solved_energies(problem, bench)
    assert (found[:, 0] == 0).all()
    # 16 columns of 64 are solved and 32 rounded: energies of columns differ by tens of per cent
    assert (np.abs(np.log(found[:, 1:] / exact[:, 1:])) < np.log(1.35)).all()
    assert (found[:, 3] > 2 * found[:, 1]).all()


def test_all_columns_of_what_is_rounded_give_its_own_energy(
    opened: tuple[Problem, StandInBench], tmp_path: Path
) -> None:
    problem, bench = opened
    found, exact = estimated(problem, bench, tmp_path).solved, solved_energies(problem, bench)
    np.testing.assert_allclose(found[:, -1], exact[:, -1], rtol=1e-4)  # float32 products in another order


def test_a_search_that_goes_on_observes_nothing_again(
    opened: tuple[Problem, StandInBench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, bench = opened
    first = estimated(problem, bench, tmp_path)

    def never(*args: object) -> None:
        raise AssertionError("ran the model")

    monkeypatch.setattr(columns, "_answers", never)
    again = estimated(problem, bench, tmp_path, anew=False)
    np.testing.assert_array_equal(first.solved, again.solved)
    assert first.rounded == again.rounded


def test_noise_is_the_error_of_rounding_to_nearest(opened: tuple[Problem, StandInBench]) -> None:
    problem, bench = opened
    owner = owners_of(problem, bench)[0]
    column = noise_choice(problem, 0)
    assert column is not None
    assert problem.choices[column].bits == columns.NOISE_BITS
    stored = format_of(problem, column, owner.view, context_of(bench))
    matrix = owner.view.matrix()
    noise, groups = noise_of(matrix, stored), matrix.reshape(-1, 16, matrix.shape[1])
    step = (groups.max(axis=1) - groups.min(axis=1)).repeat(16, axis=0) / 15
    assert (
        np.abs(noise) <= step * 0.6
    ).all()  # half a step; zero points and 16-bit scales take a little more
    assert np.abs(noise).max() > 0
