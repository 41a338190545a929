"""What a search for an assignment knows: groups of nodes, choices for them, estimates of each pair, and bounds.

An *assignment* maps every group to one choice.  Estimates are additive: the size of a model is ``base.size_bytes`` and
the sum of one cell per group, and so are its latency and its loss.  All arrays are ``[groups, choices]`` in float64, in
the order of :attr:`Problem.groups` and :attr:`Problem.choices`; NaN stands where a choice is not for a group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx_ir as ir

    from qcompiler.backends.base import Target
    from qcompiler.build import Build
    from qcompiler.pipeline.journal import Journal
    from qcompiler.samples import Samples

Table = npt.NDArray[np.float64]
Prefer = Literal["size", "speed", "accuracy"]
Assignment = Mapping[str, str]
"""Group name -> choice name; a group that is missing stays in float."""

NARROW = "weights="
"""Option of a pass that quantizes activations by which its weights take fewer bits in the file."""
FLOAT = "float"
"""Name of the choice that leaves nodes as they are."""

ORDER = ("smoothquant", "outlier_channels")
"""Transforms that may be for some nodes alone, as they stand in a pipeline."""


@dataclass(frozen=True)
class Group:
    """Nodes of the user's file that are decided together: usually one, more where they share a weight.

    Attributes:
        name: of the first node.
        nodes: all names, in graph order.
        op_type: of the first node.
        parameters: weights, those that are shared counted once.
    """

    name: str
    nodes: tuple[str, ...]
    op_type: str
    parameters: int


@dataclass(frozen=True)
class Choice:
    """What may become of a group.

    Attributes:
        name: as tables show it, unique.
        words: as ``--passes`` spells it: one pass that quantizes ("int4:group=32:solver=gptq"), perhaps with
            transforms of these nodes before it ("smoothquant,int8_dynamic"); "" leaves the group in float.
        weight_only: whether activations stay in float in the dialect, so that codes alone decide what it loses.
        bits: of a weight, scales not counted; 32 for float.
    """

    name: str
    words: str
    weight_only: bool = False
    bits: int = 32

    @property
    def transforms(self) -> tuple[str, ...]:
        """What stands before the pass that quantizes, in order."""
        return tuple(self.words.split(",")[:-1])

    @property
    def quantizing(self) -> str:
        """Words of the pass that quantizes."""
        return self.words.rpartition(",")[2]


@dataclass(frozen=True)
class Problem:
    """What is to be decided.

    Attributes:
        groups: in graph order.
        choices: the first is :data:`FLOAT`.
        allowed: ``[groups, choices]``, which choice a group may take; float is always allowed.
        stored_bits: ``[groups, choices]`` bits of a group's weights as the format packs them, scales counted; what the
            target's file takes may be more (wider containers, second forms).
        shared: groups, by index, that read one activation: those that quantize it do so after the same transforms.
        estimated: whether it is so large that costs are estimated instead of measured.
    """

    groups: tuple[Group, ...]
    choices: tuple[Choice, ...]
    allowed: npt.NDArray[np.bool_]
    stored_bits: Table
    shared: tuple[tuple[int, ...], ...] = ()
    estimated: bool = False

    def choice(self, name: str) -> int:
        """Index of a choice."""
        return [item.name for item in self.choices].index(name)

    def uniform(self, name: str) -> dict[str, str]:
        """Every group takes the choice, where it may not the one with most of its transforms, or stays in float.

        As on the command line, what does not take weights of fewer bits takes the same pass with 8 bits.

        Args:
            name: of a choice, or the words of a pass after transforms that no single group takes together.
        """
        wanted = next((each for each in self.choices if each.name == name), Choice(name, name))
        forms = [
            (choice, at)
            for at, choice in enumerate(self.choices)
            if choice.quantizing == wanted.quantizing and set(choice.transforms) <= set(wanted.transforms)
        ]
        if not forms:
            raise ValueError(f"{name} is none of the choices")
        found: dict[str, str] = {}
        for _, at in sorted(forms, key=lambda form: len(form[0].transforms)):
            found |= self._takers(at)
        wide = self.wide(forms[0][1])
        return found if wide is None else {**self._takers(wide), **found}

    def _takers(self, at: int) -> dict[str, str]:
        """Groups that may take a choice, by name, with its name."""
        rows = zip(self.groups, self.allowed, strict=True)
        return {group.name: self.choices[at].name for group, row in rows if row[at]}

    def wide(self, at: int) -> int | None:
        """The choice with the same activations and weights of 8 bits, of one with fewer in the file; None of others."""
        words = self.choices[at].quantizing.split(":")
        if not any(word.startswith(NARROW) for word in words):
            return None
        plain = ":".join(word for word in words if not word.startswith((NARROW, "solver=", "group=")))
        return next((index for index, choice in enumerate(self.choices) if choice.words == plain), None)

    def plain(self, at: int) -> int:
        """Index of the choice with the same pass and no transforms."""
        words = self.choices[at].quantizing
        return next(index for index, choice in enumerate(self.choices) if choice.words == words)

    def indices(self, assignment: Assignment) -> npt.NDArray[np.int64]:
        """``[groups]``: the choice of each group, by index."""
        return np.array([self.choice(assignment.get(group.name, FLOAT)) for group in self.groups], np.int64)


@dataclass(frozen=True)
class Totals:
    """What a model takes, predicted or measured.

    Attributes:
        size_bytes: of its files, as :func:`qcompiler.measure.size.model_size_bytes` counts them.
        latency_ms: of one run on the timing feed.
        loss: how much worse the metric is than the float model's, in the metric's units (0: as good).
    """

    size_bytes: float
    latency_ms: float
    loss: float


@dataclass(frozen=True)
class Boundary:
    """Time that is spent between two groups where one takes a choice of one kind and its neighbour of another.

    Attributes:
        group_a: index of a group.
        choices_a: indices of choices; the time is spent where it takes one of them,
        group_b: index of another group,
        choices_b: and this one one of these.
        ms: milliseconds.
    """

    group_a: int
    choices_a: frozenset[int]
    group_b: int
    choices_b: frozenset[int]
    ms: float

    def holds(self, picked: npt.NDArray[np.int64]) -> bool:
        """Whether the time is spent when groups take these choices."""
        return int(picked[self.group_a]) in self.choices_a and int(picked[self.group_b]) in self.choices_b


@dataclass(frozen=True)
class Estimates:
    """What each choice of each group adds to the model that is all float.

    Attributes:
        size_bytes: ``[groups, choices]`` bytes of weights, scales and nodes of the choice (float: of the float weight).
        latency_ms: ``[groups, choices]`` in situ, milliseconds of a group's nodes.
        loss: ``[groups, choices]`` rise of the metric's loss when this group alone takes the choice; 0 for float.
        base: what no choice changes: the rest of the file, the other nodes, 0.
        boundaries: what pairs of choices add to the latency.
    """

    size_bytes: Table
    latency_ms: Table
    loss: Table
    base: Totals = Totals(0.0, 0.0, 0.0)
    boundaries: tuple[Boundary, ...] = ()

    def total(self, picked: npt.NDArray[np.int64]) -> Totals:
        """The prediction for the choice of each group, by index ``[groups]``."""
        rows = np.arange(len(picked))
        between = sum(boundary.ms for boundary in self.boundaries if boundary.holds(picked))
        return Totals(
            self.base.size_bytes + float(self.size_bytes[rows, picked].sum()),
            self.base.latency_ms + float(self.latency_ms[rows, picked].sum()) + between,
            self.base.loss + float(self.loss[rows, picked].sum()),
        )


@dataclass(frozen=True)
class Bounds:
    """What must hold of the result; None: nothing said.

    Attributes:
        max_drop: most that the metric may lose against the float model, in its units.
        max_size_bytes: of the files.
        max_latency_ms: of one run.
        max_latency_ratio: of one run, against the float model's on the same machine.
        max_bits: bits a weight of the quantized groups and of those that could be, scales and padding counted.
        prefer: what is made least within the bounds; None: what :meth:`settled` chooses.
    """

    max_drop: float | None = None
    max_size_bytes: int | None = None
    max_latency_ms: float | None = None
    max_latency_ratio: float | None = None
    max_bits: float | None = None
    prefer: Prefer | None = None

    @property
    def unbounded(self) -> bool:
        """Whether nothing but a preference is said."""
        bounds = [item.name for item in dataclasses.fields(self) if item.name != "prefer"]
        return all(getattr(self, name) is None for name in bounds)


class Workbench(Protocol):
    """Builds models of assignments; what was solved or built once is not solved or built again."""

    @property
    def reference(self) -> ir.Model:
        """The prepared float model; never changed."""

    @property
    def float_path(self) -> Path:
        """A file of the float model that the target's runtime opens, for what is measured against."""

    @property
    def target(self) -> Target: ...

    @property
    def samples(self) -> Samples: ...

    @property
    def threads(self) -> int: ...

    @property
    def journal(self) -> Journal:
        """Remembers what was measured, by key; a search that was interrupted and goes on finds it again."""

    def build(self, assignment: Assignment, *, rounded: bool = False) -> Build:
        """The deployed model of an assignment; its file stays until the search ends.

        Args:
            assignment: choice by group.
            rounded: codes rounded to nearest instead of solved: the same bytes in number, and the same kernels.
        """

    def tell(self, label: str, done: int = 0, total: int | None = None) -> None:
        """Say what is done to whoever follows the progress."""
