"""How fast a user expects a model to be: as bounded, or where nothing is said of time, as what is at hand anyway.

That counts where the smallest is asked for, or the most accurate within a size: the last thousandth of a loss is not
worth half the speed.  Bits a weight are another matter, as what has few of them is often slow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qcompiler.auto.bounds import NOISE, Settled
from qcompiler.auto.facts import FLOAT, Estimates, Problem
from qcompiler.auto.judge import Judge, Judged
from qcompiler.auto.solve import Limits
from qcompiler.auto.tables import Measured

EQUAL = 1.001
"""Estimated times within so much are equal."""
AS_FAST = 1.1
"""Measured times within so much are as fast, where nobody bounded them: one timing is worth no more."""


@dataclass(frozen=True)
class Expected:
    """What the user said of time, and did not say.

    Attributes:
        problem: what is decided.
        measured: uniform models, which a user could take instead.
        settled: the bounds.
        judge: names the float model's figures.
    """

    problem: Problem
    measured: Measured
    settled: Settled
    judge: Judge

    def limits(self, estimates: Estimates) -> Limits:
        """The user's bounds, and where time is not one the estimated time of what a user would take instead."""
        if not self._unsaid:
            return self._asked
        usual = self.problem.indices(self.problem.uniform(self._usual))
        return replace(self._asked, latency_ms=EQUAL * estimates.total(usual).latency_ms)

    @property
    def on_usual_kernels(self) -> Problem:
        """Where the smallest is asked for, without float for groups that what a user would take has on codes.

        A layer in float between others on codes may seem to cost nothing where its time and that of the boundaries are
        a little off.
        """
        if not (self._unsaid and self.settled.prefer == "size"):
            return self.problem
        on_codes = self.problem.indices(self.problem.uniform(self._usual)) != self.problem.choice(FLOAT)
        allowed = self.problem.allowed.copy()
        allowed[on_codes, self.problem.choice(FLOAT)] = False
        return replace(self.problem, allowed=allowed)

    def is_slow(self, judged: Judged) -> bool:
        """Whether a measured model takes longer than expected."""
        if self._unsaid:
            usual = self.measured.uniform.get(self._usual)
            totals = usual.totals if usual else self.judge.float_totals
            return judged.totals.latency_ms > AS_FAST * totals.latency_ms
        most = self._asked.latency_ms
        return most is not None and judged.totals.latency_ms > NOISE * most

    @property
    def _asked(self) -> Limits:
        return self.settled.limits(self.judge.float_totals)

    @property
    def _unsaid(self) -> bool:
        asked = self._asked
        sized = asked.size_bytes is not None and asked.bits is None
        counts = self.settled.prefer == "size" or (self.settled.prefer == "accuracy" and sized)
        return counts and asked.latency_ms is None and self.judge.timed

    @property
    def _usual(self) -> str:
        """The choice of the uniform model that a user would take instead; float where none is faster."""
        if self.settled.prefer == "size":
            return self.measured.usual(self.settled, self.judge.float_totals)
        float_totals, uniform = self.judge.float_totals, self.measured.uniform
        kept = [
            name for name, each in uniform.items() if not self.settled.broken(each.totals, 0.0, float_totals)
        ]
        best = min(kept, key=lambda name: uniform[name].surrogate, default=FLOAT)
        faster = best != FLOAT and uniform[best].totals.latency_ms < float_totals.latency_ms
        return best if faster else FLOAT
