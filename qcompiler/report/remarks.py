"""What stands out in a result, and why: large weights that stayed float, what the machine costs, operators left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.package.manifest import ConfiguredRecord
from qcompiler.pipeline.base import NodeDecision, PassReport
from qcompiler.tensors import stored_bytes

LARGE_SHARE = 0.1
"""A float weight with less of the bytes is not worth a sentence."""

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
_ACTIVATIONS = ("int8_static", "int8_dynamic")
_PLAIN = ("", "no integer kernel")
EXCLUDED = "excluded by the user"
_CHAIN = ("Cast", "Transpose")


def remarks_for(
    model: ir.Model, target: Target, passes: Sequence[PassReport], pipeline: Sequence[ConfiguredRecord]
) -> tuple[str, ...]:
    """Sentences about a deployed ``model``; none where nothing stands out.

    Args:
        model: as deployed.
        target: it was compiled for.
        passes: what they did.
        pipeline: their options.
    """
    if not any(report.count("quantized") for report in passes):
        return ()
    return (
        *_large_floats(model, passes, pipeline),
        *_seven_bits(target, passes),
        *_left_out(model, target, passes),
    )


def _large_floats(
    model: ir.Model, passes: Sequence[PassReport], pipeline: Sequence[ConfiguredRecord]
) -> list[str]:
    sizes = {
        value: stored_bytes(value.const_value)
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    }
    total = max(sum(sizes.values()), 1)
    found = []
    for value, size in sizes.items():
        floats = value.const_value is not None and value.const_value.dtype in _FLOATS
        reader = _reader(value) if floats and size / total >= LARGE_SHARE else None
        if reader is not None and not _is_excluded(reader, passes):
            what = "embedding" if reader.op_type == "Gather" else f"weight of {reader.op_type}"
            text = f"the {what} {value.name!r} is {100 * size / total:.0f} % of the bytes and stays float"
            found.append(f"{text}: {_why(reader, passes, pipeline)}.")
    return found


def _reader(value: ir.Value) -> ir.Node | None:
    """The node that reads a constant, through Cast and Transpose."""
    readers = [use.node for use in value.uses()]
    while readers and readers[0].op_type in _CHAIN:
        readers = [use.node for use in readers[0].outputs[0].uses()]
    return readers[0] if readers else None


def _is_excluded(node: ir.Node, passes: Sequence[PassReport]) -> bool:
    """Whether the user asked for it to stay float."""
    return any(
        item.node == node.name and item.detail == EXCLUDED for report in passes for item in report.nodes
    )


def _why(node: ir.Node, passes: Sequence[PassReport], pipeline: Sequence[ConfiguredRecord]) -> str:
    off = [item.name for item in pipeline if item.options.get("embeddings") is False]
    if node.op_type == "Gather" and off:
        return f"leave out {off[0]}:embeddings=false to store it in 8 bits or fewer"
    decisions = [item for report in passes for item in report.nodes if item.node == node.name]
    reasons = [item.detail for item in decisions if item.action == "skipped" and item.detail]
    return reasons[-1] if reasons else "no pass of the pipeline takes it; add int8_dynamic or int4 behind"


def _seven_bits(target: Target, passes: Sequence[PassReport]) -> list[str]:
    if target.weight.bits >= 8 or not _quantized_by(passes, _ACTIVATIONS):
        return []
    return [
        f"weights beside int8 activations have {target.weight.bits} bits: without VNNI the processor adds products of "
        "uint8 and int8 in 16 bits, which overflow with 8; on a machine with it compile for ort-cpu:isa=vnni."
    ]


def _left_out(model: ir.Model, target: Target, passes: Sequence[PassReport]) -> list[str]:
    """Operators that fixed ranges would allow to run in integers, and that were measured not to pay."""
    if not _quantized_by(passes, ("int8_static",)):
        return []
    known = {item.node for report in passes for item in report.nodes}
    reasons: Mapping[str, Counter[str]] = defaultdict(Counter)
    for node in model.graph.all_nodes():
        support = target.support(node)
        counts = node.domain in ("", "ai.onnx") and node.name not in known
        if (
            counts
            and not (support.static or support.dynamic or support.weight_only)
            and support.reason not in _PLAIN
        ):
            reasons[support.reason][node.op_type] += 1
    return [
        f"left in float: {', '.join(f'{count} {name}' for name, count in found.items())} ({reason})."
        for reason, found in reasons.items()
    ]


def _quantized_by(passes: Iterable[PassReport], names: Sequence[str]) -> list[NodeDecision]:
    return [
        item
        for report in passes
        for item in report.nodes
        if report.name in names and item.action == "quantized"
    ]
