"""Energies of errors against rows multiplied one by one, and losses that follow from two measured ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from qcompiler.auto.facts import Problem
from qcompiler.auto.losses import second_order
from qcompiler.auto.losses.second_order import Energies, anchors_of, between, ordered_columns
from qcompiler.auto.losses.sensitivity import loss_feeds, loss_table
from qcompiler.auto.losses.switchboard import Switchboard
from qcompiler.auto.metrics.metric import open_metric
from qcompiler.pipeline.base import NodeDecision, PassReport
from qcompiler.verify.observed import OracleModel
from tests.qcompiler.auto.workbench import bench_of, mlp, rows

CHOICES = ["int8", "int4", "int4:group=16", "int3:group=16", "int2:group=16"]


def with_bits(problem: Problem) -> Problem:
    choices = [
        dataclasses.replace(each, bits=int(each.words[3]) if each.weight_only else 32)
        for each in problem.choices
    ]
    return dataclasses.replace(problem, choices=tuple(choices))


def test_energy_is_the_mean_square_that_an_error_adds_to_the_output(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), ["int4"], tmp_path)
    feeds = loss_feeds(bench)
    board = Switchboard(bench.build(problem.uniform("int4")).dialect, problem.groups, threads=1)
    energies = Energies(problem, bench, feeds)
    inputs = OracleModel(bench.reference, threads=1).session(["b", "d"])
    for group, value in zip(problem.groups, ("x", "b", "d"), strict=True):
        errors = board.errors(group)
        assert errors is not None
        x = np.concatenate(
            [np.asarray({**feed, **inputs.run({"x": feed["x"]})}[value], np.float64) for feed in feeds]
        )
        expected = np.square(x @ errors[group.name].astype(np.float64)).sum(axis=1).mean()
        # Gram matrices and products in float32
        assert energies.of(group, errors) == pytest.approx(expected, rel=1e-4)


def test_errors_are_what_codes_stand_for_less_the_weight(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), ["int4"], tmp_path)
    board = Switchboard(bench.build(problem.uniform("int4")).dialect, problem.groups, threads=1)
    for group, name in zip(problem.groups, ("w1", "w2", "w3"), strict=True):
        errors = board.errors(group)
        tensor = bench.reference.graph.initializers[name].const_value
        assert errors is not None
        assert tensor is not None
        weight = tensor.numpy()
        step = (weight.max() - weight.min()) / 15
        assert errors[group.name].shape == weight.shape
        assert 0 < np.abs(errors[group.name]).max() <= step / 2 * 1.01  # scales are rounded to float16


def test_the_line_passes_through_what_was_measured() -> None:
    low, high = (1e-4, 2e-5), (1e-2, 1e-2)
    assert between(1e-4, low, high) == pytest.approx(2e-5)  # exponentials of logarithms
    assert between(1e-2, low, high) == pytest.approx(1e-2)
    assert 2e-5 < between(1e-3, low, high) < 1e-2
    assert between(1e-3, high, low) == between(1e-3, low, high)
    assert between(0.0, low, high) == 0.0


def test_without_two_losses_the_loss_is_proportional_to_the_energy() -> None:
    assert between(2e-3, (1e-3, 0.0), (1e-2, 0.5)) == pytest.approx(0.1)
    assert between(2e-3, (1e-2, 0.5), (1e-2, 0.5)) == pytest.approx(0.1)
    assert between(2e-3, (1e-3, 0.0), (1e-2, 0.0)) == 0.0


def test_most_and_fewest_bits_are_measured_first(tmp_path: Path) -> None:
    problem = with_bits(
        bench_of(mlp(), rows(), ["int4", "int8_dynamic", "int8", "int2:group=16"], tmp_path)[0]
    )
    anchors = anchors_of(problem)
    assert anchors is not None
    assert (anchors.most_bits, anchors.fewest_bits) == (3, 4)
    assert ordered_columns(problem, anchors) == [2, 3, 4, 1]
    few = with_bits(bench_of(mlp(), rows(), ["int4", "int8"], tmp_path / "few")[0])
    assert anchors_of(few) is None


def test_losses_that_follow_are_near_those_that_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, bench = bench_of(mlp(), rows(80), CHOICES, tmp_path)
    problem = with_bits(problem)
    metric = open_metric("relative_error", bench.reference, bench.samples.held_out)
    found = loss_table(problem, bench, metric)
    bench.journal = type(bench.journal)()
    monkeypatch.setattr(second_order, "FEWEST", 99)
    measured = loss_table(problem, bench, metric)
    for column, choice in enumerate(problem.choices):
        if choice.words in ("", "int8", "int2:group=16"):
            np.testing.assert_array_equal(found[:, column], measured[:, column])
        else:
            # second order, on few rows of 8 outputs; choices lie factors of 4 and more apart
            assert (np.abs(np.log(found[:, column] / measured[:, column])) < np.log(1.6)).all()
    assert (np.diff(found[:, [1, 2, 4, 5]], axis=1) > 0).all()


def test_weights_of_fewer_bits_add_to_what_the_same_activations_lose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = ["int8_dynamic", "int8_dynamic:weights=int4:solver=rtn", "int8_dynamic:weights=int3:solver=rtn"]
    problem, bench = bench_of(mlp(), rows(80), [*CHOICES, *narrow], tmp_path)
    problem = with_bits(problem)
    assert [problem.wide(column) for column in range(len(problem.choices))] == [None] * 7 + [6, 6]
    metric = open_metric("relative_error", bench.reference, bench.samples.held_out)
    found = loss_table(problem, bench, metric)
    bench.journal = type(bench.journal)()
    monkeypatch.setattr(second_order, "FEWEST", 99)
    measured = loss_table(problem, bench, metric)
    np.testing.assert_array_equal(found[:, 6], measured[:, 6])
    # second order, on few rows of 8 outputs; 3 bits lose 4 times what 4 bits do
    assert (np.abs(np.log(found[:, 7:] / measured[:, 7:])) < np.log(1.6)).all()


def test_models_with_large_matrices_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, bench = bench_of(mlp(), rows(), CHOICES, tmp_path)
    monkeypatch.setattr(second_order, "GRAM_BYTES", 1000)
    assert not any(Energies(problem, bench, []).covers(group) for group in problem.groups)


def test_transformed_weights_are_measured_choice_by_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, bench = bench_of(mlp(), rows(), CHOICES, tmp_path)
    problem = with_bits(problem)
    for choice in problem.choices[1:]:
        built = bench.build(problem.uniform(choice.name))
        decision = NodeDecision("first", "MatMul", "transformed", "scaled")
        key = (tuple(sorted(problem.uniform(choice.name).items())), False)
        bench._built[key] = dataclasses.replace(built, passes=(PassReport("awq", (decision,)), *built.passes))

    def never(*args: object) -> float:
        raise AssertionError("took an energy")

    monkeypatch.setattr(Energies, "of", never)
    table = loss_table(problem, bench, open_metric("relative_error", bench.reference, bench.samples.held_out))
    assert np.isfinite(table).all()
