"""The facts of a compile, ready to be shown: the terminal and the JSON document say the same."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.pipeline.options import Scalar


@dataclass(frozen=True)
class Configured:
    """A pass or target and its options as resolved."""

    name: str
    options: dict[str, Scalar]


@dataclass(frozen=True)
class PassFacts:
    """How many nodes a pass quantized, transformed and skipped."""

    name: str
    quantized: int
    transformed: int
    skipped: int


@dataclass(frozen=True)
class SpeedFacts:
    """Float time / compiled time with its 95 % confidence interval: above 1 is faster."""

    ratio: float
    low: float
    high: float
    float_ms: float
    deployed_ms: float
    threads: int


@dataclass(frozen=True)
class ValueFacts:
    """One value in two models; ``comparison`` says which two.

    Attributes:
        comparison: ``quantization`` (float against quantized, both as written), ``lowering`` (quantized as written
            against deployed) or ``deployed`` (float against deployed).
        exact_share: share of equal elements, for values that are not floats.
    """

    comparison: str
    value: str
    node: str
    op_type: str
    sqnr_db: float
    cosine: float
    max_abs_error: float
    exact_share: float
    is_float: bool


@dataclass(frozen=True)
class KernelFacts:
    """How many quantized nodes one kernel runs."""

    kernel: str
    nodes: int


@dataclass(frozen=True)
class NodeSummary:
    """One node that a pass looked at.

    Attributes:
        decisions: by pass: what was done, or why not.
        kernel: that really runs it; "" where it was not quantized.
        sqnr_db: of what it makes, both models as written; None where it was not compared.
    """

    name: str
    op_type: str
    decisions: dict[str, str]
    kernel: str
    integer: bool
    note: str
    sqnr_db: float | None


@dataclass(frozen=True)
class Group:
    """Nodes that share a reason."""

    reason: str
    operators: dict[str, int]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Hint:
    """A sentence, and the command that does what it says; "" where there is none."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class CompileFacts:
    """Everything a report says.

    Attributes:
        size_before_bytes: of the user's files, external data included; None for a model in memory.
        requested_bits: of a code, the fewest that any pass was asked for.
        achieved_bits: *stored bits*: all constants in the file, over all float constants of the model.
        quantized_bits: *packed bits* of the weights in low-bit formats: codes, scales and zero points as the format
            packs them; 0 where there are none.
        quantized_share: their share of all weights.
        copy_bytes: second forms of weights that the target stores beside the low-bit ones, for speed.
        untimed: why it was not timed, where the target is not.
        outputs: the graph outputs in each of the three comparisons.
        worst: values inside with the lowest SQNR, worst first.
        kernels: integer kernels that run quantized nodes, by count.
        not_integer: quantized nodes that no integer kernel runs, by reason.
        left_in_float: nodes that no pass quantized, by reason.
        reverted: nodes put back to float because they made the model slower.
        findings: what stands out, and why.
        hints: what to try next.
        nodes: every node that a pass looked at.
        report: where the HTML report is; "" where none was asked for.
    """

    model: str
    path: str
    manifest: str
    target: Configured
    pipeline: tuple[Configured, ...]
    size_before_bytes: int | None
    size_after_bytes: int
    parameters: int
    requested_bits: float
    achieved_bits: float
    quantized_bits: float
    quantized_share: float
    copy_bytes: int
    speed: SpeedFacts | None
    untimed: str
    samples: int
    held_out: str
    outputs: tuple[ValueFacts, ...]
    worst: tuple[ValueFacts, ...]
    passes: tuple[PassFacts, ...]
    fusions: dict[str, int]
    kernels: tuple[KernelFacts, ...]
    not_integer: tuple[Group, ...]
    left_in_float: tuple[Group, ...]
    reverted: tuple[str, ...]
    warnings: tuple[str, ...]
    findings: tuple[Hint, ...]
    hints: tuple[Hint, ...]
    nodes: tuple[NodeSummary, ...] = ()
    report: str = ""
