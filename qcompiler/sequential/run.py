"""Passes over a model segment by segment, each segment calibrated with what the finished ones before it give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx_ir as ir

from qcompiler.calibration.collect import Progress
from qcompiler.calibration.requests import Gram
from qcompiler.calibration.statistics import AnswersOnDemand, Statistics
from qcompiler.errors import OptionError
from qcompiler.graph.names import names_kept
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.prepare.clean import remove_unused
from qcompiler.sequential import SEGMENTS
from qcompiler.sequential.activations import Activations, Calibration
from qcompiler.sequential.cuts import segments


@dataclass(frozen=True)
class Step:
    """One pass of a run, and its view of the whole model."""

    item: Pass
    context: PassContext
    is_partial: bool = False
    """Whether it quantizes nodes of its own beside others: they take their stages in turn."""


def run_segments(
    steps: Sequence[Step], data: Calibration, folder: Path, *, quantized_by: Sequence[str] = ()
) -> list[PassReport]:
    """Change the model of ``steps`` in place: segment by segment, in it pass by pass, in it stage by stage.

    Args:
        steps: all of one model.
        data: what statistics are taken from.
        folder: keeps the activations between segments; it exists.
        quantized_by: names of passes that quantized the model before.

    Returns:
        One report a pass, in graph order.

    Raises:
        OptionError: a pass compares with the float model, but the model is quantized already.
        CalibrationError: as :func:`qcompiler.calibration.collect.collect`.
    """
    model = steps[0].context.model
    order = {str(node.name): index for index, node in enumerate(model.graph.all_nodes())}
    parts = segments(model)
    twin = _twin(steps, quantized_by)
    activations = Activations(model, twin, parts, data, folder)
    decisions: list[list[NodeDecision]] = [[] for _ in steps]
    tell = data.progress or _silently
    for index, part in enumerate(parts):
        tell(SEGMENTS, index, len(parts))
        for run in _runs(steps):
            stages = [steps[at].item.stages(replace(steps[at].context, scope=part.nodes)) for at in run]
            for number, at in _in_turn(run, stages):
                served = _Stage(steps[at], stages[run.index(at)], number)
                decisions[at] += _serve(served, index, activations, twin, tell)
    tell(SEGMENTS, len(parts), len(parts))
    activations.close()
    return [
        PassReport(step.item.name, tuple(sorted(found, key=lambda each: order.get(each.node, len(order)))))
        for step, found in zip(steps, decisions, strict=True)
    ]


def _twin(steps: Sequence[Step], quantized_by: Sequence[str]) -> ir.Model | None:
    """The float model that passes compare with, where any does: transforms are applied to it too."""
    asking = [
        step.item.name
        for step in steps
        if any(isinstance(item, Gram) and item.drift for item in step.item.statistics(step.context))
    ]
    if not asking:
        return None
    if quantized_by:
        raise OptionError(
            f"{asking[0]} compares with the float model, but {quantized_by[-1]} quantized it before; "
            f"let {asking[0]} come first, or use solver gptq."
        )
    return steps[0].context.model.clone()


@dataclass(frozen=True)
class _Stage:
    """One stage of a pass in a segment."""

    step: Step
    stages: Sequence[frozenset[str]]
    number: int


def _runs(steps: Sequence[Step]) -> list[list[int]]:
    """Indices of steps: those that stand side by side together, each other one alone."""
    runs: list[list[int]] = []
    for at, step in enumerate(steps):
        if runs and step.is_partial and steps[at - 1].is_partial:
            runs[-1].append(at)
        else:
            runs.append([at])
    return runs


def _in_turn(run: Sequence[int], stages: Sequence[Sequence[frozenset[str]]]) -> Iterator[tuple[int, int]]:
    """Number of a stage and step, stage by stage: what a node reads is final when its turn comes."""
    for number in range(max(map(len, stages), default=0)):
        for at, own in zip(run, stages, strict=True):
            if number < len(own):
                yield number, at


def _serve(
    served: _Stage, index: int, activations: Activations, twin: ir.Model | None, tell: Progress
) -> tuple[NodeDecision, ...]:
    """One stage of a pass over one segment."""
    step, stages = served.step, served.stages
    solving = partial(tell, f"segment {index + 1}: {step.item.name}", served.number, len(stages))
    context = replace(step.context, scope=frozenset(stages[served.number]))
    requests = step.item.statistics(context)
    drifting = [item.value for item in requests if isinstance(item, Gram) and item.drift]
    statistics = Statistics()
    if requests:
        sliced = activations.sliced(index, [item.value for item in requests], drifting)
        ask = partial(activations.statistics, index, sliced, list(dict.fromkeys(requests)))
        statistics = Statistics(AnswersOnDemand(partial(_then, ask, solving)))
    solving()
    state = activations.state(index)
    report = _apply(step.item, context, statistics)
    if twin is not None and not step.item.quantizes:
        _apply(step.item, replace(context, model=twin), statistics)
    activations.keep_if(index, state)
    return report.nodes


def _then(ask: Callable[[], Statistics], tell: Callable[[], None]) -> Statistics:
    """Answers, and that what follows is no longer their making."""
    found = ask()
    tell()
    return found


def _silently(label: str, done: int, total: int | None) -> None:
    """Nobody is told."""


def _apply(item: Pass, context: PassContext, statistics: Statistics) -> PassReport:
    with names_kept(context.model):
        report = item.apply(context, statistics)
    remove_unused(context.model)
    strangers = [each.node for each in report.nodes if context.scope and each.node not in context.scope]
    if strangers:
        raise AssertionError(
            f"pass {item.name} went beyond its scope at {strangers[0]!r}; let it iterate PassContext.nodes(), or "
            "set by_segment = False"
        )
    return report
