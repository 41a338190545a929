"""What each pass could do with a model.

A pass that foresees what it would do is asked.  Another that needs no data is tried on a copy; one that needs data is
asked which activations it would observe, and what a quantizing one could do with fixed ranges is what the target's
table says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.calibration.statistics import Statistics
from qcompiler.errors import QCompilerError
from qcompiler.inspect.inspection import PassOutlook, WeightInfo
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.registry import pass_class, pass_table


def outlooks(model: ir.Model, target: Target, weights: Sequence[WeightInfo]) -> list[PassOutlook]:
    """One outlook for every pass with its default options."""
    return [_outlook(name, model, target, weights) for name in pass_table()]


def _outlook(name: str, model: ir.Model, target: Target, weights: Sequence[WeightInfo]) -> PassOutlook:
    try:
        made = pass_class(name)()
    except (ImportError, AttributeError, TypeError) as error:
        return PassOutlook(name, {}, 0.0, {}, f"cannot be loaded: {error}")
    try:
        foreseen = made.foreseen(_context(model, target))
        if foreseen is not None:
            note = "needs calibration data" if made.needs_data else "needs no data"
            return _reported(foreseen, note, weights)
        return (
            _needing_data(made, model, target, weights)
            if made.needs_data
            else _tried(made, model, target, weights)
        )
    except QCompilerError as error:
        return PassOutlook(name, {}, 0.0, {}, str(error))


def _tried(made: Pass, model: ir.Model, target: Target, weights: Sequence[WeightInfo]) -> PassOutlook:
    report = made.apply(_context(model, target), Statistics({}))
    return _reported(report, "needs no data", weights)


def _reported(report: PassReport, note: str, weights: Sequence[WeightInfo]) -> PassOutlook:
    changed = [item for item in report.nodes if item.action != "skipped"]
    left = Counter(_general(item.detail) for item in report.nodes if item.action == "skipped")
    share = _bytes_share({item.node for item in changed}, weights)
    return PassOutlook(report.name, _operators(changed), share, dict(left.most_common()), note)


def _needing_data(made: Pass, model: ir.Model, target: Target, weights: Sequence[WeightInfo]) -> PassOutlook:
    observed = len({request.value for request in made.statistics(_context(model, target))})
    note = (
        f"needs calibration data: observes {observed} activations"
        if observed
        else "needs calibration data; nothing to do on the float model itself"
    )
    if not made.quantizes:
        return PassOutlook(made.name, {}, 0.0, {}, note)
    fits = [item for item in weights if item.static]
    can = Counter(item.op_type for item in fits)
    left = Counter(_static_reason(item) for item in weights if not item.static)
    share = _bytes_share({item.node for item in fits}, weights)
    return PassOutlook(made.name, dict(can.most_common()), share, dict(left.most_common()), note)


def _general(reason: str) -> str:
    """A reason without the names of nodes in it, so that nodes left for the same reason count together."""
    return re.sub(r" '[^']*'", "", re.sub(r"\bshape of '[^']*'", "shape of its input", reason))


def _static_reason(item: WeightInfo) -> str:
    if item.in_subgraph:
        return "inside a subgraph: its activations cannot be observed"
    return item.reason or f"fixed ranges gain nothing for {item.op_type} on this target"


def _context(model: ir.Model, target: Target) -> PassContext:
    copy = model.clone()
    names = frozenset(str(node.name) for node in copy.graph.all_nodes())
    return PassContext(copy, model, names, target)


def _operators(decisions: Iterable[NodeDecision]) -> dict[str, int]:
    return dict(Counter(item.op_type for item in decisions).most_common())


def _bytes_share(nodes: set[str], weights: Sequence[WeightInfo]) -> float:
    """Share of the weight bytes that ``nodes`` hold; a tied weight counts once."""
    total = {item.weight: item.size_bytes for item in weights}
    held = {item.weight: item.size_bytes for item in weights if item.node in nodes}
    return sum(held.values()) / max(sum(total.values()), 1)
