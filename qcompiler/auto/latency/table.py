"""How long each choice of each group takes on this machine, in the place where it stands.

For every choice the model is built once with the choice everywhere (codes rounded: they do not change a kernel's time)
and its kernels are timed (``in_situ``, ``cache``).  A kernel's time belongs to the node of the user's file that
it was run for (``verify.attribution``), and that node's to a group (``homes``).  The float model's time in the same
rounds is the common measure: a machine that slows down for a while slows down both.  So

    latency = base + sum of one cell for each group + boundaries

adds up exactly to the measured time of every uniform model, the float one included.

Boundaries: where a group computes on codes (``int8_static``) and its neighbour in float, codes are made or read between
them, in the time of either.  Two models in which neighbours take turns show how much longer each takes then; half of
all pairs are such in one of the two, and the others get the mean.

A choice with transforms takes the time of the one without and that of the nodes which the transforms put there
(``extras``), so that nodes alike in both models take the same; what the two models differ by beyond these nodes'
kernels is theirs too, up to twice.

A target without a profiler is timed as a whole: what a choice saves everywhere is given to groups in proportion to the
time that their own nodes take in float on ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qcompiler.auto.facts import FLOAT, Assignment, Boundary, Problem, Table, Workbench
from qcompiler.auto.latency.alike import as_busy, least_busy
from qcompiler.auto.latency.cache import cached_timing, timing_key
from qcompiler.auto.latency.exchanges import excess_by_edge, two_colours
from qcompiler.auto.latency.homes import Homes, float_shares
from qcompiler.auto.latency.in_situ import Timing, time_model
from qcompiler.auto.problem.extras import extra_times, made_for
from qcompiler.backends.base import NodeKey
from qcompiler.data.feeds import Feed
from qcompiler.errors import CalibrationError, UnsupportedError
from qcompiler.verify.attribution import Attribution

Times = npt.NDArray[np.float64]
ON_CODES = "int8_static"
"""The pass after which neighbours exchange codes."""

LEAST_CELLS = 0.2
"""Share of its cells that a choice keeps when boundaries inside its uniform model are taken out."""

NEGLIGIBLE = 3e-4
"""Of the float model's time: a boundary below it is left out, since each costs the program a variable."""


@dataclass(frozen=True)
class LatencyTable:
    """Predicted latency of any assignment on the timing feed.

    Attributes:
        base_ms: what no choice changes.
        table: ``[groups, choices]`` milliseconds; NaN where a choice is not allowed.
        boundaries: what neighbours of different kinds add.
        how: in words, for the report.
        float_ms: the common measure: what one run of ``Workbench.float_path`` counts as.
    """

    base_ms: float
    table: Table
    boundaries: tuple[Boundary, ...]
    how: str
    float_ms: float = 0.0

    def predict(self, picked: npt.NDArray[np.int64]) -> float:
        """Milliseconds for the choice of each group, by index ``[groups]``."""
        cells = self.table[np.arange(len(picked)), picked].sum()
        return self.base_ms + float(cells) + sum(each.ms for each in self.boundaries if each.holds(picked))


def timing_feed(bench: Workbench) -> Feed:
    """What models are timed on: the first feed that was held out of calibration.

    Raises:
        CalibrationError: there is none.
    """
    for feed in bench.samples.held_out:
        return feed
    raise CalibrationError("there is no feed to time models on; give at least one sample.")


def latency_table(problem: Problem, bench: Workbench) -> LatencyTable:
    """Time every choice everywhere, and neighbours of different kinds.

    Raises:
        UnsupportedError: the target's models cannot be run on this machine.
    """
    if reason := bench.target.untimed or bench.target.caveat():
        raise UnsupportedError(
            f"target {bench.target.name} cannot be timed here ({reason}); search without a latency bound and with "
            "prefer=size, or on the machine that will run it."
        )
    measuring = _Measuring(problem, bench, timing_feed(bench), Homes(bench.reference, problem.groups))
    return measuring.profiled() if bench.target.profiled else measuring.apportioned()


