"""Bytes of each choice of each group of a large model, from a small one that holds one group of each kind.

What a choice takes in the file depends on operators and shapes of a group alone, but for the length of names.  So one
group of each kind is cut out of the model, with its inputs and outputs as those of a model of its own, and that one is
built with every choice (:mod:`qcompiler.auto.sizes`).  What the rest of the file takes is known of the float model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Problem, Table
from qcompiler.auto.problem.roles import Key, kind_of
from qcompiler.auto.sizes import size_table
from qcompiler.graph.weighted import WeightedNode, weighted_nodes
from qcompiler.pipeline.journal import JournalOf
from qcompiler.sequential.slice import slice_model
from qcompiler.verify.segmented import weight_bytes

NAME_BYTES = 64
"""What names may take more in one group than in another of its kind."""


@dataclass(frozen=True)
class Probe:
    """A model of one group of each kind.

    Attributes:
        model: it.
        problem: of its groups.
        rows: for each group of the large model the one that stands for it.
    """

    model: ir.Model
    problem: Problem
    rows: tuple[int, ...]


def make_probe(problem: Problem, reference: ir.Model) -> Probe:
    """Cut the first group of each kind out of a prepared model."""
    views = {view.name: view for view in weighted_nodes(reference)}
    kinds: dict[Key, int] = {}
    rows, chosen = [], []
    for row, group in enumerate(problem.groups):
        kind = (*kind_of(group, views), *problem.allowed[row].tolist())
        if kind not in kinds:
            kinds[kind] = len(kinds)
            chosen.append(row)
        rows.append(kinds[kind])
    held = [views[name] for row in chosen for name in problem.groups[row].nodes if name in views]
    small = replace(
        problem,
        groups=tuple(problem.groups[row] for row in chosen),
        allowed=problem.allowed[chosen],
        stored_bits=problem.stored_bits[chosen],
    )
    return Probe(_model_of(held, reference), small, tuple(rows))


def probed_sizes(problem: Problem, bench: Builds) -> tuple[float, Table]:
    """As :func:`qcompiler.auto.sizes.size_table`: bytes that no choice changes, and ``[groups, choices]`` of each."""
    probe = make_probe(problem, bench.reference)
    folder = bench.folder / "probe"
    folder.mkdir(exist_ok=True)
    small = Builds(
        probe.model,
        probe.problem,
        bench.target,
        bench.samples,
        frozenset(name for group in probe.problem.groups for name in group.nodes),
        folder,
        JournalOf(bench.journal, "probe"),
        bench.threads,
    )
    _, cells = size_table(probe.problem, small)
    table = cells[list(probe.rows)]
    return float_bytes(bench.reference) - float(table[:, 0].sum()) + NAME_BYTES * len(table), table


def float_bytes(model: ir.Model) -> float:
    """About what the file of a float model takes."""
    nodes = sum(ir.to_proto(node).ByteSize() for node in model.graph)
    names = sum(len(name) + NAME_BYTES for name in model.graph.initializers)
    return float(weight_bytes(model) + nodes + names)


def _model_of(views: list[WeightedNode], reference: ir.Model) -> ir.Model:
    known: Mapping[str, None] = dict.fromkeys(str(view.activation.name) for view in views)
    return slice_model(reference, list(known), [str(view.output.name) for view in views])
