"""What to try next, from what the passes did and what the outputs lost: commands that can be pasted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from qcompiler.pipeline.base import PassReport
from qcompiler.report.commands import RANDOM, Command, Step, hint
from qcompiler.report.facts import Hint, ValueFacts

GOOD_DB = 35.0
"""Outputs above this SQNR are as close to float as 8 bits usually get; there is nothing to gain."""

MOST = 3

_PRODUCTS, _CONVOLUTIONS = ("MatMul", "Gemm"), ("Conv", "ConvTranspose")
_SERVES = re.compile(r"(\w+) behind it serves it")
"""What a pass says of a node that is left for another."""


def hints_for(
    passes: Sequence[PassReport], outputs: Sequence[ValueFacts], command: Command, result: str = ""
) -> tuple[Hint, ...]:
    """Up to three next steps, the most useful first; none for a result that is good already.

    Args:
        passes: what they did.
        outputs: against the float model's.
        command: of the compile.
        result: the file, where ``diagnose`` reads it; "" for native code.
    """
    looked_at = {item.node: item.op_type for report in passes for item in report.nodes}
    ops = Counter(looked_at.values())
    is_convolutional = _count(ops, _CONVOLUTIONS) > _count(ops, _PRODUCTS)
    early = () if command.partial else _for_nodes_in_float(passes, command, convolutional=is_convolutional)
    if not outputs:
        return (*early, Hint("nothing was verified: drop --verify none to see what quantization costs"))[
            -MOST:
        ]
    if _is_good(outputs):
        return tuple(islice(early, MOST))
    found = [*early]
    if not command.partial:
        found += _for_accuracy(passes, command, convolutional=is_convolutional)
    if result and command.data != RANDOM:
        found = [*found[: MOST - 1], Hint("which nodes cost most, and what helps", command.diagnosis(result))]
    return tuple(found[:MOST])


def _for_nodes_in_float(
    passes: Sequence[PassReport], command: Command, *, convolutional: bool
) -> Iterator[Hint]:
    """Nodes that another pass would take."""
    if convolutional and "int8_static" not in command.names and "int8_dynamic" in command.names:
        steps = [Step("int8_static") if step.name == "int8_dynamic" else step for step in command.steps]
        static = command.through([*steps, Step("bias_correction")], calibrated=True)
        yield hint("Conv stays in float with int8_dynamic", static)
    served = Counter(
        found[1]
        for report in passes
        for item in report.nodes
        if item.action == "skipped" and (found := _SERVES.search(item.detail))
    )
    for name, count in served.items():
        if name not in command.names:
            yield hint(f"{count} nodes that {name} serves stay in float", command.behind(name))


def _for_accuracy(passes: Sequence[PassReport], command: Command, *, convolutional: bool) -> Iterator[Hint]:
    names, steps = command.names, command.steps
    if convolutional and "int8_static" in names and "bias_correction" not in names:
        better = [step.having("calibrator", "mse") if step.name == "int8_static" else step for step in steps]
        yield hint("more accuracy for convolutions", command.through([*better, Step("bias_correction")]))
    if not convolutional and "smoothquant" not in names and names & {"int8_static", "int8_dynamic"}:
        first = command.through([Step("smoothquant"), *steps], calibrated=True)
        yield hint("more accuracy for outliers in inputs of MatMul", first)
    if not convolutional and "int8_static" in names and "int8_dynamic" not in names:
        dynamic = [Step("int8_dynamic") if step.name == "int8_static" else step for step in steps]
        yield hint("more accuracy where ranges vary from sample to sample", command.through(dynamic))
    rounded = {report.name for report in passes if any(", rtn: " in item.detail for item in report.nodes)}
    if rounded & names:
        solved = [step.having("solver", "gptq") if step.name in rounded else step for step in steps]
        yield hint("more accuracy at the same size", command.through(solved, calibrated=True))


def search_hints(
    command: Command, recipe: str, result: str, *, traced: bool, drops: bool
) -> tuple[Hint, ...]:
    """What to do after a search.

    Args:
        command: of the search.
        recipe: the file that it wrote.
        result: the model; "" for native code.
        traced: whether it traced the front.
        drops: whether the result loses anything.
    """
    found = [hint("the same bytes without searching", command.by_recipe(recipe))]
    if result and drops:
        found.append(Hint("which nodes cost most", command.diagnosis(result)))
    if not traced:
        found.append(hint("what more bytes or more time would buy", command.having("--pareto")))
    return tuple(found)


def _is_good(outputs: Sequence[ValueFacts]) -> bool:
    return all(item.sqnr_db >= GOOD_DB for item in outputs if item.comparison == "deployed" and item.is_float)


def _count(ops: Counter[str], names: Sequence[str]) -> int:
    return sum(ops[name] for name in names)
