"""What a pass is.

A pass is a frozen dataclass whose fields are its options.  It is asked twice: first which statistics it
needs of which values of the model as it stands, then to change the model in place with those statistics in
hand.  It never runs inference, and it says for every node it looked at what it did or why not.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import onnx_ir as ir

from qcompiler.pipeline.journal import Journal

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
        scope: names of the nodes that this call is about, None for all: a sequential pass is called once per
            segment and stage, and reports no node outside its scope.
        journal: remembers what a pass has solved, across rebuilds and across a killed run.
        has_data: whether statistics can be asked for by a pass that does well without, too.
        following: the passes after this one: a transform may choose for the format that comes.
        partners: passes of the same kind that stand right behind this one, each for other nodes: which of them is for
            a node, by its name.  A pass that must place all its nodes at once serves theirs too, with their options,
            and they find nothing left to do.
    """

    model: ir.Model
    reference: ir.Model
    selected: frozenset[str]
    target: Target
    scope: frozenset[str] | None = None
    journal: Journal = field(default_factory=Journal)
    has_data: bool = False
    following: tuple[Pass, ...] = ()
    partners: Mapping[str, Pass] = field(default_factory=dict)

    def nodes(self) -> Iterator[ir.Node]:
        """The nodes that this call is about, in graph order, subgraphs included."""
        for node in list(self.model.graph.all_nodes()):
            if self.scope is None or node.name in self.scope:
                yield node


class Pass(abc.ABC):
    """Base of every pass; subclasses are frozen dataclasses, one file each."""

    name: ClassVar[str]
    """The word a user writes after ``--passes``."""

    quantizes: ClassVar[bool] = True
    """False for transforms that leave the model in float."""

    needs_data: ClassVar[bool] = False
    """Whether it asks for statistics, so that missing data is found before anything runs."""

    completed_by: ClassVar[str] = ""
    """For a transform that is of no use alone: the quantizing pass that is appended where none follows."""

    by_segment: ClassVar[bool] = True
    """Whether it keeps to ``PassContext.scope``; False for those that must see the whole graph at once."""

    @property
    def asks_for_data(self) -> bool:
        """Whether it needs statistics with the options that it has."""
        return self.needs_data

    @property
    def sequential(self) -> bool | None:
        """Whether it wants the model segment by segment, each calibrated with what the quantized ones before give."""
        return False

    def weight_bits(self, target: Target) -> int | None:
        """Bits of the codes that it gives weights, the fewest where they differ; None where it leaves them in float."""
        del target
        return None

    def least_opset(self, target: Target) -> int:
        """Lowest opset that what it puts into a model for ``target`` needs."""
        del target
        return 0

    def check(self, target: Target) -> None:
        """Refuse, before anything is read, options that make no sense or that ``target`` cannot run.

        Raises:
            OptionError: says what was asked, why it cannot be, and what can.
        """
        del target

    def check_following(self, quantizing: Sequence[Pass]) -> None:
        """Refuse, before anything is read, to stand before passes that quantize weights in a way it cannot serve.

        Raises:
            OptionError: says which pass, and what to write instead.
        """
        del quantizing

    def stages(self, context: PassContext) -> Sequence[frozenset[str]]:
        """Part the nodes in scope into groups to be done one after another, each with statistics of its own.

        The first group by default holds all of them.  Names that are missing in every group are not looked at.
        """
        return (frozenset(str(node.name) for node in context.nodes()),)

    def statistics(self, context: PassContext) -> Sequence[Request]:
        """Return the statistics needed of ``context.model``; empty when no data is needed."""
        del context
        return ()

    def foreseen(self, context: PassContext) -> PassReport | None:
        """What :meth:`apply` would report, without doing it; None where only doing it tells."""
        del context
        return None

    @abc.abstractmethod
    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        """Change ``context.model`` in place and report every node that was looked at."""
