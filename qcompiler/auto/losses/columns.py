"""Energies of the errors of solved weights, from a sample of their columns and almost without solving them.

Solvers treat the columns of a weight ``[K, N]`` apart, so a sample of columns shows what all of them lose.  gptq rounds
row k from where earlier errors have moved it, so with ``G = A' D A`` (:mod:`qcompiler.numerics.gptq`) the energy is

    tr(E' G E) = sum over k of D[k] |r[k]|^2,

r[k] being the error of rounding row k alone.  What is rounded is spread over the steps of the grid as the weight
itself is, so the r of the weight as it stands foretells it: one factorization for each input, and one rounding for
each choice.  What that leaves out (codes at the ends of the grid, sweeps of descent afterwards) is a factor, measured
on solved columns of one group of each role for each kind of choice.

Inputs are those of the float model, segment by segment: memory does not grow with the number of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompiler.auto.facts import Choice, Problem, Table, Workbench
from qcompiler.auto.problem.choices import pass_of
from qcompiler.auto.problem.roles import Role
from qcompiler.calibration.requests import Gram
from qcompiler.calibration.statistics import AnswersOnDemand, Statistics
from qcompiler.data.feeds import Feed
from qcompiler.graph.weighted import WeightedNode, weighted_nodes
from qcompiler.low_bit.readers import can_be_observed
from qcompiler.low_bit.solver import Inputs, Settings, solve_weight
from qcompiler.numerics.formats.base import Float32, Format, Search
from qcompiler.numerics.gptq import damp, remaining
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.base import PassContext
from qcompiler.sequential.activations import Activations, Calibration
from qcompiler.sequential.cuts import segments

COLUMNS = 128
"""Of a weight that are rounded: the energy of all of them is known to a few per cent then."""
SOLVED_COLUMNS = 64
"""Of the weight of one group of each role that are solved."""
NOISE_BITS = 4
"""Of the choice whose rounding errors stand for those of every choice."""

Arrays = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Owner:
    """A weight of a group: the view of the node whose inputs decide its codes."""

    row: int
    view: WeightedNode
    observed: bool


@dataclass(frozen=True)
class Energies:
    """What is known of errors.

    Attributes:
        solved: ``[groups, choices]``; 0 for float, NaN where a choice is not allowed or stores no weights alone.
        rounded: by name of a weight, of the error that :func:`noise_of` gives it.
    """

    solved: Table
    rounded: Mapping[str, float]


def owners_of(problem: Problem, bench: Workbench) -> list[Owner]:
    """The weights of all groups, of those that several nodes read the last product's view."""
    views = {view.name: view for view in weighted_nodes(bench.reference)}
    found: dict[tuple[int, str], Owner] = {}
    for row, group in enumerate(problem.groups):
        for view in (views[name] for name in group.nodes if name in views):
            key, observed = (row, str(view.weight.name)), can_be_observed(view, bench.reference)
            if key not in found or observed or not found[key].observed:
                found[key] = Owner(row, view, observed)
    return list(found.values())


def context_of(bench: Workbench) -> PassContext:
    """What passes are told when they are asked for the format of a weight."""
    nodes = frozenset(str(node.name) for node in bench.reference.graph.all_nodes())
    return PassContext(bench.reference, bench.reference, nodes, bench.target, has_data=True)


def noise_choice(problem: Problem, row: int) -> int | None:
    """The choice whose rounding errors stand for those of every choice of a group; None where it has none."""
    fitting = [
        column
        for column, choice in enumerate(problem.choices)
        if choice.weight_only and choice.words and problem.allowed[row, column]
    ]
    return min(fitting, key=lambda at: abs(problem.choices[at].bits - NOISE_BITS), default=None)


def noise_of(matrix: Float32, stored: Format) -> Float32:
    """``W_q - W`` of ``W [K, N]`` rounded to nearest."""
    grid = stored.fit(matrix, search=Search.MINMAX)
    return stored.decode(stored.encode(matrix, grid), grid) - matrix


