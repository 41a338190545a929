"""What the page says, as plain values: everything is collected before anything is rendered.

``None`` stands where something cannot be known; :attr:`Page.unknown` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qcompiler.report.facts import Hint, SpeedFacts, ValueFacts
from qcompiler.report.search_facts import SearchFacts

State = Literal["integer", "stored", "float"]
"""Run by an integer kernel (or one for low-bit weights); quantized but run in float; not quantized."""


@dataclass(frozen=True)
class NodeRow:
    """One node of the user's file.

    Attributes:
        place: in the order of the graph, from 1.
        format: how its weight and activation are stored, as the pass says; a float type otherwise.
        solver: which solver chose the codes, or which calibrator the ranges.
        bits: of a weight, scales and zero points counted.
        size_before_bytes: of its constants in the float model; those that nodes share count for the first; None where
            it has none.
        size_after_bytes: in the compiled one.
        alone_db: SQNR of what it makes when this node alone is quantized, on float inputs.
        gathered_db: in the compiled model, with the error of all nodes before it.
        kernel: what really ran it, as the runtime says.
        before_us: microseconds in the float model; None where it has no kernel of its own.
        after_us: in the compiled one, with what quantization put around it.
        reason: why it is in float or has no integer kernel; what transforms did to it.
        alternatives: what other choices of a search would have cost it, which left it in float.
    """

    place: int
    name: str
    op_type: str
    state: State
    format: str
    solver: str
    bits: float | None
    size_before_bytes: int | None
    size_after_bytes: int | None
    alone_db: float | None
    gathered_db: float | None
    kernel: str
    before_us: float | None
    after_us: float | None
    reason: str
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class BytesPart:
    """Bytes of the result that belong together; ``node`` is "" for what belongs to none."""

    format: str
    node: str
    size_bytes: int


@dataclass(frozen=True)
class Spread:
    """A histogram of float values, and the range that codes have for them.

    Attributes:
        low, high: ends of the equal bins.
        clip_low, clip_high: smallest and largest value of the codes; None for an activation whose range is chosen at
            run time, and for a weight that was transformed before it was quantized.
        clipped_share: of values outside that range.
        outliers: channels far larger than the median one.
    """

    kind: Literal["weight", "activation"]
    name: str
    node: str
    low: float
    high: float
    counts: tuple[int, ...]
    clip_low: float | None
    clip_high: float | None
    clipped_share: float | None
    sqnr_db: float | None
    outliers: int | None


@dataclass(frozen=True)
class Times:
    """Microseconds of one profiled run that belong to no node, and of all."""

    before_us: float
    after_us: float
    before_other_us: float
    after_other_us: float


Kind = Literal["front", "uniform", "float"]
"""A model of a front, one choice everywhere, or the float model."""


@dataclass(frozen=True)
class FrontRow:
    """One model beside others: of the front, of one choice everywhere (``uniform``), or the float model.

    Attributes:
        loss: None where it was only predicted, in another unit.
        measured: whether it was built and run.
    """

    label: str
    kind: Kind
    size_bytes: float
    latency_ms: float
    loss: float | None
    measured: bool
    chosen: bool


@dataclass(frozen=True)
class Page:
    """The whole report.

    Attributes:
        model: what was compiled.
        result: what came out.
        target: with its options.
        pipeline: as ``--passes`` spells it.
        made: when, and with which versions.
        size_before_bytes: None for a model in memory.
        requested_bits, achieved_bits, quantized_bits: as in :class:`qcompiler.report.facts.CompileFacts`; None without
            a manifest.
        timed_feeds: how many feeds the times of ``speed`` are for.
        untimed: why there is no speed.
        data: what accuracy was measured on.
        nodes: in the order of the graph.
        left_out: nodes of a large graph that are not in the table, by operator.
        unknown: what could not be known, and why.
        search: what a search found; None for a pipeline that was given.
        front: models that the search looked at.
        command: what makes the result again.
        command_needs: what is to be done before.
    """

    model: str
    result: str
    target: str
    pipeline: str
    made: str
    size_before_bytes: int | None
    size_after_bytes: int
    parameters: int | None
    requested_bits: float | None
    achieved_bits: float | None
    quantized_bits: float | None
    speed: SpeedFacts | None
    timed_feeds: int
    untimed: str
    data: str
    outputs: tuple[ValueFacts, ...]
    verdict: tuple[str, ...]
    warnings: tuple[str, ...]
    findings: tuple[Hint, ...]
    hints: tuple[Hint, ...]
    nodes: tuple[NodeRow, ...]
    left_out: dict[str, int]
    bytes: tuple[BytesPart, ...]
    spreads: tuple[Spread, ...]
    times: Times | None
    search: SearchFacts | None
    front: tuple[FrontRow, ...]
    unknown: tuple[str, ...]
    command: str
    recipe: str
    manifest: str
    command_needs: tuple[str, ...] = ()
