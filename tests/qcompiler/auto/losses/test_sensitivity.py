"""Losses of single groups against models that are built with that group alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.auto.facts import FLOAT
from qcompiler.auto.losses import sensitivity
from qcompiler.auto.losses.sensitivity import loss_feeds, loss_table, unseen_feeds
from qcompiler.auto.losses.switchboard import Switchboard
from qcompiler.auto.losses.yardstick import Yardstick
from qcompiler.auto.metrics.metric import open_metric
from qcompiler.load import load_model
from qcompiler.models.catalog import DIGITS
from qcompiler.verify.observed import OracleModel
from tests.qcompiler.auto.workbench import StandInBench, bench_of, mlp, rows

CHOICES = ["int8_dynamic", "int8_static", "int4", "int3:group=16:solver=gptq"]


def losses(bench: StandInBench, kind: str = "relative_error") -> Yardstick:
    return Yardstick.of(bench.reference, loss_feeds(bench), kind="kl" if kind == "kl" else "relative_error")


def built_alone(bench: StandInBench, group: str, choice: str) -> float:
    dialect = bench.build({group: choice}).dialect
    return losses(bench).loss(OracleModel(dialect, threads=1).session(["y"]))


def test_weights_alone_cost_what_a_model_with_that_group_alone_costs(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), ["int4", "int2:group=16"], tmp_path)
    table = loss_table(problem, bench, open_metric("relative_error", bench.reference, bench.samples.held_out))
    assert (table[:, problem.choice(FLOAT)] == 0).all()
    for row, group in enumerate(problem.groups):
        for name in ("int4", "int2:group=16"):
            expected = built_alone(bench, group.name, name)
            # the same weights in the same graph; the runtime adds up in another order where it fuses
            assert table[row, problem.choice(name)] == pytest.approx(expected, rel=1e-3)


def test_dynamic_activations_cost_what_a_model_with_that_group_alone_costs(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), ["int8_dynamic"], tmp_path)
    table = loss_table(problem, bench, open_metric("relative_error", bench.reference, bench.samples.held_out))
    for row, group in enumerate(problem.groups):
        # codes at a boundary may fall to the other side: one of thousands
        assert table[row, 1] == pytest.approx(built_alone(bench, group.name, "int8_dynamic"), rel=0.02)


def test_static_activations_cost_about_what_a_model_with_that_group_alone_costs(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), ["int8_static"], tmp_path)
    table = loss_table(problem, bench, open_metric("relative_error", bench.reference, bench.samples.held_out))
    for row, group in enumerate(problem.groups):
        alone = built_alone(bench, group.name, "int8_static")
        # alone, a node may also give codes; here what follows reads them, and they count for that one
        assert 0.3 * alone < table[row, 1] < 3 * alone


def test_all_switches_off_is_float_and_all_on_is_the_dialect(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), CHOICES, tmp_path)
    feed = next(iter(bench.samples.held_out))
    for choice in CHOICES:
        dialect = bench.build(problem.uniform(choice)).dialect
        board = Switchboard(dialect, problem.groups, threads=1)
        exact, quantized = (
            np.asarray(OracleModel(model, threads=1).session(["y"]).run({"x": feed["x"]})["y"], np.float32)
            for model in (bench.reference, dialect)
        )
        board.switch(())
        # order of additions in float32
        np.testing.assert_allclose(board.run(feed)["y"], exact, atol=1e-5)
        board.switch([group.name for group in problem.groups])
        # as above, and a code may flip at a boundary: a hundredth of the output's range
        np.testing.assert_allclose(board.run(feed)["y"], quantized, atol=0.05)
        assert np.abs(board.run(feed)["y"] - quantized).mean() < 0.005


def test_losses_add_up(tmp_path: Path) -> None:
    problem, bench = bench_of(
        load_model(DIGITS.onnx), str(DIGITS.calibration), ["int4", "int8_static"], tmp_path
    )
    table = loss_table(problem, bench, open_metric("kl", bench.reference, bench.samples.held_out))
    for name in ("int4", "int8_static"):
        dialect = bench.build(problem.uniform(name)).dialect
        session = OracleModel(dialect, threads=1).session(["logits"])
        together = losses(bench, "kl").loss(session)
        # of second order in independent errors: the sum up to what they have in common
        assert 0.4 * together < table[:, problem.choice(name)].sum() < 2.5 * together


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), CHOICES, tmp_path)
    metric = open_metric("relative_error", bench.reference, bench.samples.held_out)
    first = loss_table(problem, bench, metric)
    built = bench.builds
    bench._built.clear()
    np.testing.assert_array_equal(loss_table(problem, bench, metric), first)
    assert bench.builds == built


def test_a_choice_that_is_not_allowed_is_not_measured(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), ["int4"], tmp_path)
    problem.allowed[1, 1] = False
    table = loss_table(problem, bench, open_metric("relative_error", bench.reference, bench.samples.held_out))
    assert np.isnan(table[1, 1])
    assert np.isfinite(table[[0, 2], 1]).all()


def test_groups_are_built_alone_where_more_was_changed_than_switches_undo(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), ["int4"], tmp_path)
    metric = open_metric("relative_error", bench.reference, bench.samples.held_out)
    bias = ir.tensor(np.full(8, 0.5, np.float32))
    uniform = bench.build(problem.uniform("int4"))
    add = next(node for node in uniform.dialect.graph if node.name == "skip")
    value = ir.Value(
        name="extra", const_value=bias, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.FLOAT)
    )
    value.const_value = ir.tensor(np.full(1, 0.5, np.float32), name="extra")
    uniform.dialect.graph.register_initializer(value)
    add.replace_input_with(0, value)
    table = loss_table(problem, bench, metric)
    for row, group in enumerate(problem.groups):
        assert table[row, 1] == pytest.approx(
            built_alone(bench, group.name, "int4"), rel=1e-6
        )  # the same session


def test_whole_models_are_measured_on_what_is_held_out(tmp_path: Path) -> None:
    _, bench = bench_of(mlp(), rows(600), ["int8"], tmp_path)
    found = np.concatenate([feed["x"] for feed in unseen_feeds(bench)])
    held_out = np.concatenate([feed["x"] for feed in bench.samples.held_out])
    assert len(held_out) > sensitivity.FEEDS
    np.testing.assert_array_equal(found, held_out[: sensitivity.JUDGED_FEEDS])


def test_where_too_little_is_held_out_calibration_data_follows(tmp_path: Path) -> None:
    _, bench = bench_of(mlp(), rows(40), ["int8"], tmp_path)
    found = np.concatenate([feed["x"] for feed in unseen_feeds(bench)])
    held_out = np.concatenate([feed["x"] for feed in bench.samples.held_out])
    assert bench.samples.calibration is not None
    seen = np.concatenate([feed["x"] for feed in bench.samples.calibration])
    expected = np.concatenate([held_out, seen[: sensitivity.FEEDS]])
    np.testing.assert_array_equal(found, expected)


def test_of_large_models_fewer_rows_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bench = bench_of(mlp(), rows(600), ["int8"], tmp_path)
    assert len(loss_feeds(bench)) == sensitivity.FEEDS  # of a row each
    monkeypatch.setattr(sensitivity, "ROW_BYTES", 1.0)
    monkeypatch.setattr(sensitivity, "LEAST_ROWS", 3)
    assert sum(len(feed["x"]) for feed in loss_feeds(bench)) == 3
