"""What a diagnosis says; plain values, for reports and for JSON."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.diagnosis.activation_faults import ActivationFacts
from qcompiler.diagnosis.effects import Effect
from qcompiler.diagnosis.weight_faults import Fault, WeightFacts


@dataclass(frozen=True)
class OutputFacts:
    """One graph output against the float model's.

    Attributes:
        value: name of the output.
        sqnr_db: of the quantized model as its file is written.
        cosine: likewise.
        deployed_db: as ONNX Runtime runs the file on this machine; None for a model in memory.
        exact_share: share of equal elements: what counts for labels.
        is_float: whether it holds floats.
    """

    value: str
    sqnr_db: float
    cosine: float
    deployed_db: float | None
    exact_share: float
    is_float: bool


@dataclass(frozen=True)
class NodeFacts:
    """A part of the quantized model that stands for a node of the float model.

    Attributes:
        name: of the float model's node, as ``--exclude`` takes it.
        members: all its nodes with quantized weights, where transforms allow no cut between them.
        op_type: of the node.
        value: what it makes, in the float model.
        kind: how its weight is stored.
        alone_db: SQNR of its output with float inputs, which it quantizes.
        weights_db: with inputs left in float: what its weights cost.
        gathered_db: in the quantized model as it is.
        arriving_db: the worst of its inputs there; 200 where they are exact.
        effect: on the outputs; None where it was not measured.
        weights: its constants beside the float ones.
        distant: constants that are far from the float ones while what they make is near: a transform changed them, or a
            solver chose codes for what they make.
    """

    name: str
    members: tuple[str, ...]
    op_type: str
    value: str
    kind: str
    alone_db: float
    weights_db: float
    gathered_db: float
    arriving_db: float
    effect: Effect | None
    weights: tuple[WeightFacts, ...]
    distant: tuple[WeightFacts, ...] = ()

    @property
    def fault(self) -> Fault | None:
        """What is wrong with its weights."""
        return next((item.fault for item in self.weights if item.fault is not None), None)


@dataclass(frozen=True)
class ActivationReport:
    """A quantized activation.

    Attributes:
        name: of the value, as the float model calls it where it has it.
        maker: the float model's node that makes it, "" for a graph input.
        maker_op: its operator.
        readers: quantized nodes of the float model that read it.
        sqnr_db: of its quantization alone.
        effect: on the outputs; None where it was not measured.
        facts: its values and its range.
    """

    name: str
    maker: str
    maker_op: str
    readers: tuple[str, ...]
    sqnr_db: float
    effect: Effect | None
    facts: ActivationFacts


@dataclass(frozen=True)
class Culprit:
    """A part that is to blame.

    Attributes:
        kind: ``weight`` or ``activation``.
        name: of the node, or of the activation.
        value: what the node makes, or the activation, in the float model; "" where that has no such value.
        nodes: what ``--exclude`` takes to leave it in float.
        alone_db: its error alone.
        share: of the noise at the outputs, when only this part is quantized; above 1 where errors cancel.
        effect: on the outputs, None where it cannot be measured.
        fault: what is wrong with it; "" where it is only imprecise.
        cause: why it is imprecise, where that is known.
    """

    kind: str
    name: str
    value: str
    nodes: tuple[str, ...]
    alone_db: float
    share: float
    effect: Effect | None
    fault: str
    cause: str


@dataclass(frozen=True)
class Group:
    """Nodes that cost most where no single one is to blame, and the outputs with all of them in float.

    Attributes:
        nodes: as ``--exclude`` takes them.
        outputs_db: SQNR of the worst float output then.
    """

    nodes: tuple[str, ...]
    outputs_db: float


@dataclass(frozen=True)
class Growth:
    """What the gathered error does at one node.

    Attributes:
        node: of the float model.
        op_type: of it.
        value: what it makes.
        before_db: SQNR of the worst of its inputs.
        after_db: of what it makes.
        alone_db: of what it makes on float inputs; far above ``after_db`` means it only passes an error on.
    """

    node: str
    op_type: str
    value: str
    before_db: float
    after_db: float
    alone_db: float


@dataclass(frozen=True)
class Remedy:
    """What to do, and the command that does it."""

    text: str
    command: str


@dataclass(frozen=True)
class Diagnosis:
    """Who is to blame for what quantization lost, and what to do.

    Attributes:
        reference: the float model.
        quantized: the quantized one.
        data: what they ran on, in words.
        samples: feeds that were run.
        outputs: against the float model's.
        verdict: in one or a few sentences.
        culprits: what is to blame, the worst first; empty where nothing stands out.
        mended_db: SQNR of the worst float output with all culprits in float; None where there are none.
        nodes: all quantized nodes, in the order of the float model.
        activations: all quantized activations.
        growth: where the error grows most, in the order of the float model.
        remedies: what to do, the most useful first.
        notes: what could not be looked at, and why.
        along: the gathered error at every node that both models have, in the order of the float model.
    """

    reference: str
    quantized: str
    data: str
    samples: int
    outputs: tuple[OutputFacts, ...]
    verdict: tuple[str, ...]
    culprits: tuple[Culprit, ...]
    mended_db: float | None
    nodes: tuple[NodeFacts, ...]
    activations: tuple[ActivationReport, ...]
    growth: tuple[Growth, ...]
    remedies: tuple[Remedy, ...]
    notes: tuple[str, ...]
    along: tuple[Growth, ...] = ()

    def _repr_html_(self) -> str:
        """The verdict, for notebooks."""
        from qcompiler.report.notebook import diagnosis_html

        return diagnosis_html(self)
