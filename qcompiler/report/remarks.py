"""What stands out in a result, and why: large weights that stayed float, what the machine costs, operators left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.graph.weighted import WEIGHTED_OPS
from qcompiler.pipeline.base import NodeDecision, PassReport
from qcompiler.pipeline.selected import UNSELECTED
from qcompiler.report.commands import Command, Step, hint
from qcompiler.report.facts import Hint
from qcompiler.report.reasons import Reasons, reason_for
from qcompiler.report.units import counted
from qcompiler.tensors import stored_bytes

LARGE_SHARE = 0.1
"""A float weight with less of the bytes is not worth a sentence."""

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
_ACTIVATIONS = ("int8_static", "int8_dynamic")
_PLAIN = ("", "no integer kernel")
EXCLUDED = "excluded by the user"
_CHAIN = ("Cast", "Transpose")
_BEHIND = {"Gather": "int4", "MatMul": "int4", "Gemm": "int4", "Conv": "int8_static"}
"""The pass that takes the weight of an operator, where none of the pipeline does."""

_MOVING = frozenset(
    (
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast", "Expand", "Shape"),
        *("Split", "Gather"),
    )
)
"""Operators that compute nothing: whether they move floats or integers is not worth a sentence."""


def remarks_for(
    model: ir.Model,
    target: Target,
    passes: Sequence[PassReport],
    command: Command,
    reasons: Reasons | None = None,
) -> tuple[Hint, ...]:
    """Sentences about a deployed ``model``; none where nothing stands out.

    Args:
        model: as deployed.
        target: it was compiled for.
        passes: what they did.
        command: of the compile, for commands that do better.
        reasons: why a search that chose the pipeline left nodes in float; then there is none to add to.
    """
    if not any(report.count("quantized") for report in passes):
        return ()
    return (
        *_large_floats(model, passes, command, reasons),
        *_seven_bits(target, passes, command),
        *_left_out(model, target, passes),
    )


def _large_floats(
    model: ir.Model, passes: Sequence[PassReport], command: Command, reasons: Reasons | None
) -> list[Hint]:
    sizes = {
        value: stored_bytes(value.const_value)
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    }
    total = max(sum(sizes.values()), 1)
    decided = {item.node for report in passes for item in report.nodes}
    found = []
    for value, size in sizes.items():
        floats = value.const_value is not None and value.const_value.dtype in _FLOATS
        reader = _reader(value) if floats and size / total >= LARGE_SHARE else None
        if reader is None or _is_excluded(reader, passes, reasons or {}):
            continue
        share = f"is {100 * size / total:.0f} % of the bytes and stays float"
        if reader.name not in decided and reader.op_type not in WEIGHTED_OPS:
            found.append(Hint(f"the constant {value.name!r} of {reader.op_type} {share}: it is no weight"))
            continue
        what = "embedding" if reader.op_type == "Gather" else f"weight of {reader.op_type}"
        reason, better = _why(reader, passes, command, reasons)
        text = f"the {what} {value.name!r} {share}: {reason}"
        found.append(Hint(text) if better is None else hint(text, better))
    return found


def _reader(value: ir.Value) -> ir.Node | None:
    """The node that reads a constant, through Cast and Transpose."""
    readers = [use.node for use in value.uses()]
    while readers and readers[0].op_type in _CHAIN:
        readers = [use.node for use in readers[0].outputs[0].uses()]
    return readers[0] if readers else None


def _is_excluded(node: ir.Node, passes: Sequence[PassReport], reasons: Reasons) -> bool:
    """Whether the user asked for it to stay float."""
    return reasons.get(str(node.name)) == EXCLUDED or any(
        item.node == node.name and item.detail == EXCLUDED for report in passes for item in report.nodes
    )


def _why(
    node: ir.Node, passes: Sequence[PassReport], command: Command, given: Reasons | None
) -> tuple[str, Command | None]:
    """The reason, and the command that changes it; None where there is none."""
    decisions = [item for report in passes for item in report.nodes if item.node == node.name]
    reasons = [item.detail for item in decisions if item.action == "skipped" and item.detail]
    if given is not None:
        return reason_for(reasons[-1] if reasons else UNSELECTED, str(node.name), given), None
    off = [step for step in command.steps if "embeddings=false" in step.options]
    if node.op_type == "Gather" and off:
        steps = [step.without("embeddings") for step in command.steps]
        return f"leave out {off[0].name}:embeddings=false", command.through(steps)
    if node.op_type == "Conv" and "int8_dynamic" in command.names and not command.partial:
        steps = [Step("int8_static") if step.name == "int8_dynamic" else step for step in command.steps]
        return reasons[-1] if reasons else "not taken", command.through(steps, calibrated=True)
    behind = _BEHIND.get(node.op_type, "")
    reason = reasons[-1] if reasons else "no pass of the pipeline takes it"
    served = not reasons or f"{behind} behind it serves it" in reason
    if command.partial or not behind or behind in command.names or not served:
        return reason, None
    return reason, command.behind(behind, calibrated=behind == "int8_static")


def _seven_bits(target: Target, passes: Sequence[PassReport], command: Command) -> list[Hint]:
    if target.weight.bits >= 8 or not _quantized_by(passes, _ACTIVATIONS):
        return []
    text = (
        f"weights beside int8 activations have {target.weight.bits} bits: without VNNI the processor adds products of "
        "uint8 and int8 in 16 bits, which overflow with 8; for a machine with it compile for ort-cpu:isa=vnni"
    )
    return [Hint(text, str(command.having_value("--target", "ort-cpu:isa=vnni")))]


def _left_out(model: ir.Model, target: Target, passes: Sequence[PassReport]) -> list[Hint]:
    """Operators that fixed ranges would allow to run in integers, and that were measured not to pay."""
    if not _quantized_by(passes, ("int8_static",)):
        return []
    known = {item.node for report in passes for item in report.nodes}
    reasons: Mapping[str, Counter[str]] = defaultdict(Counter)
    for node in model.graph.all_nodes():
        support = target.support(node)
        counts = node.domain in ("", "ai.onnx") and node.name not in known and node.op_type not in _MOVING
        if (
            counts
            and not (support.static or support.dynamic or support.weight_only)
            and support.reason not in _PLAIN
        ):
            reasons[support.reason][node.op_type] += 1
    return [Hint(f"left in float: {counted(found)} ({reason})") for reason, found in reasons.items()]


def _quantized_by(passes: Iterable[PassReport], names: Sequence[str]) -> list[NodeDecision]:
    return [
        item
        for report in passes
        for item in report.nodes
        if report.name in names and item.action == "quantized"
    ]
