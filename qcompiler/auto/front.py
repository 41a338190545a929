"""Models none of which is beaten in size, latency and loss at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qcompiler.auto.facts import Assignment, Totals


@dataclass(frozen=True)
class FrontPoint:
    """One model of a front.

    Attributes:
        assignment: what makes it.
        predicted: by the estimates.
        measured: None where it was not built.
        chosen: whether this is the one published.
    """

    assignment: Assignment
    predicted: Totals
    measured: Totals | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Front:
    """Models none of which is beaten in size, latency and loss at once, smallest first.

    Attributes:
        metric: what the loss is of, in words.
        float_model: the model as it was given.
        points: of the front.
        uniform: every choice taken everywhere, by its name, for comparison.
    """

    metric: str
    float_model: Totals
    points: tuple[FrontPoint, ...]
    uniform: Mapping[str, FrontPoint] = field(default_factory=dict)
