"""Bytes of each choice of each group, and of a whole assignment, without solving any codes.

The size of a model is that of its files as the report counts them: graph, weights beside it, libraries; the manifest is
not counted.  Which codes a solver finds does not change how many bytes they take, so a build with rounded codes,
through the same lowering and the same writer, has the size of the final model to the byte: :func:`build_size_bytes`.

For the program every choice is built once, everywhere, with rounded codes.  What the constants and nodes take that
belong to a group is its cell; the rest of the file (shared tables, functions, codes of what runs between groups) is
given to the groups in equal parts, so that a uniform assignment adds up to its file exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from qcompiler.auto.facts import FLOAT, Choice, Problem, Table, Workbench
from qcompiler.build import Build
from qcompiler.result import manifest_path, result_files

_NODE_FRAME_BYTES, _TENSOR_FRAME_BYTES = 4, 20
"""Of protobuf around a node and a tensor: tags, lengths, dimensions, type."""


def build_size_bytes(built: Build) -> int:
    """Size of a build's files: what ``size_after_bytes`` of the report says of the model that is published."""
    manifest = manifest_path(built.path)
    return sum(path.stat().st_size for path in result_files(built.path) if path != manifest)


def size_table(problem: Problem, bench: Workbench) -> tuple[float, Table]:
    """Bytes that no choice changes, and ``[groups, choices]`` bytes of each; NaN where a choice is not allowed."""
    table = np.full(problem.allowed.shape, np.nan)
    base = 0.0
    for column, choice in enumerate(problem.choices):
        bench.tell("measuring sizes", column, len(problem.choices))
        if not problem.allowed[:, column].any():
            continue
        cells, rest = _cells_of(problem, bench, choice)
        if choice.name == FLOAT:
            base, table[:, column] = rest, cells
            continue
        picked = problem.indices(problem.uniform(choice.name))
        taken = picked == column
        others = np.flatnonzero(~taken)
        left = table[others, picked[others]].sum()
        extra = (rest + cells[others].sum() - left - base) / max(int(taken.sum()), 1)
        table[taken, column] = cells[taken] + extra
    return base, table


def _cells_of(problem: Problem, bench: Workbench, choice: Choice) -> tuple[Table, float]:
    """``[groups]`` bytes with a choice everywhere, and the bytes of what belongs to no group."""
    uniform = {} if choice.name == FLOAT else problem.uniform(choice.name)
    key = f"size/{choice.words}"

    def measure() -> Mapping[str, Table]:
        built = bench.build(uniform, rounded=True)
        found = group_bytes(built.deployed, problem, bench.reference)
        return {"cells": found, "total": np.array(float(build_size_bytes(built)))}

    known = bench.journal.recall(key, measure)
    cells, total = np.asarray(known["cells"], np.float64), float(known["total"])
    return cells, total - float(cells.sum())


def group_bytes(deployed: ir.Model, problem: Problem, reference: ir.Model) -> Table:
    """``[groups]`` bytes of the constants and nodes of a lowered model that belong to each group.

    Shared ones count for their groups in equal parts.
    """
    homes = _Homes(problem, reference)
    cells = np.zeros(len(problem.groups))
    for value in _constants(deployed):
        assert value.const_value is not None
        owners = homes.of_value(value)
        size = value.const_value.nbytes + len(str(value.name)) + _TENSOR_FRAME_BYTES
        cells[owners] += size / max(len(owners), 1)
    for node in deployed.graph.all_nodes():
        owners = homes.of_node(node)
        if owners and not any(
            attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()
        ):
            cells[owners] += (ir.to_proto(node).ByteSize() + _NODE_FRAME_BYTES) / len(owners)
    return cells


def graph_bytes(model: ir.Model) -> int:
    """Bytes of a model's constants, nodes and functions, nearly as a file has them."""
    constants = sum(len(str(value.name)) + _TENSOR_FRAME_BYTES for value in _constants(model))
    nodes = sum(int(ir.to_proto(node).ByteSize()) + _NODE_FRAME_BYTES for node in model.graph)
    functions = sum(int(ir.to_proto(function).ByteSize()) for function in model.functions.values())
    return constant_bytes(model) + constants + nodes + functions


def constant_bytes(model: ir.Model) -> int:
    """Bytes of all constants of a model."""
    return sum(value.const_value.nbytes for value in _constants(model) if value.const_value is not None)


def _constants(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value


class _Homes:
    """Groups, by index, that a constant or a node of a lowered model belongs to."""

    def __init__(self, problem: Problem, reference: ir.Model) -> None:
        self._index = {node: row for row, group in enumerate(problem.groups) for node in group.nodes}
        self._users = {str(node.name) for node in reference.graph.all_nodes()}

    def of_value(self, value: ir.Value) -> list[int]:
        """Groups whose nodes read it, through nodes that lowering or quantization put there."""
        found: set[int] = set()
        seen: set[ir.Node] = set()
        pending = [use.node for use in value.uses()]
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            owners = self._named(node)
            found.update(owners)
            if not owners and not self._is_users(node):
                pending += [use.node for output in node.outputs for use in output.uses()]
        return sorted(found)

    def of_node(self, node: ir.Node) -> list[int]:
        """Groups of a node by its name, or by what reads it where quantization put it there."""
        named = self._named(node)
        if named or self._is_users(node):
            return named
        found = {row for output in node.outputs for row in self.of_value(output)}
        return sorted(found)

    def _is_users(self, node: ir.Node) -> bool:
        return any(part in self._users for part in str(node.name).split("+"))

    def _named(self, node: ir.Node) -> list[int]:
        """Groups in a node's name: merged nodes are ``a+b``, what lowering made for ``a`` is ``a_decode``."""
        stem = str(node.name)
        rows = [self._index[part] for part in stem.split("+") if part in self._index]
        if rows or self._is_users(node):
            return sorted(set(rows))
        while "_" in stem:
            stem = stem.rpartition("_")[0]
            if stem in self._index:
                return [self._index[stem]]
        return []