def format_of(problem: Problem, column: int, view: WeightedNode, context: PassContext) -> Format:
    """How a weight-only choice stores a weight."""
    item = pass_of(problem.choices[column].words)
    assert isinstance(item, WeightOnly)
    return item.format_for(view, context)


def find_energies(
    problem: Problem, bench: Workbench, roles: Sequence[Role], feeds: Sequence[Feed], folder: Path
) -> Energies:
    """Go through the float model once.

    Args:
        problem: names groups and choices.
        bench: holds the model.
        roles: of the groups; choices of the middle one of each are solved, in a sample of columns.
        feeds: calibration data.
        folder: for activations between segments; it exists.
    """
    context, middles = context_of(bench), {role.middle for role in roles}
    solved = np.where(problem.allowed, 0.0, np.nan)
    rounded: dict[str, float] = {}
    factors: dict[tuple[int, int], float] = {}
    owners = owners_of(problem, bench)
    for done, (owner, gram) in enumerate(_with_grams(owners, bench, feeds, folder)):
        bench.tell("estimating errors of choices", done, len(owners))
        weighing = _Weighing(problem, owner, gram, context, solves=owner.row in middles)
        known = bench.journal.recall(f"columns/{owner.row}/{owner.view.weight.name}", weighing.arrays)
        solved[owner.row] += known["energy"]
        rounded[str(owner.view.weight.name)] = float(known["rounded"])
        for column, factor in enumerate(np.asarray(known["factor"], np.float64)):
            factors[owner.row, column] = float(factor)
    for role in roles:
        for row in role.rows:
            solved[row] *= [factors.get((role.middle, column), 1.0) for column in range(len(problem.choices))]
    return Energies(solved, rounded)


@dataclass
class _Weighing:
    """What is found out of one weight."""

    problem: Problem
    owner: Owner
    gram: _Gram
    context: PassContext
    solves: bool
    _solved: dict[str, float] = field(default_factory=dict)

    def arrays(self) -> Arrays:
        """Estimated energies ``[choices]``, factors that put them right, and the energy of :func:`noise_of`."""
        view, count = self.owner.view, len(self.problem.choices)
        matrix = view.matrix()
        sample = _columns(matrix, COLUMNS)
        scale = matrix.shape[1] / sample.shape[1]
        energy, factor = np.full(count, np.nan), np.ones(count)
        energy[0] = 0.0
        for column, choice in enumerate(self.problem.choices):
            if choice.words and choice.weight_only and self.problem.allowed[self.owner.row, column]:
                energy[column] = scale * self._estimated(sample, column)
                factor[column] = self._factor(matrix, column, choice) if self.solves else 1.0
        noisy = noise_choice(self.problem, self.owner.row)
        stored = None if noisy is None else format_of(self.problem, noisy, view, self.context)
        rounded = 0.0 if stored is None else scale * self.gram.energy(noise_of(sample, stored))
        return {"energy": energy, "factor": factor, "rounded": np.array(rounded)}

    def _estimated(self, matrix: Float32, column: int) -> float:
        """Of columns under one choice, before the factor."""
        stored, settings = self._served(column)
        weights = self.gram.importance(settings)
        grid = stored.fit(matrix, search=settings.search, importance=weights)
        error = stored.decode(stored.encode(matrix, grid), grid) - matrix
        return self.gram.corrected(error, settings)

    def _factor(self, matrix: Float32, column: int, choice: Choice) -> float:
        """Of solved columns to what was estimated of them; one for all group sizes."""
        key = _without_group(choice.words)
        if key not in self._solved:
            stored, settings = self._served(column)
            self._solved[key] = 1.0
            if settings.solver.from_inputs and self.gram.matrix is not None:
                sample = _columns(matrix, SOLVED_COLUMNS)
                found = solve_weight(sample, stored, settings, Inputs(gram=self.gram.matrix))
                if found.order is None:
                    error = stored.decode(found.codes, found.grid) - sample
                    estimated = self._estimated(sample, column)
                    self._solved[key] = self.gram.energy(error) / estimated if estimated > 0 else 1.0
        return self._solved[key]

    def _served(self, column: int) -> tuple[Format, Settings]:
        item = pass_of(self.problem.choices[column].words)
        assert isinstance(item, WeightOnly)
        return item.format_for(self.owner.view, self.context), item.settings


