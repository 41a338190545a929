"""From the result of a compile to the facts a report shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.package.deployed import is_deployed
from qcompiler.package.manifest import ConfiguredRecord, NodeRecord
from qcompiler.pipeline.base import NodeDecision
from qcompiler.report.commands import Command
from qcompiler.report.facts import (
    CompileFacts,
    Configured,
    Group,
    Hint,
    KernelFacts,
    NodeSummary,
    PassFacts,
    SpeedFacts,
    ValueFacts,
)
from qcompiler.report.hints import hints_for
from qcompiler.report.reasons import Reasons, reason_for
from qcompiler.report.remarks import remarks_for
from qcompiler.result import CompileResult
from qcompiler.verify.metrics import EXACT_DB

if TYPE_CHECKING:
    from qcompiler.verify.comparison import NodeComparison

WORST_SHOWN = 5
_SLOWER = "put back to float: it made the model slower"


def gather(
    result: CompileResult,
    model: str | Path,
    *,
    threads: int = 1,
    verified_on: str = "random numbers",
    typed: Sequence[str] = (),
    reasons: Reasons | None = None,
) -> CompileFacts:
    """Collect the facts of ``result``.

    Args:
        model: what it was compiled from.
        threads: what it was timed with.
        verified_on: where the verification data came from, for a compile without calibration data.
        typed: words of the command line, for commands that do better; empty: as the manifest says it.
        reasons: why a search that chose the pipeline left nodes in float, by name; None where there was none.
    """
    manifest, verification = result.manifest, result.verification
    outputs, command = _outputs(result), Command.of(manifest, str(model), typed)
    readable = "" if is_deployed(result.path) else str(result.path)
    return CompileFacts(
        model=str(model),
        path=str(result.path),
        manifest=str(result.manifest_path),
        target=_configured(manifest.target),
        pipeline=tuple(_configured(record) for record in manifest.pipeline),
        size_before_bytes=sum(file.size_bytes for file in manifest.source) or None,
        size_after_bytes=sum(file.size_bytes for file in manifest.result),
        parameters=manifest.bits.parameters,
        requested_bits=manifest.bits.requested,
        achieved_bits=manifest.bits.achieved,
        quantized_bits=manifest.bits.quantized,
        quantized_share=manifest.bits.quantized_share,
        copy_bytes=sum(item.copy_bytes for item in result.legalized.lowered),
        speed=_speed(result, threads),
        untimed=result.target.untimed,
        samples=verification.samples if verification else 0,
        held_out=manifest.calibration.held_out if manifest.calibration else verified_on,
        outputs=outputs,
        worst=_worst(result),
        passes=_pass_facts(result),
        fusions={name: count for name, count in result.legalized.fusions.items() if count},
        kernels=_kernels(result),
        not_integer=_not_integer(result),
        left_in_float=_left_in_float(result, reasons),
        reverted=tuple(manifest.reverted),
        warnings=result.warnings,
        findings=_typable(
            (
                *remarks_for(result.model, result.target, result.passes, command, reasons),
                *([Hint(result.legalized.copies)] if result.legalized.copies else []),
            ),
            command,
        ),
        hints=_typable(hints_for(result.passes, outputs, command, readable), command)
        if reasons is None
        else (),
        nodes=tuple(_node(item) for item in manifest.nodes),
    )


def _typable(hints: Iterable[Hint], command: Command) -> tuple[Hint, ...]:
    """Without commands where the model is no file that a shell could name."""
    if Path(command.model).exists():
        return tuple(hints)
    return tuple(replace(each, command="") for each in hints)


def _node(record: NodeRecord) -> NodeSummary:
    return NodeSummary(
        record.name,
        record.op_type,
        dict(record.decisions),
        record.kernel,
        record.integer,
        record.note,
        record.sqnr_db,
    )


def _configured(record: ConfiguredRecord) -> Configured:
    return Configured(record.name, dict(record.options))


def _speed(result: CompileResult, threads: int) -> SpeedFacts | None:
    found = result.speed
    if found is None:
        return None
    return SpeedFacts(found.ratio, found.low, found.high, found.float_ms, found.deployed_ms, threads)


def _outputs(result: CompileResult) -> tuple[ValueFacts, ...]:
    found = result.verification
    if found is None:
        return ()
    parts = {"quantization": found.quantization, "lowering": found.lowering, "deployed": found.deployed}
    return tuple(_value(name, item) for name, part in parts.items() for item in part.outputs)


def _worst(result: CompileResult) -> tuple[ValueFacts, ...]:
    if result.verification is None:
        return ()
    worst = result.verification.quantization.worst(WORST_SHOWN)
    return tuple(_value("quantization", item) for item in worst if item.sqnr_db < EXACT_DB)


def _value(comparison: str, item: NodeComparison) -> ValueFacts:
    return ValueFacts(
        comparison=comparison,
        value=item.value,
        node=item.node,
        op_type=item.op_type,
        sqnr_db=item.sqnr_db,
        cosine=item.cosine,
        max_abs_error=item.max_abs_error,
        exact_share=item.exact_share,
        is_float=item.is_float,
    )


def _pass_facts(result: CompileResult) -> tuple[PassFacts, ...]:
    return tuple(
        PassFacts(
            report.name, report.count("quantized"), report.count("transformed"), report.count("skipped")
        )
        for report in result.passes
    )


def _kernels(result: CompileResult) -> tuple[KernelFacts, ...]:
    counts = Counter(kernel.kernel for kernel in result.kernels if kernel.integer)
    return tuple(KernelFacts(name, count) for name, count in counts.most_common())


def _not_integer(result: CompileResult) -> tuple[Group, ...]:
    """Quantized nodes without an integer kernel, with the lowering's reason, or the pass's intention."""
    reasons = {item.node: item.reason for item in result.legalized.lowered if item.reason}
    decisions = {
        decision.node: decision
        for report in result.passes
        for decision in report.nodes
        if decision.action == "quantized"
    }
    rows = []
    for kernel in result.kernels:
        decision = decisions.get(kernel.node)
        if kernel.integer or decision is None:
            continue
        stored = decision.detail if decision.stored_only else ""
        reason = kernel.note or reasons.get(kernel.node) or stored or f"runs as {kernel.kernel} in float"
        rows.append((reason, decision.op_type, kernel.node))
    return _grouped(rows)


def _left_in_float(result: CompileResult, reasons: Reasons | None) -> tuple[Group, ...]:
    """Nodes that at least one pass wanted to quantize or looked at for that, and none did."""
    quantizing = [report for report in result.passes if _quantizes(report.nodes)] or result.passes[-1:]
    done = {item.node for report in quantizing for item in report.nodes if item.action == "quantized"}
    skipped = {item.node: item for report in quantizing for item in report.nodes if item.action == "skipped"}
    reverted = frozenset(result.manifest.reverted)
    return _grouped(
        (_SLOWER if name in reverted else reason_for(item.detail, name, reasons), item.op_type, name)
        for name, item in skipped.items()
        if name not in done
    )


def _quantizes(decisions: Iterable[NodeDecision]) -> bool:
    return any(decision.action == "quantized" for decision in decisions)


def _grouped(rows: Iterable[tuple[str, str, str]]) -> tuple[Group, ...]:
    """Group (reason, op type, node) by reason, the largest group first."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for reason, op_type, node in rows:
        groups.setdefault(reason, []).append((op_type, node))
    made = [
        Group(
            reason, dict(Counter(op for op, _ in members).most_common()), tuple(node for _, node in members)
        )
        for reason, members in groups.items()
    ]
    return tuple(sorted(made, key=lambda group: -len(group.nodes)))
