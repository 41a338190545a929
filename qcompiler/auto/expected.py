"""How fast a user expects a model to be: as bounded, or where the smallest is asked for, as what is at hand anyway."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qcompiler.auto.bounds import NOISE, Settled
from qcompiler.auto.facts import Estimates, Problem
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
        """The user's bounds, and for the smallest the time that is estimated of what a user would take instead."""
        if not self._unsaid:
            return self._asked
        usual = self.problem.indices(self.problem.uniform(self._usual))
        return replace(self._asked, latency_ms=EQUAL * estimates.total(usual).latency_ms)

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
        return self.settled.prefer == "size" and self._asked.latency_ms is None and self.judge.timed

    @property
    def _usual(self) -> str:
        return self.measured.usual(self.settled, self.judge.float_totals)
