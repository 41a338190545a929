"""Latency tables from timings that are made up, so that sums are known; and what is kept of real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.auto.facts import FLOAT, Boundary, Group, Problem
from qcompiler.auto.latency import cache, deployed, table
from qcompiler.auto.latency.cache import cached_timing, timing_key
from qcompiler.auto.latency.deployed import measured_ms
from qcompiler.auto.latency.exchanges import excess_by_edge, two_colours
from qcompiler.auto.latency.homes import Homes
from qcompiler.auto.latency.in_situ import Kernel, Timing, corrected, time_model
from qcompiler.auto.latency.table import LatencyTable, _Measuring, latency_table, timing_feed
from qcompiler.errors import UnsupportedError
from qcompiler.graph.weighted import weighted_nodes
from qcompiler.measure.profile import NodeTime, profile_nodes
from qcompiler.measure.sessions import Feed
from qcompiler.pipeline.journal import Journal
from qcompiler.pipeline.parse import parse_target
from tests.qcompiler.auto.workbench import StandInBench, bench_of, mlp, rows

COST_MS = {
    "MatMul": 4.0,
    "DynamicQuantizeMatMul": 1.0,
    "MatMulIntegerToFloat": 1.0,
    "MatMulNBits": 2.0,
    "QLinearMatMul": 0.5,
}
CHOICES = ["int8_dynamic", "int4", "int8_static"]


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Problem, StandInBench]:
    """Every kernel takes what its type costs, on a machine that is slower for some models than for others."""

    def timed(path: Path, float_path: Path, feed: Feed, *, threads: int, profiled: bool = True) -> Timing:
        del float_path
        kernels = profile_nodes(path, feed, runs=1, warmup_runs=1, threads=threads).values()
        slowness = 1.0 + int(path.parent.name.rpartition("_")[2]) / 10
        found = tuple(Kernel(k.name, k.op_type, slowness * COST_MS.get(k.op_type, 0.1)) for k in kernels)
        total = sum(kernel.ms for kernel in found)
        return Timing(total, 10.0 * slowness, found if profiled else ())

    monkeypatch.setattr(table, "time_model", timed)
    monkeypatch.setattr(deployed, "time_model", timed)
    return bench_of(mlp(), rows(), CHOICES, tmp_path / "bench")


def measured(bench: StandInBench, problem: Problem, picked: list[int], float_ms: float) -> float:
    names = [problem.choices[at].name for at in picked]
    assignment = {g.name: n for g, n in zip(problem.groups, names, strict=True) if n != FLOAT}
    return measured_ms(bench.build(assignment).path, bench, float_ms)


def test_uniform_models_are_predicted_as_they_were_measured(made: tuple[Problem, StandInBench]) -> None:
    problem, bench = made
    table = latency_table(problem, bench)
    for column in range(len(problem.choices)):
        picked = [column] * len(problem.groups)
        # sums of float64, divided and multiplied by how slow the machine was
        assert table.predict(np.array(picked)) == pytest.approx(
            measured(bench, problem, picked, table.float_ms), rel=1e-9
        )


@pytest.mark.parametrize("picked", [[0, 2, 1], [2, 0, 2], [1, 2, 0]])
def test_mixed_models_without_codes_between_nodes_add_up(
    made: tuple[Problem, StandInBench], picked: list[int]
) -> None:
    problem, bench = made
    table = latency_table(problem, bench)
    # what is quantized for two readers is shared by them: tenths of a millisecond of about 9
    assert table.predict(np.array(picked)) == pytest.approx(
        measured(bench, problem, picked, table.float_ms), rel=0.03
    )


def test_boundaries_make_up_for_codes_that_are_made_between_nodes(made: tuple[Problem, StandInBench]) -> None:
    problem, bench = made
    table = latency_table(problem, bench)
    assert table.boundaries
    for picked in ([3, 0, 3], [0, 3, 0]):
        expected = measured(bench, problem, picked, table.float_ms)
        cells = table.base_ms + table.table[np.arange(3), picked].sum()
        found = table.predict(np.array(picked))
        assert abs(found - expected) <= abs(cells - expected) + 1e-9
        # two of the three pairs of neighbours are measured, and the third (a residual sum) is taken as their mean
        assert found == pytest.approx(expected, rel=0.05)


def test_boundaries_are_between_codes_and_everything_else(made: tuple[Problem, StandInBench]) -> None:
    problem, bench = made
    for boundary in latency_table(problem, bench).boundaries:
        assert boundary.choices_a == {3}
        assert boundary.choices_b == {0, 1, 2}
        assert boundary.ms > 0


def test_weights_of_fewer_bits_in_the_file_take_the_time_of_8_bits(
    tmp_path: Path, made: tuple[Problem, StandInBench]
) -> None:
    del made  # for its made-up timings
    words = ["int8_static", "int8_static:weights=int4:solver=rtn"]
    problem, bench = bench_of(mlp(), rows(), words, tmp_path / "narrow")
    problem.allowed[1, 2] = False
    table = latency_table(problem, bench).table
    np.testing.assert_array_equal(table[[0, 2], 2], table[[0, 2], 1])
    assert np.isnan(table[1, 2])


def test_boundaries_inside_a_uniform_model_are_not_counted_twice(made: tuple[Problem, StandInBench]) -> None:
    problem, bench = made
    problem.allowed[1, 3] = False  # in the uniform model of choice 3 the middle one stays in float
    measuring = _Measuring(problem, bench, timing_feed(bench), Homes(bench.reference, problem.groups))
    boundaries = (
        Boundary(0, frozenset({3}), 1, frozenset({0, 1, 2}), 2.0),
        Boundary(1, frozenset({3}), 2, frozenset({0, 1, 2}), 5.0),
    )
    table = np.full(problem.allowed.shape, 10.0)
    measuring._take_out(boundaries, table)
    uniform = LatencyTable(0.0, table, boundaries, "")
    assert uniform.predict(np.array([3, 0, 3])) == pytest.approx(30.0)  # float64
    np.testing.assert_array_equal(table[:, :3], 10.0)


def test_a_choice_that_is_not_allowed_has_no_time_and_the_rest_adds_up(
    made: tuple[Problem, StandInBench],
) -> None:
    problem, bench = made
    problem.allowed[1, 1] = False
    table = latency_table(problem, bench)
    assert np.isnan(table.table[1, 1])
    assert table.predict(np.array([1, 0, 1])) == pytest.approx(
        measured(bench, problem, [1, 0, 1], table.float_ms), rel=1e-9
    )


def test_timings_are_found_again(made: tuple[Problem, StandInBench], monkeypatch: pytest.MonkeyPatch) -> None:
    problem, bench = made
    first = latency_table(problem, bench)

    def never(*args: object, **options: object) -> Timing:
        raise AssertionError("timed again")

    monkeypatch.setattr(table, "time_model", never)
    bench.journal = Journal()
    again = latency_table(problem, bench)
    np.testing.assert_array_equal(again.table, first.table)
    assert again.boundaries == first.boundaries


def test_a_target_without_a_profiler_is_apportioned(
    made: tuple[Problem, StandInBench], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, bench = made
    monkeypatch.setattr(type(bench.target), "profiled", property(lambda self: False))
    table = latency_table(problem, bench)
    assert "apportioned" in table.how
    for column in range(len(problem.choices)):
        picked = [column] * 3
        assert table.predict(np.array(picked)) == pytest.approx(
            measured(bench, problem, picked, table.float_ms), rel=1e-9
        )


def test_a_target_for_another_machine_is_refused(tmp_path: Path) -> None:
    problem, bench = bench_of(mlp(), rows(), ["int4"], tmp_path / "b", target="ort-cpu:isa=arm64")
    with pytest.raises(UnsupportedError, match="cannot be timed here"):
        latency_table(problem, bench)


def test_corrected_kernels_add_up_to_the_unprofiled_time_and_stay_positive() -> None:
    times = {
        name: NodeTime(name, "MatMul", (us,) * 5) for name, us in (("a", 100.0), ("b", 1.0), ("c", 40.0))
    }
    for total in (0.05, 0.141, 0.2):
        found = corrected(times, total)
        assert sum(kernel.ms for kernel in found) == pytest.approx(total)  # float64
        assert all(kernel.ms > 0 for kernel in found)
        assert [kernel.name for kernel in found] == ["a", "b", "c"]
    assert corrected({}, 1.0) == ()


def test_a_real_model_is_timed_and_its_kernels_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcompiler.auto.latency.in_situ.SECONDS", 0.5)
    _, bench = bench_of(mlp(), rows(), [], tmp_path / "b")
    timing = time_model(bench.float_path, bench.float_path, timing_feed(bench), threads=1)
    assert timing.ms == pytest.approx(sum(kernel.ms for kernel in timing.kernels))  # float64
    assert {"first", "second", "third"} <= {kernel.name.partition("/")[0] for kernel in timing.kernels}


def test_time_between_products_belongs_to_the_one_before() -> None:
    model = mlp()
    problem_groups = bench_groups(model)
    homes = Homes(model, problem_groups)
    assert homes.of("first") == (0,)
    assert homes.of("act") == (0,)
    assert homes.of("skip") == (0, 1)
    assert homes.edges == ((0, 1), (0, 2), (1, 2))
    assert "skip" in homes
    assert homes.of("elsewhere") == ()


def bench_groups(model: ir.Model) -> list[Group]:
    return [Group(view.name, (view.name,), view.node.op_type, 1) for view in weighted_nodes(model)]


def test_a_chain_is_coloured_in_turns() -> None:
    np.testing.assert_array_equal(two_colours(5, [(0, 1), (1, 2), (2, 3), (3, 4)]), [0, 1, 0, 1, 0])


def test_an_excess_is_shared_by_edges_of_two_kinds_and_kept_in_sum() -> None:
    edges = [(0, 1), (1, 2), (2, 3), (1, 3)]
    on_codes = np.array([True, False, True, False])
    excess = np.array([1.0, 2.0, -0.5, 0.25])
    found = excess_by_edge(excess, on_codes, edges)
    assert set(found) == {(0, 1), (2, 1), (2, 3)}
    assert sum(found.values()) == pytest.approx(2.75)  # float64
    assert min(found.values()) >= 0


def test_a_timings_key_depends_on_kernels_and_shapes_and_not_on_values(tmp_path: Path) -> None:
    keys: list[str] = []
    for seed, count in ((0, 40), (1, 40), (0, 40)):
        problem, bench = bench_of(mlp(seed), rows(count), ["int4"], tmp_path / f"b{len(keys)}")
        built = bench.build(problem.uniform("int4"))
        feed = timing_feed(bench)
        keys.append(timing_key(built.deployed, built.path, bench.target, feed, 1))
    assert keys[0] == keys[1] == keys[2]
    other = {name: np.concatenate([array, array]) for name, array in feed.items()}
    exact = bench.build({})
    assert timing_key(built.deployed, built.path, bench.target, other, 1) not in keys
    assert timing_key(built.deployed, built.path, bench.target, feed, 2) not in keys
    assert timing_key(built.deployed, built.path, parse_target("onnx"), feed, 1) not in keys
    assert timing_key(exact.deployed, exact.path, bench.target, feed, 1) not in keys


def test_unsteady_timings_are_kept_for_the_search_only_and_damaged_files_are_measured_again() -> None:
    journal, calls = Journal(), []

    def measure(steady: bool) -> Timing:
        calls.append(steady)
        return Timing(2.0, 1.0, (Kernel("a", "MatMul", 2.0),), steady=steady)

    first = cached_timing("k", lambda: measure(False), journal)
    assert cached_timing("k", lambda: measure(False), journal) == first
    assert not list(cache.cache_folder().glob("*"))
    steady = cached_timing("k", lambda: measure(True), Journal())
    assert cached_timing("k", lambda: measure(True), Journal()) == steady
    assert calls == [False, True]
    (file,) = cache.cache_folder().glob("*")
    file.write_text("{")
    assert cached_timing("k", lambda: measure(True), Journal()) == steady
    assert calls == [False, True, True]
