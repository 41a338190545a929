"""The limit of the sum of losses at which the bound on the metric is just used up.

The bound is in the metric's own unit, and the program's on the sum of surrogate losses.  The limit of that sum is
searched: a model that keeps the bound lets it grow, one that breaks it makes it shrink, between the largest sum that
was seen to hold and the smallest that was seen to fail.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qcompiler.auto.judge import Judged

CLOSE = 1.08
"""Limits of the loss that lie this near one another give the same model often enough."""
STEP = 3.0
"""By how much a limit grows at most while nothing has failed yet."""


@dataclass
class LossLimit:
    """The search for one limit.

    Attributes:
        drop: of the metric, at most.
        limit: of the sum of losses, to be tried next.
        low: largest sum that was seen to hold.
        high: smallest that was seen to fail.
    """

    drop: float
    limit: float
    low: float = 0.0
    high: float = math.inf

    @classmethod
    def expected(cls, drop: float, surrogate: float, measured: Iterable[Judged]) -> LossLimit:
        """Begin where the bound should be reached, between the models that are known to hold and to fail.

        A metric that counts (250 pictures) is no function of the loss; then the largest loss that holds tells more.

        Args:
            drop: the bound.
            surrogate: what the metric expects a drop of it to be as a loss.
            measured: models whose drop and loss are known.
        """
        known = [(each.surrogate, each.totals.loss) for each in measured if each.surrogate > 0]
        points = [(loss, lost) for loss, lost in known if lost > 0]
        nearest = min(points, key=lambda point: abs(math.log(point[1] / max(drop, 1e-9))), default=None)
        if nearest is None:
            return cls(drop, float(surrogate))
        limit = float(nearest[0] * drop / nearest[1]) if drop > 0 else 0.0
        low = max((loss for loss, lost in known if lost <= drop), default=0.0)
        high = min((loss for loss, lost in known if lost > drop and loss > low), default=math.inf)
        if limit <= low:
            limit = math.sqrt(low * high) if math.isfinite(high) else low
        return cls(drop, float(limit), low, high)

    @property
    def failed(self) -> bool:
        """Whether any sum was seen to fail."""
        return math.isfinite(self.high)

    @property
    def settled(self) -> bool:
        """Whether nothing is left between what holds and what fails."""
        return self.high < CLOSE * self.low

    def learn_of_float(self) -> None:
        """The limit leaves everything in float."""
        self.low = max(self.low, self.limit)
        self._move(None)

    def learn(self, predicted: float, drop: float | None, *, holds: bool) -> None:
        """Say what became of the model that was found within the limit.

        Args:
            predicted: its sum of losses.
            drop: measured, of the metric; None where it fails the compiler's own checks.
            holds: whether it keeps every bound.
        """
        if drop is not None and drop <= self.drop:
            self.low = max(self.low, predicted, self.limit if holds else 0.0)
        else:
            self.high = min(self.high, max(predicted, 1e-12))
        self._move(drop)

    def _move(self, drop: float | None) -> None:
        """Between what held and what failed; where only one is known, as far as the measured drop suggests."""
        if self.failed and self.low > 0:
            self.limit = math.sqrt(self.low * self.high)
            return
        share = STEP if drop is None or drop <= 0 else self.drop / drop
        if self.failed:
            self.limit = self.high * min(max(0.8 * share, 0.05), 0.8)
        else:
            self.limit = self.low * min(max(share, 1.15), STEP)
