"""Solve, build, measure the deployed model, put the estimates right, and solve again.

Where the metric is bounded, the limit of the sum of losses is searched too (``loss_limit``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import numpy as np

from qcompiler.auto.bounds import Settled, refusal
from qcompiler.auto.builds import Builds
from qcompiler.auto.compiled import Compiler
from qcompiler.auto.expected import EQUAL, Expected
from qcompiler.auto.facts import Estimates, Totals
from qcompiler.auto.judge import Judge, Judged, size_of
from qcompiler.auto.least import solution_of
from qcompiler.auto.loss_limit import LossLimit
from qcompiler.auto.losses.sensitivity import recalled_number
from qcompiler.auto.play_off import may_be_faster, play_off
from qcompiler.auto.problem.forms import of_one_pass
from qcompiler.auto.schedule import usual_candidates
from qcompiler.auto.solve import PREFERRED, Infeasible, Limits, Solution, solve
from qcompiler.auto.tables import Measured
from qcompiler.auto.tried import Candidate, learn, put_right, said_of
from qcompiler.auto.variants import Variant, variants_of
from qcompiler.errors import OutputError, QCompilerError, VerificationError

logger = logging.getLogger(__name__)
ONE_PASS = 3  # models of one pass, with transforms where they are needed, that are compiled at most


@dataclass
class Loop:
    """One search; ``best`` is kept up to date, for whoever interrupts it.

    Attributes:
        bench: builds.
        judge: measures.
        settled: bounds.
        measured: estimates to begin with.
        compiler: compiles a pipeline as a candidate, and proves it.
        variant: the pipeline to begin with; then the one that was found best.
        rounds: programs solved at most, and ``later`` candidates of a front that is traced afterwards, about.
        considered: what was compared, in words.
        tried: by variant and assignment; None: the float model, or one that fails verification.
    """

    bench: Builds
    judge: Judge
    settled: Settled
    measured: Measured
    compiler: Compiler
    variant: Variant
    rounds: int = 6
    later: int = 0
    best: Candidate | None = None
    nearest: Candidate | None = None
    considered: list[str] = field(default_factory=list)
    tried: dict[tuple[str, bytes], Candidate | None] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Search until nothing changes any more, or ``rounds`` programs were solved.

        Raises:
            UnsupportedError: the bounds exclude each other.
        """
        limit = self._first_limit()
        for number in range(self.rounds):
            self._foresee(usual_candidates(number, bounded=limit is not None))
            solution = self._solved(None if limit is None else limit.limit)
            known = (self.variant.name, solution.picked.tobytes()) in self.tried
            if known and (limit is None or not limit.failed):
                break
            candidate = self.verify(solution)
            if number == 0:
                self._compare_variants(solution)
                candidate = self.tried.get((self.variant.name, solution.picked.tobytes()), candidate)
            if limit is None:
                if candidate is None or candidate.holds:
                    break
                continue
            learn(limit, solution, candidate)
            if limit.settled:
                break
        self.try_one_pass(limit)
        self.try_uniform()
        self.try_least()
        self._play_off()

    def try_one_pass(self, limit: LossLimit | None) -> None:
        """The best uniform model's pass, after transforms where they are needed: mixing passes may save noise alone."""
        found = self.best_uniform()
        if limit is None or found is None or "," not in found[0]:
            return
        problem = of_one_pass(self.bench.problem, found[0])
        for _ in range(ONE_PASS):
            limits = replace(self._asked, loss=limit.limit)
            solution = solve(problem, self._estimates(self.variant), limits, self.settled.prefer)
            if isinstance(solution, Infeasible):
                return
            learn(limit, solution, self.verify(solution))

    def _play_off(self) -> None:
        held = [made for made in self.tried.values() if made is not None and made.holds]
        if self.settled.prefer == "speed" and held:
            self.best, *others = play_off(held, self.judge, self.settled, self.compiler.key)
            self.considered += [f"{said_of(made)} in turns" for made in (self.best, *others) if others]

    def _foresee(self, candidates: int) -> None:
        self.bench.schedule.plan("candidates", candidates + self.later)

    def try_uniform(self) -> None:
        """Compile the best uniform model too, where it keeps the bounds and may be better than what was found."""
        found = self.best_uniform()
        if found is None:
            return
        name, judged = found
        timed = self.settled.prefer == "speed"
        near = timed and self.best is not None and may_be_faster(judged.totals, self.best.judged.totals)
        unlike = self.variant != self.bench.variant  # it was judged with codes solved in another way
        if self.best is None or near or unlike or self._rank(judged) < self._rank(self.best.judged):
            self.verify(self.uniform(name))

    def try_least(self) -> None:
        """Compile the smallest model, of which it is known that it keeps a bound on size, where nothing else does.

        It has no transforms: these may take more bytes than it leaves.
        """
        least = self.bench.least
        found = None if least is None or self.best is not None else solution_of(self.bench.problem, least)
        if found is not None:
            self.verify(found, Variant(), found.predicted)

    def uniform(self, name: str) -> Solution:
        """One choice everywhere, which was measured."""
        picked = self.bench.problem.indices(self.bench.problem.uniform(name))
        judged = self.measured.uniform[name]
        return Solution(picked, replace(judged.totals, loss=judged.surrogate), self._bits(name))

    def best_uniform(self) -> tuple[str, Judged] | None:
        """Of models of one choice everywhere that keep the bounds, as far as they were measured."""
        held = [
            (name, judged)
            for name, judged in self.measured.uniform.items()
            if not self.settled.broken(judged.totals, self._bits(name), self.judge.float_totals)
        ]
        return min(held, key=lambda each: self._figure(each[1]), default=None)

    def verify(
        self, solution: Solution, variant: Variant | None = None, foretold: Totals | None = None
    ) -> Candidate | None:
        """Compile an assignment, prove and measure it; None where it fails the compiler's own checks.

        Args:
            solution: the assignment.
            variant: which pipeline of it.
            foretold: what is expected; None: what estimates say.
        """
        variant = variant or self.variant
        key = variant.name, solution.picked.tobytes()
        if key not in self.tried:
            self.tried[key] = made = self._attempt(solution, variant, foretold)
            if made is not None:
                self._keep(made)
        return self.tried[key]

    def _attempt(self, solution: Solution, variant: Variant, foretold: Totals | None) -> Candidate | None:
        try:
            return self._made(solution, variant, foretold)
        except OutputError:
            raise
        except QCompilerError as error:
            self.failures.append(f"candidate {len(self.tried) + 1} ({variant.name}) fails: {error}")
            logger.info("%s", self.failures[-1])
            self.considered.append(self.failures[-1])
        return None

    def _made(self, solution: Solution, variant: Variant, foretold: Totals | None) -> Candidate | None:
        bench, judge = self.bench, self.judge
        assignment = solution.assignment(bench.problem)
        steps = variant.steps(bench.problem, bench.reference, assignment)
        if not any(step.item.quantizes for step in steps):  # the float model: there is nothing to compile
            return None
        key = self.compiler.key(steps)

        def rounded_bytes() -> float:
            return size_of(bench.build_variant(assignment, variant, rounded=True).path)

        predicted = replace(
            foretold or self._estimates(variant).total(solution.picked),
            size_bytes=recalled_number(bench, f"predicted_size/{key}", rounded_bytes),
        )
        bench.schedule.begin("candidates")
        compiled = self.compiler.compiled(steps)
        if compiled.failure:
            bench.schedule.end(compiled.seconds)
            raise VerificationError(compiled.failure)
        judged = judge.judge_once(f"candidate/{key}", lambda: compiled.path)
        bench.schedule.end(compiled.seconds + judged.seconds)
        broken = self.settled.broken(judged.totals, solution.bits, judge.float_totals)
        return Candidate(solution, variant, steps, predicted, judged, broken, compiled.path)

    def _keep(self, made: Candidate) -> None:
        if made.holds and (self.best is None or self._rank(made.judged) < self._rank(self.best.judged)):
            self.best = made
        drop = made.judged.totals.loss
        if self.nearest is None or drop < self.nearest.judged.totals.loss:
            self.nearest = made

    def _rank(self, judged: Judged) -> tuple[bool, tuple[float, float]]:
        """Slower than the user expects comes last; else what is preferred counts."""
        return self._expected.is_slow(judged), self._figure(judged)

    def _figure(self, judged: Judged) -> tuple[float, float]:
        """What is preferred, of a measured model, and the loss among equals."""
        if self.settled.prefer == "accuracy":
            return self._lost(judged)
        return float(getattr(judged.totals, PREFERRED[self.settled.prefer])), judged.surrogate

    def _lost(self, judged: Judged) -> tuple[float, float]:
        """What a model loses: by the metric where that is bounded or tells models apart, else by the surrogate."""
        drop = round(judged.totals.loss, 6)
        bounded = self.settled.bounds.max_drop is not None
        if bounded or not self.judge.metric.scatters:
            return drop, judged.surrogate
        return judged.surrogate, drop

    def _bits(self, name: str) -> float:
        """Bits a weight of the model of one choice everywhere."""
        problem = self.bench.problem
        picked = problem.indices(problem.uniform(name))
        weights = max(sum(group.parameters for group in problem.groups), 1)
        return float(problem.stored_bits[range(len(picked)), picked].sum()) / weights

    def _solved(self, limit: float | None) -> Solution:
        problem, prefer = self.bench.problem, self.settled.prefer
        asked = self._asked
        estimates = self._estimates(self.variant)
        usual, same = self._expected.limits(estimates), self._expected.on_usual_kernels
        attempts = [(each, replace(usual, loss=limit), prefer) for each in (same, problem)]
        if usual != asked:  # nobody asked to be so fast: as fast as can be within the loss, then
            fastest = solve(problem, estimates, replace(asked, loss=limit), "speed")
            if isinstance(fastest, Solution):
                ms = max(usual.latency_ms or 0.0, EQUAL * fastest.predicted.latency_ms)
                attempts.append((problem, replace(asked, loss=limit, latency_ms=ms), prefer))
        attempts.append((problem, replace(asked, loss=limit), prefer))
        # What the loss may be is an estimate; the least that the other bounds leave is worth a measurement.
        attempts += [(problem, asked, "accuracy")] if limit is not None else []
        for among, limits, preferred in attempts:
            found = solve(among, estimates, limits, preferred)
            if isinstance(found, Solution):
                return found
        assert isinstance(found, Infeasible)
        raise refusal(found)

    @property
    def _asked(self) -> Limits:
        return self.settled.limits(self.judge.float_totals)

    @property
    def _expected(self) -> Expected:
        return Expected(self.bench.problem, self.measured, self.settled, self.judge)

    def _first_limit(self) -> LossLimit | None:
        """Where the bound on the metric should be reached; None where there is no bound."""
        drop = self.settled.bounds.max_drop
        if drop is None:
            return None
        surrogate = self.judge.metric.surrogate_of(drop)
        return LossLimit.expected(drop, surrogate, self.measured.uniform.values())

    def _estimates(self, variant: Variant) -> Estimates:
        """Put right by what was measured of candidates: of those of a variant, or of all where it has none."""
        every = [made for made in self.tried.values() if made is not None]
        made = [each for each in every if each.variant == variant] or every
        most = self._asked.latency_ms
        return put_right(self.measured.estimates, made, most)

    def _compare_variants(self, solution: Solution) -> None:
        """Build a few pipelines of one assignment, and go on with the one that loses least (or is fastest)."""
        assignment = solution.assignment(self.bench.problem)
        has_data = self.bench.samples.calibration is not None
        found: list[tuple[tuple[float, float, float], Variant]] = []
        variants = list(variants_of(self.bench.problem, assignment, self.variant, has_data=has_data))
        bounded = self.settled.bounds.max_drop is not None
        self._foresee(len(variants) - 1 + usual_candidates(1, bounded=bounded))
        for variant in variants:
            made = self.verify(solution, variant)
            if made is None:
                continue
            self.considered.append(said_of(made))
            fast = self.settled.prefer == "speed" and made.holds
            rank = made.judged.totals.latency_ms if fast else np.inf
            found.append(((rank, *self._lost(made.judged)), variant))
        if found:
            self.variant = min(found, key=lambda each: each[0])[1]
