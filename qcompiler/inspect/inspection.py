"""What ``qcompile inspect`` says about a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ValueInfo:
    """A graph input or output; dimensions are numbers, names, or ``?``."""

    name: str
    dtype: str
    shape: str


@dataclass(frozen=True)
class WeightInfo:
    """One node that holds a constant float weight.

    Attributes:
        weight: name of the initializer; several nodes may share it.
        shape: as stored.
        size_bytes: of the weight as stored.
        static, dynamic, weight_only: what the target could do with the node.
        reason: why it cannot run in integers, where it cannot.
        in_subgraph: it lies in the body of an If, Loop or Scan: ranges of its activations cannot be observed.
    """

    node: str
    op_type: str
    weight: str
    shape: tuple[int, ...]
    size_bytes: int
    static: bool
    dynamic: bool
    weight_only: bool
    reason: str
    in_subgraph: bool


@dataclass(frozen=True)
class PassOutlook:
    """What a pass could do with the model.

    Attributes:
        can: how many nodes of which operators it would change.
        bytes_share: share of the weight bytes that those hold.
        cannot: how many nodes it would leave, by reason.
        note: what it needs, or why it cannot be said before data is given.
    """

    name: str
    can: dict[str, int]
    bytes_share: float
    cannot: dict[str, int]
    note: str


@dataclass(frozen=True)
class Inspection:
    """Everything about a model.

    Attributes:
        size_bytes: files, external data included.
        parameters: elements of all float weights and constants, each counted once.
        weight_bytes: bytes of those.
        operators: how many nodes of each operator, subgraphs included.
        weights: nodes with a constant weight in graph order.
        unsupported: operators that stay float on the target, with the reason and how many.
        tied: weights that several nodes share, with those nodes.
        findings: what stands out, in words.
    """

    path: str
    ir_version: int
    opsets: dict[str, int]
    producer: str
    size_bytes: int
    parameters: int
    weight_bytes: int
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    operators: dict[str, int]
    target: str
    weights: tuple[WeightInfo, ...]
    outlook: tuple[PassOutlook, ...]
    unsupported: dict[str, str]
    tied: dict[str, tuple[str, ...]]
    findings: tuple[str, ...]
