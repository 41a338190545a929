"""Which of the models that keep the bounds is the fastest, where timings one by one hardly tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qcompiler.auto.bounds import Settled
from qcompiler.auto.facts import Totals
from qcompiler.auto.judge import Judge
from qcompiler.auto.tried import Candidate
from qcompiler.pipeline.selected import Selected

NEAR = 1.05
"""Models within so much of the fastest are timed again: one session of the same file says up to 4 % more or less."""
FINALISTS = 4
EQUAL = 1.01
"""Times so near one another are equal; what is lost decides between them."""


def play_off(
    held: Sequence[Candidate], judge: Judge, settled: Settled, key: Callable[[Sequence[Selected]], str]
) -> list[Candidate]:
    """The fastest models as timed in turns, best first; as they were where there is one alone.

    Args:
        held: models that keep the bounds.
        judge: times them.
        settled: bounds, which the new times must keep too.
        key: of a pipeline, for the journal.
    """
    ordered = sorted(held, key=_ms)
    near = {key(each.steps): each for each in ordered if _ms(each) <= NEAR * _ms(ordered[0])}
    finalists = dict(list(near.items())[:FINALISTS])
    if len(finalists) < 2:
        return ordered[:1]
    times = judge.latencies_ms({name: each.path for name, each in finalists.items()})
    timed = [_timed(each, ms, judge, settled) for each, ms in zip(finalists.values(), times, strict=True)]
    kept = [each for each in timed if each.holds] or timed
    least = min(map(_ms, kept))
    return sorted(kept, key=lambda each: (_ms(each) > EQUAL * least, _loss_or_ms(each, least)))


def may_be_faster(one: Totals, other: Totals) -> bool:
    """Whether timings one by one leave open which of two models is the faster one."""
    return one.latency_ms <= NEAR * other.latency_ms


def _ms(made: Candidate) -> float:
    return made.judged.totals.latency_ms


def _loss_or_ms(made: Candidate, least_ms: float) -> float:
    return made.judged.surrogate if _ms(made) <= EQUAL * least_ms else _ms(made)


def _timed(made: Candidate, ms: float, judge: Judge, settled: Settled) -> Candidate:
    judged = replace(made.judged, totals=replace(made.judged.totals, latency_ms=ms))
    broken = settled.broken(judged.totals, made.solution.bits, judge.float_totals)
    return replace(made, judged=judged, broken=broken)
