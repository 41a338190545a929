"""An assignment as a pipeline: passes with nodes of their own, and the YAML file that gives the same bytes again."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir
import yaml

from qcompiler.auto.facts import FLOAT, ORDER, Assignment, Choice, Problem
from qcompiler.auto.problem.choices import pass_of
from qcompiler.auto.problem.groups import origin_of, weights_of
from qcompiler.backends.base import Target
from qcompiler.package.write import cannot_write
from qcompiler.passes.int8_static import Int8Static
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.base import Pass
from qcompiler.pipeline.options import Scalar, shortest, spelled
from qcompiler.pipeline.parse import parse_passes
from qcompiler.pipeline.selected import Selected
from qcompiler.prepare.select import OPERATOR_PREFIX

_SPECIAL = re.compile(r"([*?\[])")


def steps_of(
    problem: Problem,
    reference: ir.Model,
    assignment: Assignment,
    words_of: Callable[[str], str] = str,
) -> tuple[Selected, ...]:
    """The pipeline of an assignment.

    Transforms come first, each for the nodes whose choices have it, then weights that are stored in few bits, then
    what quantizes activations while the model runs, then what does with fixed ranges: that one lists the nodes that it
    is *not* for, so that those between its nodes (Add, pooling) can join.

    Args:
        problem: what was decided.
        reference: the prepared model.
        assignment: choice by group.
        words_of: changes the words of a choice.
    """
    origins = {str(node.name): literal(origin_of(node)) for node in reference.graph.all_nodes()}
    holders = [str(node.name) for node in reference.graph.all_nodes() if weights_of(node)]
    taken: dict[str, set[str]] = {}
    before: dict[str, set[str]] = {}
    for choice, nodes in _by_choice(problem, assignment):
        taken.setdefault(choice.quantizing, set()).update(nodes)
        for transform in choice.transforms:
            before.setdefault(transform, set()).update(nodes)
    transforms = [
        Selected(item, _named(origins, (name for name in holders if name in before[transform])))
        for transform in sorted(before, key=ORDER.index)
        for item in parse_passes(transform)
    ]
    passes = [(pass_of(words_of(quantizing)), names) for quantizing, names in taken.items()]
    passes.sort(key=lambda each: (not isinstance(each[0], WeightOnly), isinstance(each[0], Int8Static)))
    made, placed = [], False
    for item, names in passes:
        if isinstance(item, Int8Static) and not placed:
            placed = True
            others = _named(origins, (name for name in holders if name not in names))
            made.append(Selected(item, (), others) if others else Selected(item, ("*",)))
        else:
            made.append(Selected(item, _named(origins, (name for name in holders if name in names))))
    return (*transforms, *made)


def _by_choice(problem: Problem, assignment: Assignment) -> Iterator[tuple[Choice, set[str]]]:
    """Choices other than float that are taken, in the problem's order, with the nodes that take them."""
    for choice in problem.choices:
        groups = (group for group in problem.groups if assignment.get(group.name, FLOAT) == choice.name)
        nodes = {node for group in groups for node in group.nodes}
        if choice.words and nodes:
            yield choice, nodes


def literal_names(reference: ir.Model, nodes: Iterable[str]) -> tuple[str, ...]:
    """Globs of nodes of a prepared model, in graph order."""
    wanted = frozenset(nodes)
    found = (node for node in reference.graph.all_nodes() if node.name in wanted)
    return tuple(dict.fromkeys(literal(origin_of(node)) for node in found))


def literal(name: str) -> str:
    """A glob that matches this name and no other."""
    escaped = _SPECIAL.sub(r"[\1]", name)
    return f"[{escaped[0]}]{escaped[1:]}" if name.startswith(OPERATOR_PREFIX) else escaped


def recipe_text(
    steps: Iterable[Selected],
    target: str,
    note: str = "",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> str:
    """A recipe in YAML.

    Args:
        steps: passes with their nodes.
        target: as ``--target`` spells it.
        note: a comment above it, a line or more.
        include: globs of the whole pipeline.
        exclude: globs of the whole pipeline.
    """
    content: dict[str, object] = {"target": target}
    content |= {"include": list(include)} if include else {}
    content |= {"exclude": list(exclude)} if exclude else {}
    content["passes"] = [{step.item.name: _entry(step)} for step in steps]
    comment = "".join(f"# {line}\n" for line in note.splitlines())
    return comment + yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)


def write_recipe(path: Path, text: str) -> None:
    """Write a recipe.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error


@functools.cache
def words(item: Pass | Target, name: str) -> str:
    """A pass or target with those of its options that it does not choose itself, as the command line spells it."""
    options = shortest(type(item), spelled(item), owner=name)
    return ":".join([name, *(f"{key}={_plain(value)}" for key, value in options.items())])


def _named(origins: Mapping[str, str], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(origins[name] for name in names))


def _entry(step: Selected) -> dict[str, Scalar | list[str]]:
    options = shortest(type(step.item), spelled(step.item), owner=step.item.name)
    entry: dict[str, Scalar | list[str]] = {name: _simple(value) for name, value in options.items()}
    entry |= {"include": list(step.include)} if step.include else {}
    entry |= {"exclude": list(step.exclude)} if step.exclude else {}
    return entry


def _simple(value: Scalar) -> Scalar:
    return str(value) if isinstance(value, str) else value


def _plain(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
