"""Which solver finds the codes, where products can make good what a table before them has lost.

Losses of groups are measured with all others in float and codes that are solved at once.  gptaq solves the products
behind a quantized table towards what the float model gives (arXiv:2504.02692): of what the table loses alone they leave
little (pydoc_lm at 3.5 bits: a twentieth).  Bits that a program spends there are then missing elsewhere.  So where
there are tables, solvers are compared by a uniform model, and where gptaq is the better one, what tables lose is put
right by a model in which they have the fewest bits and all else the most.  The share that is left there is the same in
every format (pydoc_lm: 0.04 to 0.06 of ten), and behind products of few bits it drowns in their own loss.

Products are not put right: each would take a model of its own, and what they lose shrinks more alike (to half or more).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qcompiler.auto.bounds import Settled
from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Assignment, Problem
from qcompiler.auto.judge import Judge
from qcompiler.auto.tables import Measured
from qcompiler.auto.variants import PRODUCTS, Variant

TABLES = frozenset({"Gather"})
SOLVER = "gptaq"
WORTH = 0.95
"""Share of the loss at once above which the solver is not worth what it takes."""


def compensated(
    bench: Builds, judge: Judge, settled: Settled, measured: Measured
) -> tuple[Measured, Variant, list[str]]:
    """Estimates with what tables lose before products that are solved for it, the pipeline that does so, and words.

    They are as they were where nothing is gained.
    """
    problem, variant = bench.problem, bench.variant
    tables = _rows(problem, TABLES)
    probe = None if bench.samples.calibration is None else _probe(problem, settled)
    if probe is None or probe not in measured.uniform or not len(tables) or settled.prefer == "speed":
        return measured, variant, []
    solved = replace(variant, solver=SOLVER)
    uniform = problem.uniform(probe)
    bench.tell("comparing solvers", 0, 2)
    at_once, loss = measured.uniform[probe].surrogate, judge.surrogate(uniform, solved)
    said = [f"{each.name.replace('...', probe)}: surrogate {lost:.5f}" for each, lost in
            ((variant, at_once), (solved, loss))]  # fmt: skip
    if loss > WORTH * at_once:
        return measured, variant, said
    bench.tell("comparing solvers", 1, 2)
    coarse = _extreme(problem, tables, fewest=True)
    left = judge.surrogate({**_extreme(problem, range(len(problem.groups)), fewest=False), **coarse}, solved)
    alone = float(measured.estimates.loss[tables, problem.indices(coarse)[tables]].sum())
    if alone <= 0:
        return measured, solved, said
    share = min(left / alone, 1.0)
    table = measured.estimates.loss.copy()
    table[tables] *= share
    said.append(
        f"{SOLVER} leaves {share:.0%} of what {len(tables)} table{'s' * (len(tables) > 1)} alone would lose"
    )
    return replace(measured, estimates=replace(measured.estimates, loss=table)), solved, said


def _rows(problem: Problem, ops: frozenset[str]) -> npt.NDArray[np.int64]:
    """Groups, by index, of some operators that may have other weights than float."""
    able = np.isin(np.arange(len(problem.groups)), np.nonzero(problem.allowed[:, _weight_only(problem)])[0])
    return np.array(
        [row for row, group in enumerate(problem.groups) if group.op_type in ops and able[row]], np.int64
    )


def _weight_only(problem: Problem) -> list[int]:
    return [at for at, choice in enumerate(problem.choices) if choice.words and choice.weight_only]


def _probe(problem: Problem, settled: Settled) -> str | None:
    """The choice by whose uniform model solvers are compared: of most bits within the bound, or of middling ones."""
    tables, products = (_rows(problem, ops) for ops in (TABLES, PRODUCTS))
    able = [
        at
        for at in _weight_only(problem)
        if all(problem.allowed[rows, at].any() for rows in (tables, products))
    ]
    ordered = sorted(able, key=lambda at: _bits(problem, at))
    if not ordered:
        return None
    most = settled.bounds.max_bits
    within = [at for at in ordered if most is None or _bits(problem, at) <= most] or ordered[:1]
    return problem.choices[within[-1] if most is not None else within[len(within) // 2]].name


def _bits(problem: Problem, at: int) -> float:
    """Bits a weight of a choice, over the groups that may take it."""
    rows = np.flatnonzero(problem.allowed[:, at])
    weights = np.array([problem.groups[row].parameters for row in rows])
    return float(problem.stored_bits[rows, at].sum()) / max(int(weights.sum()), 1)


def _extreme(problem: Problem, rows: Iterable[int], *, fewest: bool) -> Assignment:
    """The weight-only choice of the fewest bits, or of the most, for some groups; others stay in float."""
    found = {}
    for row in rows:
        able = [at for at in _weight_only(problem) if problem.allowed[row, at]]
        ordered = sorted(able, key=lambda at: problem.stored_bits[row, at])
        if ordered:
            found[problem.groups[row].name] = problem.choices[ordered[0 if fewest else -1]].name
    return found