@dataclass
class _Measuring:
    problem: Problem
    bench: Workbench
    feed: Feed
    homes: Homes
    done: int = 0

    def profiled(self) -> LatencyTable:
        """Cells from the kernels of uniform models."""
        groups = len(self.problem.groups)
        exact, base = self._times({})
        table = np.full(self.problem.allowed.shape, np.nan)
        table[:, self.problem.choice(FLOAT)] = exact
        for column in self._timed_columns():
            own, rest = self._times(self.problem.uniform(self.problem.choices[column].name))
            allowed = self.problem.allowed[:, column]
            target = own.sum() + rest - base - exact[~allowed].sum()
            table[allowed, column] = own[allowed] * _ratio(target, own[allowed].sum())
        boundaries = self._boundaries(base, table) if groups > 1 else ()
        self._take_out(boundaries, table)
        self._copy_bases(table)
        self._add_transforms(table)
        how = "kernels of uniform models, profiled in place"
        return LatencyTable(base, table, boundaries, how, self._float_ms())

    def apportioned(self) -> LatencyTable:
        """Cells in proportion to the float model's nodes, for a runtime that does not say what its kernels take."""
        shares, base_share = float_shares(self.bench, self.problem.groups, self.feed)
        whole = self._timing({}).ms
        table = np.full(self.problem.allowed.shape, np.nan)
        exact = whole * shares
        table[:, self.problem.choice(FLOAT)] = exact
        for column in self._timed_columns():
            allowed = self.problem.allowed[:, column]
            rest = whole * base_share + exact[~allowed].sum()
            uniform = self.problem.uniform(self.problem.choices[column].name)
            left = max(self._relative_ms(uniform) - rest, 0.0)
            table[allowed, column] = exact[allowed] * _ratio(left, exact[allowed].sum())
        self._copy_bases(table)
        self._add_transforms(table)
        how = "uniform models, apportioned by the float model's nodes on ONNX Runtime: the runtime has no profiler"
        return LatencyTable(whole * base_share, table, (), how, self._float_ms())

    def _timed_columns(self) -> list[int]:
        """Choices whose uniform models say all of what they take."""
        return [
            column
            for column, choice in enumerate(self.problem.choices)
            if choice.name != FLOAT
            and not choice.transforms
            and self.problem.wide(column) is None
            and self.problem.allowed[:, column].any()
        ]

    def _add_transforms(self, table: Table) -> None:
        """Choices with transforms take the time of those without, and of the nodes that the transforms put there."""
        for column, choice in enumerate(self.problem.choices):
            if choice.transforms and self.problem.allowed[:, column].any():
                plain, allowed = self.problem.plain(column), self.problem.allowed[:, column]
                uniform = [self.problem.uniform(self.problem.choices[at].name) for at in (plain, column)]
                table[allowed, column] = (table[:, plain] + self._extra(*uniform))[allowed]

    def _extra(self, plain: Assignment, transformed: Assignment) -> Times:
        """``[groups]`` milliseconds of what transforms put into a model."""
        one, other = (self.bench.build(each, rounded=True).dialect for each in (plain, transformed))
        timing = self._timing(transformed)
        scale = self._float_ms() / timing.float_ms
        more = timing.ms * scale - self._relative_ms(plain)
        kernels = [replace(kernel, ms=kernel.ms * scale) for kernel in timing.kernels]
        return extra_times(made_for(one, other, self.problem.groups), kernels, len(self.problem.groups), more)

    def _copy_bases(self, table: Table) -> None:
        """Weights of fewer bits in the file become those of 8 bits when it is opened: the same kernels and time."""
        for column in range(len(self.problem.choices)):
            base, allowed = self.problem.wide(column), self.problem.allowed[:, column]
            if base is not None:
                table[allowed, column] = np.where(np.isnan(table[:, base]), table[:, 0], table[:, base])[
                    allowed
                ]

    def _take_out(self, boundaries: Sequence[Boundary], table: Table) -> None:
        """Where a choice is not for every group, its uniform model has boundaries, which cells must not count again."""
        for column in range(len(self.problem.choices)):
            allowed = self.problem.allowed[:, column]
            inside = sum(each.ms for each in boundaries if each.holds(np.where(allowed, column, 0)))
            cells = np.nansum(table[allowed, column])
            if inside > 0 and cells > 0:
                table[allowed, column] *= max(1.0 - inside / cells, LEAST_CELLS)

    def _boundaries(self, base: float, table: Table) -> tuple[Boundary, ...]:
        on_codes = [
            column
            for column, choice in enumerate(self.problem.choices)
            if choice.quantizing.split(":")[0] == ON_CODES and self.problem.allowed[:, column].any()
        ]
        if not on_codes or not self.homes.edges:
            return ()
        column = on_codes[0]
        name = self.problem.choices[column].name
        colours = two_colours(len(self.problem.groups), self.homes.edges)
        ms: dict[tuple[int, int], float] = {}
        for colour in (0, 1):
            chosen = (colours == colour) & self.problem.allowed[:, column]
            assignment = {
                group.name: name for group, on in zip(self.problem.groups, chosen, strict=True) if on
            }
            own, rest = self._times(assignment)
            plain = np.where(chosen, table[:, column], table[:, self.problem.choice(FLOAT)])
            ms |= excess_by_edge(
                own + (rest - base) * own / max(own.sum(), 1e-12) - plain, chosen, self.homes.edges
            )
        mean = float(np.mean(list(ms.values()))) if ms else 0.0
        codes = frozenset(on_codes)
        others = frozenset(range(len(self.problem.choices))) - codes
        return tuple(
            Boundary(on, codes, off, others, ms.get((on, off), mean))
            for one, other in self.homes.edges
            for on, off in ((one, other), (other, one))
            if self.problem.allowed[on, on_codes].any()
            and ms.get((on, off), mean) > NEGLIGIBLE * self._float_ms()
        )

    def _times(self, assignment: Assignment) -> tuple[Times, float]:
        """``[groups]`` milliseconds of an assignment's model in the float model's measure, and of what is in none."""
        timing = self._timing(assignment)
        own, rest = np.zeros(len(self.problem.groups)), 0.0
        for node, ms in self._by_node(assignment, timing).items():
            rows = list(self.homes.of(node))
            if rows:
                own[rows] += ms / len(rows)
            else:
                rest += ms
        scale = self._float_ms() / timing.float_ms
        return own * scale, rest * scale

    def _by_node(self, assignment: Assignment, timing: Timing) -> Mapping[str, float]:
        """Milliseconds by node of the user's file; "" for kernels of none."""
        keys = [
            NodeKey(str(node.name), node.op_type, tuple(str(output.name) for output in node.outputs))
            for node in self.bench.reference.graph.all_nodes()
        ]
        attribution = Attribution.of_file(self.bench.build(assignment, rounded=True).path, keys)
        found: dict[str, float] = {}
        for kernel in timing.kernels:
            owners = attribution.owners(kernel.name, kernel.op_type) or self._by_stem(kernel.name)
            for owner in owners:
                found[owner] = found.get(owner, 0.0) + kernel.ms / len(owners)
        return found

    def _by_stem(self, kernel: str) -> Sequence[str]:
        """What lowering made for node ``a`` is called ``a_decode`` or the like."""
        stem = kernel
        while "_" in stem:
            stem = stem.rpartition("_")[0]
            if stem in self.homes:
                return [stem]
        return [""]

    def _timing(self, assignment: Assignment) -> Timing:
        self.bench.tell("timing kernels", self.done)
        self.done += 1
        built = self.bench.build(assignment, rounded=True)
        threads, target = self.bench.threads, self.bench.target
        key = timing_key(built.deployed, built.path, target, self.feed, threads)

        def once() -> Timing:
            return time_model(
                built.path, self.bench.float_path, self.feed, threads=threads, profiled=target.profiled
            )

        def measure() -> Timing:
            return as_busy(once, self._float_ms()) if assignment else least_busy(once)

        return cached_timing(key, measure, self.bench.journal)

    def _float_ms(self) -> float:
        """The common measure: the float model's time beside itself as deployed."""
        return self._timing({}).float_ms

    def _relative_ms(self, assignment: Assignment) -> float:
        timing = self._timing(assignment)
        return timing.ms * self._float_ms() / timing.float_ms


def _ratio(part: float, whole: float) -> float:
    return max(part, 0.0) / whole if whole > 0 else 1.0
