"""Losses that noise foretells, against losses of solved weights that are measured one group at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.auto.losses import second_order
from qcompiler.auto.losses.columns import find_energies
from qcompiler.auto.losses.noise import LEAST_FACTOR, MOST_FACTOR, NoiseLosses, put_right
from qcompiler.auto.losses.sensitivity import loss_feeds, loss_table
from qcompiler.auto.losses.yardstick import Yardstick
from qcompiler.auto.metrics.metric import open_metric
from qcompiler.auto.problem.roles import find_roles
from tests.qcompiler.auto.losses.test_second_order import with_bits
from tests.qcompiler.auto.workbench import bench_of, mlp, rows

SOLVED = [f"int{bits}:group=16:solver=gptq:sequential=false" for bits in (8, 4, 3, 2)]


def test_losses_are_near_those_that_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, bench = bench_of(mlp(), rows(200), SOLVED, tmp_path)
    problem = with_bits(problem)
    assert bench.samples.calibration is not None
    roles = find_roles(problem, bench.reference)
    energies = find_energies(problem, bench, roles, list(bench.samples.calibration), tmp_path)
    yardstick = Yardstick.of(bench.reference, loss_feeds(bench), kind="relative_error")
    found = NoiseLosses(problem, bench, yardstick, roles, energies).table()
    monkeypatch.setattr(second_order, "FEWEST", 99)
    metric = open_metric("relative_error", bench.reference, bench.samples.held_out)
    measured = loss_table(problem, bench, metric)
    assert (found[:, 0] == 0).all()
    # one draw of noise in the place of another error, on few rows of 8 outputs; choices lie factors of 4 and more apart
    assert (np.abs(np.log(found[:, 1:] / measured[:, 1:])) < np.log(2)).all()
    assert (np.diff(found, axis=1) > 0).all()


def test_what_is_not_allowed_stays_unknown(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(40), ["int4:group=16", "int2:group=16"], tmp_path)
    problem = with_bits(problem)
    problem.allowed[1, 2] = False
    roles = find_roles(problem, bench.reference)
    energies = find_energies(problem, bench, roles, loss_feeds(bench), tmp_path)
    yardstick = Yardstick.of(bench.reference, loss_feeds(bench), kind="relative_error")
    found = NoiseLosses(problem, bench, yardstick, roles, energies).table()
    np.testing.assert_array_equal(np.isnan(found), ~problem.allowed)


def test_choices_add_up_to_what_they_lose_everywhere() -> None:
    losses = np.array([[0.0, 0.1, 1.0, 3.0], [0.0, 0.3, 1.0, 6.0]])
    found = put_right(losses, {1: 0.4, 3: 18.0})
    np.testing.assert_allclose(found.sum(axis=0)[[0, 1, 3]], [0.0, 0.4, 18.0], rtol=1e-12)
    assert 2.0 < found[:, 2].sum() < 4.0  # its factor lies between theirs
    far = put_right(losses, {1: 0.0001, 3: 900.0})
    np.testing.assert_allclose(far[:, 1], LEAST_FACTOR * losses[:, 1])
    np.testing.assert_allclose(far[:, 3], MOST_FACTOR * losses[:, 3])
    np.testing.assert_array_equal(put_right(losses, {}), losses)
