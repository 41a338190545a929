"""Which groups of a model may take which choices, and in how many bits.

A choice is one pass with options (``candidates``).  What a target's table says it cannot run, and formats that it
refuses, are left out here; how fast the rest is, is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qcompiler.auto.facts import FLOAT, Choice, Group, Problem, Table
from qcompiler.auto.problem.candidates import Wanted, candidate_words
from qcompiler.auto.problem.groups import find_groups
from qcompiler.backends.base import Target
from qcompiler.errors import OptionError
from qcompiler.graph.recurrent import recurrent_weights
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.low_bit.readers import Selection
from qcompiler.passes.int8_dynamic import Granularity, Int8Dynamic
from qcompiler.passes.int8_static import Int8Static
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.base import Pass, PassContext
from qcompiler.pipeline.parse import parse_passes

FLOAT_BITS = 32


def make_problem(reference: ir.Model, selected: frozenset[str], target: Target, wanted: Wanted) -> Problem:
    """What is to be decided about a prepared model.

    Args:
        reference: the model.
        selected: nodes that may be quantized.
        target: what it will run on.
        wanted: what counts.

    Raises:
        OptionError: there is nothing to choose.
    """
    groups = find_groups(reference, selected)
    context = PassContext(reference, reference, selected, target, has_data=wanted.has_data)
    nodes = {str(node.name): node for node in reference.graph.all_nodes()}
    choices, columns = [Choice(FLOAT, "", bits=FLOAT_BITS)], [_float_bits(groups)]
    for words in candidate_words(target, wanted):
        item = _usable(words, target)
        if item is None or _is_plain(item, groups, nodes, target):
            continue
        column = np.array([_bits_of_group(group, nodes, item, context) for group in groups], np.float64)
        if np.isfinite(column).any():
            bits = item.weight_bits(target)
            choices.append(Choice(words, words, isinstance(item, WeightOnly), bits or FLOAT_BITS))
            columns.append(column)
    if len(choices) == 1:
        raise OptionError(f"auto finds nothing to choose: {_why_nothing(groups, nodes, reference)}")
    stored = np.stack(columns, axis=1)
    if wanted.bits and not wanted.fast:
        choices, stored = _activations_in_float(choices, stored)
    return Problem(groups, tuple(choices), np.isfinite(stored), stored)


def _why_nothing(groups: Sequence[Group], nodes: Mapping[str, ir.Node], reference: ir.Model) -> str:
    if not groups and (left := len(find_groups(reference, frozenset(nodes)))):
        return f"--include and --exclude leave none of the {left} places that hold a weight; leave more."
    return (
        "no node of the model holds a weight that this target runs in fewer bits; look at qcompile inspect."
    )


def _activations_in_float(choices: Sequence[Choice], stored: Table) -> tuple[list[Choice], Table]:
    """Without choices that quantize activations, but for groups that nothing else is for."""
    on_codes = np.array([bool(choice.words) and not choice.weight_only for choice in choices])
    others = ~on_codes & np.array([bool(choice.words) for choice in choices])
    stored[np.ix_(np.isfinite(stored[:, others]).any(axis=1), on_codes)] = np.nan
    kept = np.flatnonzero(np.isfinite(stored).any(axis=0))
    return [choices[int(at)] for at in kept], stored[:, kept]


def rounded_words(words: str) -> str:
    """The same format with codes rounded to nearest: as many bytes, and the same kernels."""
    name, *settings = words.split(":")
    kept = [each for each in settings if each.partition("=")[0] not in ("solver", "sequential")]
    narrow = name in ("int8_static", "int8_dynamic") and any(each.startswith("weights=") for each in kept)
    searched = name in ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k")
    return ":".join([name, *kept, *(["solver=rtn"] if narrow or searched else [])])


def sequential_words(words: str) -> str:
    """The same choice solved segment by segment."""
    return words.replace(":sequential=false", "")


def pass_of(words: str) -> Pass:
    """The pass that quantizes, of a choice's words."""
    return parse_passes(words)[-1]


def _usable(words: str, target: Target) -> Pass | None:
    """The pass, or None where the target cannot run it."""
    try:
        made = pass_of(words)
        made.check(target)
    except OptionError:
        return None
    return made


def _is_plain(item: Pass, groups: Sequence[Group], nodes: Mapping[str, ir.Node], target: Target) -> bool:
    """Whether scales for each token change nothing: of an LSTM, and of weights that are only stored, they are none."""
    if not isinstance(item, Int8Dynamic) or item.granularity is not Granularity.TOKEN:
        return False
    own = [nodes[name] for group in groups for name in group.nodes]
    return not any(weighted(node) is not None and target.support(node).dynamic for node in own)


def _is_slow_unseen(node: ir.Node, context: PassContext) -> bool:
    """Whether ranges found while the model runs cost a convolution time that nobody measures; fixed ones do not."""
    fixed = context.has_data and context.target.support(node).static and node.graph is context.model.graph
    return bool(context.target.untimed and fixed and node.op_type == "Conv")


def _float_bits(groups: Sequence[Group]) -> Table:
    return np.array([float(FLOAT_BITS * group.parameters) for group in groups], np.float64)


def _bits_of_group(group: Group, nodes: dict[str, ir.Node], item: Pass, context: PassContext) -> float:
    """Bits of a group's weights under a pass, scales counted; NaN where the pass is not for all its nodes."""
    measure = _measure_of(item, context)
    found = {}
    for name in group.nodes:
        node = nodes[name]
        view = weighted(node)
        bits = measure(node, view)
        if not np.isfinite(bits):
            return float("nan")
        found[view.weight if view is not None else node] = bits
    return float(sum(found.values()))


def _measure_of(item: Pass, context: PassContext) -> Callable[[ir.Node, WeightedNode | None], float]:
    """Bits of one node's weight under a pass; NaN where it is not for it."""

    def low_bit(node: ir.Node, view: WeightedNode | None) -> float:
        assert isinstance(item, WeightOnly)
        if view is None or node.op_type in ("Conv", "ConvTranspose") or Selection().refusal(view, context):
            return float("nan")
        stored, (rows, columns) = item.format_for(view, context), view.matrix().shape
        if stored.group is not None and stored.group > rows:
            return float("nan")  # the same as a smaller group
        return float(stored.bits_per_weight(rows, columns) * rows * columns)

    def eight_bits(node: ir.Node, view: WeightedNode | None) -> float:
        support = context.target.support(node)
        runs = support.static if isinstance(item, Int8Static) else support.dynamic
        recurrent = recurrent_weights(node)
        if isinstance(item, Int8Dynamic) and _is_slow_unseen(node, context):
            return float("nan")
        if isinstance(item, Int8Static) and node.graph is not context.model.graph:
            runs = False  # activations inside a subgraph cannot be observed
        if not (runs or (support.weight_only and not (isinstance(item, Int8Static) and recurrent))):
            return float("nan")
        assert isinstance(item, Int8Static | Int8Dynamic)
        if view is None:
            if item.narrow is not None or not recurrent:
                return float("nan")
            return float(sum(8 * value.const_value.size for _, value in recurrent if value.const_value))
        rows, columns = view.matrix().shape
        if item.narrow is None:
            return float((8 + 32 / rows) * rows * columns)
        if not runs or item.narrow.refusal(view):
            return float("nan")
        stored = item.narrow.format_of(view, context.target.weight.largest_code)
        return float(stored.bits_per_weight(rows, columns) * rows * columns)

    return low_bit if isinstance(item, WeightOnly) else eight_bits
