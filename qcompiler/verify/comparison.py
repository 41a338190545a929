"""What a comparison of two models says."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.verify.metrics import Difference, format_db


@dataclass(frozen=True)
class NodeComparison:
    """One value in two models; the first is the reference.

    Attributes:
        value: name of the value in the reference.
        node: name of the node that makes it, "" for a graph input.
        op_type: of that node.
        sqnr_db: signal to noise in [-200, 200]; 200 means no difference (``metrics.format_db`` puts it in words).
        cosine: in [-1, 1].
        max_abs_error: largest finite difference, in the value's unit.
        rms_error: root mean squared difference.
        exact_share: share of elements that are equal: what counts for integers, booleans and strings.
        is_float: False for those.
        not_finite: elements that are NaN or infinite in one model only.
        reference_not_finite: elements that are NaN or infinite in the reference.
        shape_mismatches: feeds for which the shapes differ.
        rescaled: a pass scaled its channels; ``sqnr_db`` is what a scale per channel leaves over.
    """

    value: str
    node: str
    op_type: str
    sqnr_db: float
    cosine: float
    max_abs_error: float
    rms_error: float
    exact_share: float = 1.0
    is_float: bool = True
    not_finite: int = 0
    reference_not_finite: int = 0
    shape_mismatches: int = 0
    rescaled: bool = False

    def __str__(self) -> str:
        shown = f"{self.value!r} ({self.op_type} {self.node!r})" if self.node else f"{self.value!r}"
        if self.shape_mismatches:
            return f"{shown}: another shape for {self.shape_mismatches} feeds"
        if self.not_finite:
            return f"{shown}: NaN or infinity in one model only, {self.not_finite} elements"
        if not self.is_float:
            return f"{shown}: {self.exact_share:.1%} equal"
        if self.rescaled:
            return f"{shown}: {format_db(self.sqnr_db)} but for a scale per channel"
        return f"{shown}: {format_db(self.sqnr_db)}, cosine {self.cosine:.4f}"


@dataclass(frozen=True)
class Unobserved:
    """A value that could not be compared, and why."""

    value: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Two models on the same data.

    Attributes:
        nodes: values inside the models, in the reference's order.
        outputs: the graph outputs, in order.
        samples: feeds that were run.
        unobserved: what was left out ("" names the whole inside of the models).
    """

    nodes: tuple[NodeComparison, ...]
    outputs: tuple[NodeComparison, ...]
    samples: int
    unobserved: tuple[Unobserved, ...] = ()

    def worst(self, n: int = 10) -> tuple[NodeComparison, ...]:
        """The ``n`` nodes with the lowest SQNR, worst first."""
        return tuple(sorted(self.nodes, key=lambda item: item.sqnr_db)[:n])

    def by_value(self) -> dict[str, NodeComparison]:
        """Nodes and outputs by the name of their value; what is inside wins."""
        return {item.value: item for item in (*self.outputs, *self.nodes)}


def node_comparison(
    value: str, node: str, op_type: str, difference: Difference, *, is_float: bool
) -> NodeComparison:
    """Freeze running sums."""
    return NodeComparison(
        value=value,
        node=node,
        op_type=op_type,
        sqnr_db=difference.sqnr_db,
        cosine=difference.cosine,
        max_abs_error=difference.max_abs_error,
        rms_error=difference.rms_error,
        exact_share=difference.exact_share,
        is_float=is_float,
        not_finite=difference.not_finite,
        reference_not_finite=difference.reference_not_finite,
        shape_mismatches=difference.shape_mismatches,
    )
