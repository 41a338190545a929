"""Models that were compiled and measured, and what they teach about the estimates."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.auto.facts import Estimates, Totals
from qcompiler.auto.judge import Judged
from qcompiler.auto.loss_limit import LossLimit
from qcompiler.auto.solve import Solution
from qcompiler.auto.tables import moved_size, scaled_latency
from qcompiler.auto.variants import Variant
from qcompiler.pipeline.selected import Selected


@dataclass(frozen=True)
class Candidate:
    """A compiled and verified model.

    Attributes:
        solution: what the program said.
        variant: which pipeline of the assignment.
        steps: that pipeline.
        predicted: before it was measured: size to the byte, by a build with rounded codes; latency and surrogate loss
            by estimates that other candidates have put right.
        judged: what it does.
        broken: bounds that it does not keep, in words.
        path: of its file.
    """

    solution: Solution
    variant: Variant
    steps: tuple[Selected, ...]
    predicted: Totals
    judged: Judged
    broken: tuple[str, ...]
    path: Path

    @property
    def holds(self) -> bool:
        """Whether it keeps every bound."""
        return not self.broken


def said_of(made: Candidate) -> str:
    """What a candidate is and does, in a line."""
    totals = made.judged.totals
    timed = f", {totals.latency_ms:.3f} ms" if totals.latency_ms else ""
    return (
        f"{made.variant.name}: drop {totals.loss:.5f}, surrogate {made.judged.surrogate:.5f}, "
        f"{totals.size_bytes / 1e6:.3f} MB{timed}"
    )


def put_right(estimates: Estimates, made: Sequence[Candidate], most_ms: float | None) -> Estimates:
    """Estimates that foretell what was measured of candidates.

    Latencies are multiplied by the median of what they were off by, so that the noise of one timing does not steer the
    search; unless the last candidate took more than the user allows: then what that one took counts.

    Args:
        estimates: as they were before anything was compiled.
        made: candidates in order.
        most_ms: bound of the latency.
    """
    if not made:
        return estimates
    foretold = [estimates.total(each.solution.picked) for each in made]
    last = made[-1].judged.totals
    moved = moved_size(estimates, last.size_bytes - foretold[-1].size_bytes)
    pairs = [
        (each.judged.totals.latency_ms, total.latency_ms) for each, total in zip(made, foretold, strict=True)
    ]
    ratios = [measured / total for measured, total in pairs if measured > 0 and total > 0]
    if not ratios:  # nothing is timed
        return moved
    slow = most_ms is not None and last.latency_ms > most_ms
    return scaled_latency(moved, ratios[-1] if slow else statistics.median(ratios))


def learn(limit: LossLimit, solution: Solution, candidate: Candidate | None) -> None:
    """Tell the search for a limit what became of the model that was found within it."""
    if candidate is None and not solution.picked.any():
        limit.learn_of_float()
        return
    drop = None if candidate is None else candidate.judged.totals.loss
    limit.learn(solution.predicted.loss, drop, holds=candidate is not None and candidate.holds)