@dataclass
class _Gram:
    """The Gram matrix of what a weight multiplies; rows that nobody observes count alike."""

    find: Callable[[], Float32 | None]
    _costs: dict[float, Float32] = field(default_factory=dict)
    _found: list[Float32 | None] = field(default_factory=list)

    @property
    def matrix(self) -> Float32 | None:
        """``[K, K]``; computed when it is first asked for."""
        if not self._found:
            self._found.append(self.find())
        return self._found[0]

    def energy(self, error: Float32) -> float:
        """``tr(E' G E)``."""
        weighed = error if self.matrix is None else self.matrix @ error
        return max(float(np.einsum("kn,kn->", weighed, error, dtype=np.float64)), 0.0)

    def corrected(self, error: Float32, settings: Settings) -> float:
        """The energy that is left when later rows make good the errors of earlier ones."""
        if self.matrix is None or not settings.solver.from_inputs:
            return self.energy(error)
        if settings.damping not in self._costs:
            self._costs[settings.damping] = remaining(self.matrix, settings.damping).diagonal().copy()
        squares = np.einsum("kn,kn->k", error, error, dtype=np.float64)
        return float(self._costs[settings.damping] @ squares)

    def importance(self, settings: Settings) -> Float32 | None:
        """``[K]``: as the solver weighs rows when it fits scales."""
        if self.matrix is None or not settings.solver.from_inputs:
            return None
        diagonal = damp(self.matrix, settings.damping)[0].diagonal()
        return np.asarray(diagonal / diagonal.mean(), np.float32)


def _with_grams(
    owners: Sequence[Owner], bench: Workbench, feeds: Sequence[Feed], folder: Path
) -> Iterator[tuple[Owner, _Gram]]:
    """Every weight with the Gram matrix of its inputs; nothing is run where nobody looks at it."""
    parts = segments(bench.reference)
    activations = Activations(bench.reference, None, parts, Calibration(feeds, len(feeds)), folder)
    for index, part in enumerate(parts):
        here = [owner for owner in owners if owner.view.name in part.nodes]
        values = dict.fromkeys(str(each.view.activation.name) for each in here if each.observed)
        requests = [Gram(value) for value in values]
        statistics = Statistics(AnswersOnDemand(partial(_answers, activations, index, requests)))
        grams: dict[str, _Gram] = {}
        for owner in sorted(here, key=lambda each: str(each.view.activation.name)):
            value = str(owner.view.activation.name)
            if value not in grams:
                grams = {value: _Gram(partial(_gram_of, statistics, value if owner.observed else None))}
            yield owner, grams[value]
    activations.close()


def _answers(activations: Activations, index: int, requests: Sequence[Gram]) -> Statistics:
    return activations.statistics(
        index, activations.sliced(index, [request.value for request in requests]), requests
    )


def _gram_of(statistics: Statistics, value: str | None) -> Float32 | None:
    return None if value is None else statistics.gram(Gram(value))[0].astype(np.float32, copy=False)


def _columns(matrix: Float32, count: int) -> Float32:
    """Evenly spread columns ``[K, <= count]``."""
    total = matrix.shape[1]
    taken = matrix if total <= count else matrix[:, np.arange(count) * total // count]
    return np.ascontiguousarray(taken)


def _without_group(words: str) -> str:
    return ":".join(part for part in words.split(":") if not part.startswith("group="))
