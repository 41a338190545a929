"""The least size that is possible: it can be had, nothing is below it, and it is known without calibration."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Bounds
from qcompiler.auto.judge import size_of
from qcompiler.auto.least import Least, least_model, refuse_contradictions, solution_of, with_least
from qcompiler.auto.problem.candidates import Wanted
from qcompiler.auto.problem.choices import make_problem
from qcompiler.auto.sizes import build_size_bytes, size_table
from qcompiler.driver import compile as compile_model
from qcompiler.errors import UnsupportedError
from qcompiler.load import load_model
from qcompiler.models.catalog import DIGITS
from qcompiler.pipeline.journal import Journal
from qcompiler.pipeline.parse import parse_target
from qcompiler.prepare import prepare
from qcompiler.request import CompileOptions
from qcompiler.samples import open_samples
from tests.passes.graphs import graph, normal
from tests.qcompiler.auto.workbench import mlp, rows


def bench_of(
    model: ir.Model,
    data: Mapping[str, object] | str | None,
    folder: Path,
    target: str = "ort-cpu",
    wanted: Wanted | None = None,
) -> Builds:
    samples = open_samples(model, data, CompileOptions())
    prepare(model, opset=21)
    names = frozenset(str(node.name) for node in model.graph.all_nodes())
    chosen = parse_target(target).resolved()
    problem = make_problem(model, names, chosen, wanted or Wanted(has_data=data is not None))
    return Builds(model, problem, chosen, samples, names, folder, Journal(), name=f"mine{chosen.suffix}")


def wide() -> ir.Model:
    """One product whose weights outweigh everything else."""
    return graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 256] x) => (float[N, 64] y)
        {
            y = MatMul (x, w)
        }
        """,
        {"w": normal(256, 64)},
    )


def least_of(bench: Builds, folder: Path, limit: int = 10**9, bits: float | None = None) -> Least:
    folder.mkdir(exist_ok=True)
    found = refuse_contradictions(bench, Bounds(max_size_bytes=limit, max_bits=bits), folder)
    assert found is not None
    return found


@pytest.mark.parametrize("target", ["ort-cpu:packed=true", "onnx"])
def test_no_assignment_of_a_small_model_is_smaller(target: str, tmp_path: Path) -> None:
    """Its choices, float and another are built in every combination."""
    bench = bench_of(mlp(), None, tmp_path, target)
    least = least_of(bench, tmp_path / "scratch")
    problem = bench.problem
    others = sorted({0, *(problem.choice(name) for name in least.assignment.values()), 1})
    for picked in itertools.product(others, repeat=len(problem.groups)):
        if all(problem.allowed[row, at] for row, at in enumerate(picked)):
            names = {problem.groups[row].name: problem.choices[at].name for row, at in enumerate(picked)}
            assert build_size_bytes(bench.build(names, rounded=True)) >= least.size_bytes
    assert build_size_bytes(bench.build(least.assignment)) == least.size_bytes == least.below


@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
def test_what_is_named_can_be_had_with_all_samples(target: str, tmp_path: Path) -> None:
    bench = bench_of(load_model(DIGITS.onnx), str(DIGITS.calibration), tmp_path, target)
    least = least_of(bench, tmp_path / "scratch")
    assert any("static" in name for name in least.assignment.values())  # one sample settled its ranges
    assert build_size_bytes(bench.build(least.assignment)) == least.size_bytes
    base, table = size_table(bench.problem, bench)
    fitted = with_least(bench.problem, base, table, least)
    found = solution_of(bench.problem, least)
    assert found is not None
    chosen = fitted[np.arange(len(found.picked)), found.picked]
    assert base + chosen.sum() <= least.size_bytes * (1 + 1e-12)  # so that the program finds it
    everywhere = [
        build_size_bytes(bench.build(bench.problem.uniform(choice.name), rounded=True))
        for choice in bench.problem.choices[1:]
    ]
    assert least.size_bytes <= min(everywhere)


def test_a_byte_less_is_refused_with_what_is_possible(tmp_path: Path) -> None:
    bench = bench_of(mlp(), None, tmp_path)
    least = least_of(bench, tmp_path / "scratch").size_bytes
    least_of(bench, tmp_path / "scratch", limit=least)
    with pytest.raises(
        UnsupportedError, match=r"--max-size is .*the least that is possible is \d.*Give more"
    ):
        least_of(bench, tmp_path / "scratch", limit=least - 1)


def test_fewer_bits_may_take_more_bytes(tmp_path: Path) -> None:
    """Two bits take four in a portable file, and their groups are smaller: within 2.8 bits the least is more."""
    wanted = Wanted(has_data=False, bits=True, fast=False)
    bench = bench_of(wide(), None, tmp_path, "onnx", wanted)
    any_bits, few_bits = (least_of(bench, tmp_path / "scratch", bits=bits) for bits in (None, 2.8))
    assert few_bits.size_bytes > any_bits.size_bytes
    with pytest.raises(UnsupportedError, match=r"within 2\.8 bits a weight"):
        least_of(bench, tmp_path / "scratch", any_bits.size_bytes, bits=2.8)
    assert least_model(bench, Bounds(max_bits=0.5)) is None


def test_only_choices_that_may_be_smallest_are_lowered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(wide(), rows(width=256), tmp_path, "ort-cpu:packed=true:size_first=true")
    lowered: list[str] = []
    plain = Builds.lowered

    def noted(self: Builds, assignment: Mapping[str, str], *, rounded: bool = False) -> ir.Model:
        lowered.extend(set(assignment.values()))
        return plain(self, assignment, rounded=rounded)

    monkeypatch.setattr(Builds, "lowered", noted)
    least_of(bench, tmp_path / "scratch")
    assert any(name.startswith("int2") for name in lowered)
    assert not any(name.startswith("int8:") or name in ("int8_static", "int8_dynamic") for name in lowered)


def test_nothing_is_built_where_no_size_is_bounded(tmp_path: Path) -> None:
    bench = bench_of(mlp(), None, tmp_path)
    assert refuse_contradictions(bench, Bounds(max_bits=4.0), tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["m.onnx", "a_name_of_some_length.onnx"])
def test_builds_take_as_many_bytes_as_the_output_whatever_its_name(name: str, tmp_path: Path) -> None:
    """Every tensor beside a graph names its file."""
    bench = replace(bench_of(wide(), None, tmp_path / "work"), name=name, external=True)
    built = bench.build(bench.problem.uniform("int8_dynamic"), rounded=True)
    made = compile_model(
        wide(),
        "int8_dynamic",
        output=tmp_path / "out" / name,
        options=CompileOptions(external=True, verify="none"),
    )
    assert build_size_bytes(built) == size_of(made.path)
