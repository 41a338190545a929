"""Transforms as choices of single groups: int8 choices also after the transforms that change a group.

``smoothquant`` and ``outlier_channels`` change what one product multiplies and leave the rest of the float model as it
is, so each can be for some nodes alone, and its own nodes (a Mul, a branch beside) take time only there.  A group that
no transform changes has nothing to choose.

Groups that read one activation quantize it once.  Were only some of them smoothed, it would be quantized twice; so they
are smoothed together, or none of them is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from qcompiler.auto.facts import ORDER, Choice, Problem
from qcompiler.graph.consumers import by_activation
from qcompiler.graph.weighted import weighted_nodes
from qcompiler.pipeline.base import PassReport


@dataclass(frozen=True)
class Conflict:
    """A group that takes one of some choices, and another that takes one of others: not both.

    Attributes:
        group_a: index of a group.
        choices_a: indices of choices.
        group_b: index of another group.
        choices_b: indices of choices.
    """

    group_a: int
    choices_a: frozenset[int]
    group_b: int
    choices_b: frozenset[int]


def changed_nodes(reports: Sequence[PassReport]) -> dict[str, frozenset[str]]:
    """Names of the nodes that each transform of a pipeline changed."""
    return {
        report.name: frozenset(item.node for item in report.nodes if item.action == "transformed")
        for report in reports
        if report.name in ORDER
    }


def with_forms(
    problem: Problem, reference: ir.Model, changed: Mapping[str, frozenset[str]], names: Collection[str]
) -> Problem:
    """The problem with a second form of some choices: after the transforms that change a group.

    Args:
        problem: without transforms.
        reference: the prepared model.
        changed: names of nodes by transform, of a model in which it stood before everything.
        names: of the choices.
    """
    own = [
        tuple(name for name in ORDER if changed.get(name, frozenset()) & set(group.nodes))
        for group in problem.groups
    ]
    choices, bits = list(problem.choices), [problem.stored_bits]
    for at, choice in enumerate(problem.choices):
        if choice.name not in names:
            continue
        for transforms in sorted({each for each in own if each}):
            rows = np.array([each == transforms for each in own]) & problem.allowed[:, at]
            if rows.any():
                words = ",".join((*transforms, choice.words))
                choices.append(replace(choice, name=words, words=words))
                bits.append(np.where(rows, problem.stored_bits[:, at], np.nan)[:, None])
    stored = np.concatenate(bits, axis=1)
    return replace(
        problem,
        choices=tuple(choices),
        allowed=np.isfinite(stored),
        stored_bits=stored,
        shared=_sharing(problem, reference),
    )


def uniform_names(problem: Problem) -> tuple[str, ...]:
    """Names of all uniform assignments: every choice but float that any group may take, and all transforms of a pass.

    The latter where there are several of one pass.
    """
    taken = [choice for at, choice in enumerate(problem.choices) if problem.allowed[:, at].any()]
    names = [choice.name for choice in taken if choice.words]
    for quantizing in dict.fromkeys(choice.quantizing for choice in taken if choice.transforms):
        forms = [choice for choice in taken if choice.quantizing == quantizing]
        found = {each for choice in forms for each in choice.transforms}
        names.append(",".join([*sorted(found, key=ORDER.index), quantizing]))
    return tuple(dict.fromkeys(names))


def of_one_pass(problem: Problem, name: str) -> Problem:
    """The problem without other passes than that of a choice, for groups that this one is for."""
    quantizing = Choice(name, name).quantizing
    own = np.array([choice.quantizing == quantizing for choice in problem.choices])
    bound = (problem.allowed & own).any(axis=1)
    return replace(problem, allowed=problem.allowed & (own | ~bound[:, None]))


def conflicts(problem: Problem) -> Iterator[Conflict]:
    """What groups that read one activation may not take together: it with a transform, and without."""
    names = dict.fromkeys(each for choice in problem.choices for each in choice.transforms)
    on_codes = [at for at, choice in enumerate(problem.choices) if choice.words and not choice.weight_only]
    for transform in names:
        has = frozenset(at for at in on_codes if transform in problem.choices[at].transforms)
        lacks = frozenset(on_codes) - has
        for rows in problem.shared:
            able = [row for row in rows if problem.allowed[row, sorted(has)].any()]
            yield from (Conflict(one, has, other, lacks) for one in able for other in able if one != other)


def _sharing(problem: Problem, reference: ir.Model) -> tuple[tuple[int, ...], ...]:
    """Groups, by index, that read one activation."""
    rows = {node: row for row, group in enumerate(problem.groups) for node in group.nodes}
    shared = (
        {rows[view.name] for view in each.consumers if view.name in rows}
        for each in by_activation(weighted_nodes(reference))
    )
    return tuple(dict.fromkeys(tuple(sorted(found)) for found in shared if len(found) > 1))
