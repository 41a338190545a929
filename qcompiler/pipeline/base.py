"""What a pass is.

A pass is a frozen dataclass whose fields are its options.  It is asked twice: first which statistics it
needs of which values of the model as it stands, then to change the model in place with those statistics in
hand.  It never runs inference, and it says for every node it looked at what it did or why not.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import onnx_ir as ir

if TYPE_CHECKING:
    from qcompiler.backends.base import Target
    from qcompiler.calibration.requests import Request
    from qcompiler.calibration.statistics import Statistics

Action = Literal["quantized", "transformed", "skipped"]


@dataclass(frozen=True)
class NodeDecision:
    """What a pass did with one node of the user's file, or why it left it."""

    node: str
    op_type: str
    action: Action
    detail: str
    """The format given ("uint8 x int8 per channel"), the transform made, or the reason for leaving it."""
    stored_only: bool = False
    """Whether only the weight was quantized, to be expanded before it is used: no integer kernel is expected."""


@dataclass(frozen=True)
class PassReport:
    """Everything one pass did, in graph order."""

    name: str
    nodes: tuple[NodeDecision, ...]

    def count(self, action: Action) -> int:
        return sum(decision.action == action for decision in self.nodes)


@dataclass(frozen=True)
class PassContext:
    """What a pass may look at.

    Attributes:
        model: the model as the passes before left it; ``apply`` changes it in place.
        reference: the prepared float model before the first pass; never changed.
        selected: names of the nodes that the user's --include and --exclude leave.
        target: decides the number formats and which nodes run in integers.
    """

    model: ir.Model
    reference: ir.Model
    selected: frozenset[str]
    target: Target


class Pass(abc.ABC):
    """Base of every pass; subclasses are frozen dataclasses, one file each."""

    name: ClassVar[str]
    """The word a user writes after ``--passes``."""

    quantizes: ClassVar[bool] = True
    """False for transforms that leave the model in float."""

    needs_data: ClassVar[bool] = False
    """Whether it asks for statistics, so that missing data is found before anything runs."""

    def statistics(self, context: PassContext) -> Sequence[Request]:
        """Return the statistics needed of ``context.model``; empty when no data is needed."""
        del context
        return ()

    @abc.abstractmethod
    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        """Change ``context.model`` in place and report every node that was looked at."""
