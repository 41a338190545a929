"""Which groups the nodes that transforms put into a model serve: their time belongs to who asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.auto.facts import Group
from qcompiler.auto.latency.in_situ import Kernel
from qcompiler.auto.problem.groups import origin_of

Times = npt.NDArray[np.float64]
CODES = frozenset({"Cast", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})
"""Nodes of quantization, which a transform only gives other names."""

MOST = 2.0
"""Times that transforms' kernels may add to a model more than they take themselves; beyond is noise."""


def made_for(
    plain: ir.Model, transformed: ir.Model, groups: Sequence[Group]
) -> Mapping[str, tuple[int, ...]]:
    """Groups, by index, of every node that only the second of two dialect models has, by its name.

    A node that says whose it is belongs there, any other to the nearest groups behind it.
    """
    own = {node: row for row, group in enumerate(groups) for node in group.nodes}
    known = {str(node.name): origin_of(node) for node in plain.graph.all_nodes()}
    by_origin = {known[name]: row for name, row in own.items() if name in known}
    found = {}
    for node in transformed.graph.all_nodes():
        name = str(node.name)
        if name not in known and name not in own and node.op_type not in CODES:
            origin = by_origin.get(origin_of(node))
            found[name] = (origin,) if origin is not None else _behind(node, own)
    return {name: rows for name, rows in found.items() if rows}


def extra_times(
    owners: Mapping[str, tuple[int, ...]], kernels: Sequence[Kernel], count: int, more_ms: float
) -> Times:
    """``[count]`` milliseconds that transforms add to groups.

    Args:
        owners: groups by node, of :func:`made_for`.
        kernels: of the model with the transforms; empty where the runtime does not say.
        count: of groups.
        more_ms: by how much that model is slower than the one without.
    """
    times = {kernel.name: kernel.ms for kernel in kernels} or dict.fromkeys(owners, 1.0)
    found = np.zeros(count)
    for name, rows in owners.items():
        found[list(rows)] += times.get(name, 0.0) / len(rows)
    total = float(found.sum())
    if total <= 0:
        return found
    factor = min(max(more_ms / total, 1.0), MOST) if kernels else max(more_ms, 0.0) / total
    return found * factor


def _behind(node: ir.Node, own: Mapping[str, int]) -> tuple[int, ...]:
    found: set[int] = set()
    seen, pending = {node}, [node]
    while pending:
        readers = (use.node for value in pending.pop().outputs for use in value.uses())
        for reader in dict.fromkeys(readers):
            rows = {own[part] for part in str(reader.name).split("+") if part in own}
            found |= rows
            if not rows and reader not in seen:
                seen.add(reader)
                pending.append(reader)
    return tuple(sorted(found))
