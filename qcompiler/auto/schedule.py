"""How long a search still takes: what steps of each kind took so far, times how many of them are left.

Nothing is said before the first uniform model was built and judged: what a step takes depends on the model and on the
metric's data, and all others are guessed from it until one of their own kind was done.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["uniform", "losses", "candidates"]

GUESS: Mapping[Kind, float] = {"uniform": 1.0, "losses": 0.5, "candidates": 1.5}
"""Time of a step as a share of that of a uniform model, before one of its kind was done: losses of a choice; a
candidate is compiled, verified and judged."""

WITHIN: Mapping[Kind, str] = {"losses": "measuring what"}
"""What labels of progress begin with that say how much of a step is done."""
TELLING = 0.15
"""Share of a step that must be done for its own progress to count."""
LEAST_LEFT = 0.1
"""Of what a step was expected to take, when it takes longer."""


USUAL_ROUNDS, USUAL_VARIANTS = 3, 2
"""Programs until the limit of the loss is found, and other pipelines of the first assignment, about."""


def usual_candidates(rounds: int = 0, *, bounded: bool) -> int:
    """How many models are still to be compiled after so many programs, about.

    Args:
        rounds: programs that were solved.
        bounded: whether the metric is, so that the limit of the loss is searched.
    """
    left = max(USUAL_ROUNDS - rounds, 1) if bounded else int(rounds == 0)
    return left + (0 if rounds else USUAL_VARIANTS)


@dataclass
class Schedule:
    """Steps of one search.

    Attributes:
        left: steps that are still to be done, by kind.
        took: seconds of those that were done; of those that a journal knew, what they took when they were.
        started: by the monotonic clock.
    """

    left: dict[Kind, int] = field(default_factory=dict)
    took: dict[Kind, list[float]] = field(default_factory=dict)
    started: float = field(default_factory=lambda: time.monotonic())
    _current: Kind | None = None
    _since: float = 0.0
    _share: float = 0.0

    def plan(self, kind: Kind, steps: int) -> None:
        """Say how many steps of a kind are to be done from now on."""
        self.left[kind] = max(steps, 0)

    def begin(self, kind: Kind) -> None:
        """Say that a step has begun."""
        self._current, self._since, self._share = kind, time.monotonic(), 0.0

    def follow(self, label: str, done: int, total: int | None) -> None:
        """Take note of progress within the step that has begun, where the label is about that."""
        current = self._current
        if total and current is not None and current in WITHIN and label.startswith(WITHIN[current]):
            self._share = done / total

    def end(self, seconds: float | None = None, steps: int = 1) -> None:
        """Say that the step, or so many, are done.

        Args:
            seconds: that it took, or once took; None: since it has begun.
            steps: that were done.
        """
        kind = self._current
        assert kind is not None
        found = time.monotonic() - self._since if seconds is None else seconds
        self.took.setdefault(kind, []).extend([found / steps] * steps)
        self.left[kind] = max(self.left.get(kind, 0) - steps, 0)
        self._current = None

    @property
    def elapsed_seconds(self) -> float:
        """Since the search began."""
        return time.monotonic() - self.started

    def left_seconds(self) -> float | None:
        """About how long everything that is planned takes from now on; None where that cannot be said yet."""
        if "uniform" not in self.took:
            return None
        total = sum(steps * self._expected(kind) for kind, steps in self.left.items())
        if self._current is None:
            return total
        expected = self._expected(self._current) * (self.left[self._current] if self._is_one else 1)
        spent = time.monotonic() - self._since
        rest = max(expected - spent, LEAST_LEFT * expected)
        if self._share > TELLING:
            rest = spent * (1 - self._share) / self._share
        return max(total - expected + rest, 0.0)

    def in_tenths(self) -> tuple[int, int | None]:
        """Tenths of a second that are done, and in all; None where that cannot be said yet."""
        left, elapsed = self.left_seconds(), self.elapsed_seconds
        return (0, None) if left is None else (round(10 * elapsed), round(10 * (elapsed + left)))

    @property
    def _is_one(self) -> bool:
        """Whether the steps of the kind at hand are done as one."""
        return self._current == "losses"

    def _expected(self, kind: Kind) -> float:
        """Mean of those that were done, the guess being one of them: the first one may be unlike those that come."""
        guess = GUESS[kind] * statistics.fmean(self.took["uniform"])
        return statistics.fmean([*self.took.get(kind, ()), guess])
