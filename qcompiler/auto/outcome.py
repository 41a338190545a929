"""What a search gives back, and publishing it: the model, its recipe, and what was found out on the way."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qcompiler.auto.alternatives import Alternative, alternatives
from qcompiler.auto.drawbacks import drawbacks
from qcompiler.auto.facts import FLOAT, Assignment, Group, Totals
from qcompiler.auto.front import Front
from qcompiler.auto.judge import Judged
from qcompiler.auto.loop import Loop
from qcompiler.auto.problem.form import form_for
from qcompiler.auto.problem.reasons import why_float
from qcompiler.auto.recipe import recipe_text, words, write_recipe
from qcompiler.auto.tried import Candidate
from qcompiler.errors import UnsupportedError
from qcompiler.package.write import cannot_write
from qcompiler.result import CompileResult


@dataclass(frozen=True)
class Kept:
    """Of the request, what publishing needs.

    Attributes:
        path: where the model goes.
        include: globs of the request.
        exclude: globs of the request.
        notes: what was chosen for the user.
        seconds: since the search began.
    """

    path: Path
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        result: of the compile, published.
        recipe: the file that gives the same bytes with ``--recipe``, without searching.
        assignment: choice by group.
        groups: what was decided about.
        predicted: size to the byte before codes were solved; latency and loss by the estimates.
        measured: of the deployed model.
        float_model: the same of the float model.
        metric: what the loss is a drop of.
        surrogate: the loss that estimates are in, of the deployed model.
        value: of the metric, deployed.
        float_value: of the float model.
        bits: a weight of the groups, scales counted, as formats pack them.
        uniform: models of one choice everywhere.
        considered: whole pipelines that were compared, in words.
        tried: models that were compiled and measured.
        front: None where it was not asked for.
        notes: what was chosen for the user, and what speaks against the model.
        seconds: the search took.
        reasons: why nodes that hold a weight are in float, by name.
        alternatives: what other choices would have cost groups that are in float, by name.
    """

    result: CompileResult
    recipe: Path
    assignment: Assignment
    groups: tuple[Group, ...]
    predicted: Totals
    measured: Totals
    float_model: Totals
    metric: str
    surrogate: float
    value: float
    float_value: float
    bits: float
    uniform: Mapping[str, Judged]
    considered: tuple[str, ...]
    tried: int
    front: Front | None
    notes: tuple[str, ...]
    seconds: float
    reasons: Mapping[str, str] = field(default_factory=dict)
    alternatives: Mapping[str, tuple[Alternative, ...]] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """The summary, for notebooks."""
        from qcompiler.report.notebook import search_html

        return search_html(self)

    def by_choice(self) -> dict[str, list[Group]]:
        """Groups by what they got, quantized ones first."""
        found: dict[str, list[Group]] = defaultdict(list)
        for group in self.groups:
            found[self.assignment.get(group.name, FLOAT)].append(group)
        return dict(sorted(found.items(), key=lambda item: item[0] == FLOAT))


def publish(loop: Loop, kept: Kept, front: Front | None) -> SearchResult:
    """Copy the best model that was verified to where the user wants it, with its recipe beside it.

    Raises:
        UnsupportedError: none keeps the bounds.
        OutputError: it cannot be written.
    """
    best = loop.best
    if best is None:
        raise UnsupportedError(_nothing(loop))
    published = loop.compiler.result(best.steps).save(kept.path.parent)
    recipe = kept.path.with_suffix(".recipe.yaml")
    target = form_for(loop.bench.target, best.steps)
    text = recipe_text(best.steps, words(target, target.name), _note(loop, best), kept.include, kept.exclude)
    write_recipe(recipe, text)
    result = _result(loop, best, published, recipe, front, kept)
    if front is not None:
        _write_json(kept.path.with_suffix(".front.json"), dataclasses.asdict(front))
    return result


def _result(
    loop: Loop, best: Candidate, published: CompileResult, recipe: Path, front: Front | None, kept: Kept
) -> SearchResult:
    bench = loop.bench
    assignment = best.solution.assignment(bench.problem)
    worse = drawbacks(best.judged.totals, loop.judge.float_totals, loop.measured.uniform, loop.settled)
    return SearchResult(
        result=published,
        recipe=recipe,
        assignment=assignment,
        groups=bench.problem.groups,
        predicted=best.predicted,
        measured=best.judged.totals,
        float_model=loop.judge.float_totals,
        metric=loop.judge.metric.name,
        surrogate=best.judged.surrogate,
        value=best.judged.value,
        float_value=loop.judge.float_value,
        bits=best.solution.bits,
        uniform=loop.measured.uniform,
        considered=tuple(loop.considered),
        tried=len(loop.tried),
        front=front,
        notes=(*kept.notes, *loop.settled.notes, *loop.measured.said, *worse),
        seconds=kept.seconds,
        reasons=why_float(bench.problem, bench.reference, bench.selected, bench.target, assignment),
        alternatives=alternatives(bench.problem, loop.measured.estimates, best.solution.picked),
    )


def _note(loop: Loop, best: Candidate) -> str:
    totals = best.judged.totals
    return (
        f"Found by a search; compiling with it gives the same bytes.\n"
        f"{totals.size_bytes:.0f} bytes, {best.solution.bits:.3f} bits a weight, "
        f"{loop.judge.metric.name} {best.judged.value:.6g} (float {loop.judge.float_value:.6g})"
    )


def _nothing(loop: Loop) -> str:
    near = loop.nearest
    if near is None:
        first = f" ({loop.failures[0]})" if loop.failures else ""
        return f"no model that was tried passes verification{first}; look at qcompile inspect, or give better data."
    return (
        f"no model of {len(loop.tried)} that were tried keeps the bounds; the nearest has {', '.join(near.broken)}. "
        "Give more, or drop a bound."
    )


def _write_json(path: Path, content: object) -> None:
    try:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
