"""Solve, build, measure the deployed model, put the estimates right, and solve again.

The bound on the metric is in its own unit, and the program's on the sum of surrogate losses.  The limit of that sum is
searched: a model that keeps the bound lets it grow, one that breaks it makes it shrink, between the largest sum that
was seen to hold and the smallest that was seen to fail.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from qcompiler.auto.bounds import NOISE, Settled, refusal
from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Estimates, Totals
from qcompiler.auto.judge import Judge, Judged, size_of
from qcompiler.auto.solve import PREFERRED, Infeasible, Limits, Solution, solve
from qcompiler.auto.tables import Measured, moved_size, scaled_latency
from qcompiler.auto.variants import Variant, variants_of
from qcompiler.errors import VerificationError
from qcompiler.pipeline.selected import Selected
from qcompiler.result import CompileResult

logger = logging.getLogger(__name__)

CLOSE = 1.08
"""Limits of the loss that lie this near one another give the same model often enough."""
STEP = 3.0
"""By how much a limit grows at most while nothing has failed yet."""
Compile = Callable[[Sequence[Selected], int], CompileResult]


@dataclass(frozen=True)
class Candidate:
    """A compiled and verified model.

    Attributes:
        solution: what the program said.
        variant: which pipeline of the assignment.
        steps: that pipeline.
        predicted: size to the byte, by a build with rounded codes; latency and surrogate loss by the estimates.
        judged: what it does.
        broken: bounds that it does not keep, in words.
        result: of the compile.
    """

    solution: Solution
    variant: Variant
    steps: tuple[Selected, ...]
    predicted: Totals
    judged: Judged
    broken: tuple[str, ...]
    result: CompileResult = field(repr=False)

    @property
    def holds(self) -> bool:
        """Whether it keeps every bound."""
        return not self.broken


@dataclass
class Loop:
    """One search; ``best`` is kept up to date, for whoever interrupts it.

    Attributes:
        bench: builds.
        judge: measures.
        settled: bounds.
        measured: estimates to begin with.
        compile: compiles a pipeline as a candidate of that number, and proves it.
        rounds: programs that are solved at most.
    """

    bench: Builds
    judge: Judge
    settled: Settled
    measured: Measured
    compile: Compile
    rounds: int = 6
    best: Candidate | None = None
    nearest: Candidate | None = None
    considered: list[str] = field(default_factory=list)
    tried: dict[tuple[str, bytes], Candidate | None] = field(default_factory=dict)
    variant: Variant = field(init=False)

    def __post_init__(self) -> None:
        self.variant = self.bench.variant

    def run(self) -> None:
        """Search until nothing changes any more, or ``rounds`` programs were solved.

        Raises:
            UnsupportedError: the bounds exclude each other.
        """
        estimates = self.measured.estimates
        low, high, limit = 0.0, math.inf, self._first_limit()
        for number in range(self.rounds):
            solution = self._solved(estimates, limit)
            known = (self.variant.name, solution.picked.tobytes()) in self.tried
            if known and (limit is None or not math.isfinite(high)):
                break
            candidate = self.verify(solution, estimates)
            if number == 0:
                self._compare_variants(solution, estimates)
                candidate = self.tried.get((self.variant.name, solution.picked.tobytes()), candidate)
            if limit is None:
                if candidate is None or candidate.holds:
                    break
            elif candidate is None and not solution.picked.any():
                low = max(low, limit)  # the limit leaves everything in float
            elif candidate is not None and not self._drops_too_much(candidate):
                low = max(low, solution.predicted.loss, limit if candidate.holds else 0.0)
            else:
                high = min(high, max(solution.predicted.loss, 1e-12))
            if candidate is not None:
                estimates = self._put_right(estimates, candidate)
            if limit is not None:
                limit = self._next_limit(low, high, candidate)
                if high < CLOSE * low:
                    break
        self._try_uniform(estimates)

    def _try_uniform(self, estimates: Estimates) -> None:
        """Compile the best uniform model too, where it keeps the bounds and nothing better was found."""
        problem, totals = self.bench.problem, self.judge.float_totals
        weights = max(sum(group.parameters for group in problem.groups), 1)
        found = []
        for name, judged in self.measured.uniform.items():
            picked = problem.indices(problem.uniform(name))
            bits = float(problem.stored_bits[range(len(picked)), picked].sum()) / weights
            if not self.settled.broken(judged.totals, bits, totals):
                figure = float(getattr(judged.totals, PREFERRED[self.settled.prefer])), judged.surrogate
                found.append((figure, Solution(picked, estimates.total(picked), bits)))
        if not found:
            return
        figure, solution = min(found, key=lambda each: each[0])
        if self.best is None or figure < self._figure(self.best):
            self.verify(solution, estimates)

    def verify(
        self, solution: Solution, estimates: Estimates, variant: Variant | None = None
    ) -> Candidate | None:
        """Compile an assignment, prove and measure it; None where it fails the compiler's own checks."""
        variant = variant or self.variant
        key = variant.name, solution.picked.tobytes()
        if key in self.tried:
            return self.tried[key]
        problem, bench = self.bench.problem, self.bench
        assignment = solution.assignment(problem)
        steps = variant.steps(problem, bench.reference, assignment)
        if not any(step.item.quantizes for step in steps):  # the float model: there is nothing to compile
            self.tried[key] = None
            return None
        rounded = bench.build_variant(assignment, variant, rounded=True)
        size_bytes = size_of(rounded.path)
        try:
            result = self.compile(steps, len(self.tried))
        except VerificationError as error:
            logger.info("a candidate failed verification: %s", error)
            self.tried[key] = None
            return None
        judged = self.judge.judge(result.path)
        bench.advance()
        predicted = replace(estimates.total(solution.picked), size_bytes=size_bytes)
        broken = self.settled.broken(judged.totals, solution.bits, self.judge.float_totals)
        made = Candidate(solution, variant, steps, predicted, judged, broken, result)
        self.tried[key] = made
        self._keep(made)
        return made

    def _keep(self, made: Candidate) -> None:
        if made.holds and (self.best is None or self._rank(made) < self._rank(self.best)):
            self.best = made
        drop = made.judged.totals.loss
        if self.nearest is None or drop < self.nearest.judged.totals.loss:
            self.nearest = made

    def _rank(self, made: Candidate) -> tuple[bool, tuple[float, float]]:
        """Slower than the user expects without having said so comes last; else what is preferred counts."""
        limit = self._limits().latency_ms
        slow = limit is not None and made.judged.totals.latency_ms > NOISE * limit
        return slow, self._figure(made)

    def _figure(self, made: Candidate) -> tuple[float, float]:
        """What is preferred, of a measured model, and the drop among equals."""
        totals = made.judged.totals
        preferred = float(getattr(totals, PREFERRED[self.settled.prefer]))
        return preferred, made.judged.surrogate

    def _solved(self, estimates: Estimates, limit: float | None) -> Solution:
        problem, prefer = self.bench.problem, self.settled.prefer
        asked = self.settled.limits(self.judge.float_totals)
        # The last two: nobody asked to be as fast as float, and what the loss may be is an estimate; the least that the
        # other bounds leave is worth a measurement.
        attempts = [(replace(self._limits(), loss=limit), prefer), (replace(asked, loss=limit), prefer)]
        attempts += [(asked, "accuracy")] if limit is not None else []
        for limits, preferred in attempts:
            found = solve(problem, estimates, limits, preferred)
            if isinstance(found, Solution):
                return found
        assert isinstance(found, Infeasible)
        raise refusal(found)

    def _limits(self) -> Limits:
        """The user's bounds; where the smallest is asked for and nothing said of time, none slower than float."""
        limits = self.settled.limits(self.judge.float_totals)
        if self.settled.prefer == "size" and limits.latency_ms is None and self.judge.timed:
            return replace(limits, latency_ms=self._usual_latency())
        return limits

    def _usual_latency(self) -> float:
        """Of the float model, or of a uniform model that is faster: what a user would take instead.

        That is the smallest one that keeps the bounds, or where none does, the one that loses least.
        """
        totals = self.judge.float_totals
        uniform = [each.totals for each in self.measured.uniform.values()]
        kept = [each for each in uniform if not self.settled.broken(each, 0.0, totals)]
        smaller = [each for each in uniform if each.size_bytes < totals.size_bytes]
        nearest = min(smaller, key=lambda each: each.loss, default=totals)
        best = min(kept, key=lambda each: each.size_bytes, default=nearest)
        return min(totals.latency_ms, best.latency_ms)

    def _first_limit(self) -> float | None:
        """The sum of losses at which the bound on the metric should be reached; None where there is no bound."""
        drop = self.settled.bounds.max_drop
        if drop is None:
            return None
        expected = self.judge.metric.surrogate_of(drop)
        points = [
            (each.surrogate, each.totals.loss)
            for each in self.measured.uniform.values()
            if each.surrogate > 0 and each.totals.loss > 0
        ]
        nearest = min(points, key=lambda point: abs(math.log(point[1] / max(drop, 1e-9))), default=None)
        if nearest is None:
            return float(expected)
        return float(nearest[0] * drop / nearest[1]) if drop > 0 else 0.0

    def _drops_too_much(self, made: Candidate) -> bool:
        bound = self.settled.bounds.max_drop
        return bound is not None and made.judged.totals.loss > bound

    def _next_limit(self, low: float, high: float, made: Candidate | None) -> float:
        """Between what held and what failed; where only one is known, as far as the measured drop suggests."""
        if math.isfinite(high) and low > 0:
            return math.sqrt(low * high)
        drop = self.settled.bounds.max_drop or 0.0
        share = STEP if made is None or made.judged.totals.loss <= 0 else drop / made.judged.totals.loss
        if math.isfinite(high):
            return high * min(max(0.8 * share, 0.05), 0.8)
        return low * min(max(share, 1.15), STEP)

    def _put_right(self, estimates: Estimates, made: Candidate) -> Estimates:
        """Estimates that give what was measured of this model."""
        found = estimates.total(made.solution.picked)
        moved = moved_size(estimates, made.judged.totals.size_bytes - found.size_bytes)
        if not self.judge.timed or found.latency_ms <= 0:
            return moved
        return scaled_latency(moved, made.judged.totals.latency_ms / found.latency_ms)

    def _compare_variants(self, solution: Solution, estimates: Estimates) -> None:
        """Build a few pipelines of one assignment, and go on with the one that loses least (or is fastest)."""
        assignment = solution.assignment(self.bench.problem)
        has_data = self.bench.samples.calibration is not None
        found: list[tuple[tuple[float, float, float], Variant]] = []
        for variant in variants_of(self.bench.problem, assignment, self.bench.variant, has_data=has_data):
            made = self.verify(solution, estimates, variant)
            if made is None:
                self.considered.append(f"{variant.name}: failed verification")
                continue
            totals = made.judged.totals
            self.considered.append(
                f"{variant.name}: drop {totals.loss:.5f}, surrogate {made.judged.surrogate:.5f}, "
                f"{totals.size_bytes / 1e6:.3f} MB, {totals.latency_ms:.3f} ms"
            )
            fast = self.settled.prefer == "speed" and made.holds
            rank = totals.latency_ms if fast else math.inf
            found.append(((rank, round(totals.loss, 6), made.judged.surrogate), variant))
        if found:
            self.variant = min(found, key=lambda each: each[0])[1]
