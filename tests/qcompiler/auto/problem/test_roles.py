"""Roles of groups, and figures of a few of them given to the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.auto.problem.roles import Role, find_roles
from qcompiler.graph.weighted import weighted_nodes
from tests.qcompiler.auto.workbench import bench_of
from tests.qcompiler.sequential.networks import feeds, residual_model


def names_of(model: ir.Model, folder: Path) -> list[set[str]]:
    """Weights of each role."""
    problem, bench = bench_of(model, feeds()[0], ["int4"], folder)
    views = {view.name: view for view in weighted_nodes(bench.reference)}
    roles = find_roles(problem, bench.reference)
    assert sorted(row for role in roles for row in role.rows) == list(range(len(problem.groups)))
    return [{str(views[problem.groups[row].name].weight.name) for row in role.rows} for role in roles]


def test_products_that_play_the_same_part_in_other_blocks_are_one_role(tmp_path: Path) -> None:
    found = names_of(residual_model(4), tmp_path)
    assert found == [{"table"}, *({f"w{kind}_{at}" for at in range(4)} for kind in "qko"), {"head"}]


def test_products_whose_names_are_numbered_are_told_apart_by_their_neighbours(tmp_path: Path) -> None:
    model = residual_model(4)
    for number, node in enumerate(model.graph):
        node.name = f"node_{number}"
    found = names_of(model, tmp_path)
    outputs = {f"wo_{at}" for at in range(4)}
    assert any(each == outputs for each in found)
    assert len(found) > 3


def test_sampled_groups_are_spread_from_the_first_to_the_last() -> None:
    role = Role(tuple(range(0, 66, 3)))
    assert role.sampled(4) == (0, 21, 42, 63)
    assert role.sampled(40) == role.rows
    assert role.middle == 33


def test_figures_lie_on_lines_in_logarithms() -> None:
    role = Role((2, 5, 8, 11, 14))
    found = role.spread({2: 1.0, 8: 100.0, 14: 100.0})
    np.testing.assert_allclose([found[row] for row in role.rows], [1, 10, 100, 100, 100], rtol=1e-12)
    assert role.spread({2: 0.0, 8: 5.0})[14] == pytest.approx(5.0)  # what is not positive says nothing
    assert set(role.spread({2: 0.0}).values()) == {0.0}
