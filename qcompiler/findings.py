"""What the user should know about a result, in words; with ``--strict`` any of it is an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from qcompiler.build import Build
from qcompiler.errors import VerificationError
from qcompiler.pipeline.base import Pass, PassReport
from qcompiler.pipeline.run import Pipeline
from qcompiler.prepare import PrepareReport
from qcompiler.samples import Samples
from qcompiler.verify.speed import SpeedCheck

SHOWN = 4
_OPTION = "target option"
_IDLE = {"packed": "no product has weights whose codes fit 3 bits"}


def find_warnings(
    built: Build, pipeline: Pipeline, prepared: PrepareReport, samples: Samples, speed: SpeedCheck | None
) -> tuple[str, ...]:
    """Everything that fell short of what was asked for."""
    found = [*samples.warnings, *prepared.notes]
    if caveat := pipeline.target.caveat():
        found.append(caveat)
    found += _without_effect(built.passes, pipeline.passes)
    found += [
        f"{_OPTION} {name} has no effect: {_IDLE.get(name, 'no product has weights of few bits')}."
        for name in built.legalized.without_effect
    ]
    if built.reverted:
        found.append(f"put back to float because they made the model slower: {_names(built.reverted)}.")
    if speed is not None and speed.slower:
        why = "with no quantized node left to put back"
        if not pipeline.target.profiled:
            why = f"and {pipeline.target.name} does not say which nodes are slow: none was put back; compare ort-cpu"
        found.append(f"{speed.ratio:.2f}x the speed of float, {why}.")
    if built.mended:
        found.append(
            f"the runtime has no kernel for these weights, they are expanded at load: {_names(built.mended)}."
        )
    if built.grown:
        found.append(
            f"stored in 32 bits, where the file had 16, because a transform changed them: {_names(built.grown)}."
        )
    idle = [item.node for item in built.kernels if item.kernel and not item.integer and not item.note]
    stored = {lowering.node for lowering in built.legalized.lowered if not lowering.kernel}
    surprising = [name for name in idle if name not in stored and not _is_storage_only(built, name)]
    if surprising:
        found.append(f"quantized, but run by a float kernel: {_names(surprising)}.")
    return tuple(found)


def without_own_choices(warnings: Iterable[str]) -> tuple[str, ...]:
    """The warnings without those about options of a target that the user did not choose."""
    return tuple(text for text in warnings if not text.startswith(f"{_OPTION} "))


def _without_effect(reports: Sequence[PassReport], passes: Sequence[Pass]) -> list[str]:
    """Passes that were asked for and changed nothing, with the commonest reason."""
    busy = {item.name for item in reports if item.count("quantized") or item.count("transformed")}
    idle = [report for report in reports if report.name not in busy]
    if len(idle) == len(reports):
        nothing = (
            "no node was quantized" if any(item.quantizes for item in passes) else "no pass changed anything"
        )
        return [f"{nothing}; the reasons are in the report."]
    return [f"{report.name} changed nothing{_commonest(report)}." for report in idle]


def _commonest(report: PassReport) -> str:
    reasons = Counter(item.detail for item in report.nodes if item.action == "skipped")
    return f": {reasons.most_common(1)[0][0]}" if reasons else ": no node is of its kind, or float any more"


def refuse_if_strict(warnings: tuple[str, ...], *, strict: bool) -> None:
    """Raise for the first warning where the user asked for strictness.

    Raises:
        VerificationError: there is a warning.
    """
    if strict and warnings:
        more = f" ({len(warnings) - 1} more)" if len(warnings) > 1 else ""
        raise VerificationError(f"--strict: {warnings[0]}{more}")


def _is_storage_only(built: Build, name: str) -> bool:
    """Whether a pass said that it only stores the weight of a node in int8."""
    return any(
        decision.stored_only
        for report in built.passes
        for decision in report.nodes
        if decision.node == name and decision.action == "quantized"
    )


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(repr(name) for name in listed[:SHOWN]) + more
