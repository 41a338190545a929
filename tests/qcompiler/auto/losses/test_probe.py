"""Bytes from a small model of one group of each kind, against builds of the whole model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qcompiler.auto.builds import Builds
from qcompiler.auto.judge import size_of
from qcompiler.auto.losses.probe import NAME_BYTES, make_probe, probed_sizes
from qcompiler.graph.weighted import weighted_nodes
from qcompiler.pipeline.journal import Journal
from tests.qcompiler.auto.workbench import bench_of
from tests.qcompiler.sequential.networks import feeds, residual_model


def builds(folder: Path) -> Builds:
    problem, bench = bench_of(residual_model(4), feeds()[0], ["int8:group=16", "int4:group=16"], folder)
    selected = frozenset(name for group in problem.groups for name in group.nodes)
    return Builds(bench.reference, problem, bench.target, bench.samples, selected, folder, Journal())


def test_one_group_of_each_kind_stands_for_all(tmp_path: Path) -> None:
    bench = builds(tmp_path)
    probe = make_probe(bench.problem, bench.reference)
    assert len(probe.problem.groups) == 3  # a table, a square product, the head
    views = {view.name: view for view in weighted_nodes(bench.reference)}
    for row, group in zip(probe.rows, bench.problem.groups, strict=True):
        assert views[probe.problem.groups[row].name].weight_shape == views[group.name].weight_shape
    assert {view.name for view in weighted_nodes(probe.model)} == {each.name for each in probe.problem.groups}


def test_bytes_are_those_of_builds_but_for_names(tmp_path: Path) -> None:
    bench = builds(tmp_path)
    base, table = probed_sizes(bench.problem, bench)
    for column, choice in enumerate(bench.problem.choices):
        uniform = bench.problem.uniform(choice.name) if choice.words else {}
        whole = size_of(bench.build(uniform, rounded=True).path)
        foretold = base + float(np.nansum(table[:, column]))
        # names of nodes and constants, those of what is in no group among them
        assert abs(foretold - whole) < 2 * NAME_BYTES * (
            len(bench.problem.groups) + len(list(bench.reference.graph))
        )
