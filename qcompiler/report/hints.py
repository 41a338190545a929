"""What to try next, from what the passes did and what the outputs lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qcompiler.pipeline.base import PassReport
from qcompiler.report.facts import ValueFacts

GOOD_DB = 35.0
"""Outputs above this SQNR are as close to float as 8 bits usually get; there is nothing to gain."""

_PRODUCTS, _CONVOLUTIONS = ("MatMul", "Gemm"), ("Conv", "ConvTranspose")


def hints_for(passes: Sequence[PassReport], outputs: Sequence[ValueFacts]) -> tuple[str, ...]:
    """Up to three next steps, the most useful first; none for a result that is good already."""
    names = {report.name for report in passes}
    looked_at = {item.node: item.op_type for report in passes for item in report.nodes}
    ops = Counter(looked_at.values())
    products, convolutions = _count(ops, _PRODUCTS), _count(ops, _CONVOLUTIONS)
    hints = []
    if convolutions > products and "int8_static" not in names and "int8_dynamic" in names:
        hints.append(
            "Conv stays in float with int8_dynamic: --passes int8_static,bias_correction --calib DATA."
        )
    if not outputs:
        return (*hints, "nothing was verified: drop --verify none to see what quantization costs.")[:3]
    if _is_good(outputs):
        return tuple(hints[:3])
    if convolutions > products and "int8_static" in names and "bias_correction" not in names:
        hints.append("more accuracy for convolutions: --passes int8_static:calibrator=mse,bias_correction.")
    if products >= convolutions and "smoothquant" not in names and names & {"int8_static", "int8_dynamic"}:
        hints.append("more accuracy for outliers in MatMul inputs: put smoothquant before the int8 pass.")
    if products >= convolutions and "int8_static" in names and "int8_dynamic" not in names:
        hints.append("more accuracy where ranges vary from sample to sample: int8_dynamic, no data needed.")
    rounded = [report.name for report in passes if any(", rtn: " in item.detail for item in report.nodes)]
    if rounded:
        hints.append(
            f"more accuracy at the same size: --passes {rounded[0]}:solver=gptq --calib DATA, "
            "or solver=mse without data."
        )
    hints.append("the worst nodes can stay in float: --exclude NAME.")
    return tuple(hints[:3])


def _is_good(outputs: Sequence[ValueFacts]) -> bool:
    return all(item.sqnr_db >= GOOD_DB for item in outputs if item.comparison == "deployed" and item.is_float)


def _count(ops: Counter[str], names: Sequence[str]) -> int:
    return sum(ops[name] for name in names)
