"""The three comparisons that prove a compiled model.

    quantization  float against dialect, both run as written           what quantization costs, node by node
    lowering      dialect as written against the deployed graph        what lowering costs: rounding only
    deployed      float against the deployed session, outputs          what the user gets

When a check fails (``verification failures``):

- *quantization* is information: a node of 15 dB inside may be harmless. It fails only where the dialect makes a NaN
  or an infinity that float does not make.
- *lowering* fails at a value when its SQNR is below both 60 dB and the SQNR of quantization at that value. Integer
  kernels add up in another order than the oracle, so a requantized code may flip by one here and there; such flips
  carry far less energy than the rounding of every element, which is what quantization itself does. An error larger
  than that is another computation. Only the first values on each path are named: what follows is their consequence.
  Kernels of low-bit weights also round activations that the dialect leaves in float, and say how coarsely
  (``Lowering.rounding_db``): behind them that figure, lowered as noise adds up, stands in the place of 60 dB.
- Where a deployed model chooses between kernels by the number of rows, every choice is compared (``Target.variants``),
  whatever the samples would choose.
- *deployed* fails when a float output has a cosine below ``min_cosine`` to the float model's, an integer output
  (labels, token ids) has fewer than ``min_agreement`` equal elements, or NaN or infinity appears. 0.9 marks a model
  that is wrong, not one that is imprecise: logits of a classifier that still agree in 9 of 10 answers lie above
  0.97, embeddings of a useful int8 encoder above 0.99, and shuffled outputs below 0.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from qcompiler.data.feeds import Feed
from qcompiler.errors import ModelError
from qcompiler.verify.blame import first_failures, largest_contributor, quantized_maker
from qcompiler.verify.compare import NodeNames, compare_oracles, compare_outputs, require_same_interface
from qcompiler.verify.comparison import Comparison, NodeComparison, Unobserved
from qcompiler.verify.inside import GROUP_BYTES, compare_inside
from qcompiler.verify.metrics import format_db
from qcompiler.verify.observed import OptimizedModel, OracleModel
from qcompiler.verify.points import lowered_points, quantized_values
from qcompiler.verify.recorded import ReplayedSession
from qcompiler.verify.rounding import quantization_costs, rounding_limits
from qcompiler.verify.segmented import noted_cuts

if TYPE_CHECKING:
    from qcompiler.backends.base import Lowering, Session, Target


_CLOSED = "this runtime does not show what is inside its graph; outputs are compared"

INSIDE_FEEDS = 4
"""Values inside are compared on the first feeds, because a wrong node is wrong on all; outputs on every one."""


@dataclass(frozen=True)
class Limits:
    """What still passes.

    Attributes:
        min_cosine: lowest cosine of a float output.
        min_agreement: lowest share of equal elements of an integer output.
        rounding_db: a lowering error below this is float rounding, whatever quantization costs.
    """

    min_cosine: float = 0.9
    min_agreement: float = 0.9
    rounding_db: float = 60.0


@dataclass(frozen=True)
class Verification:
    """The three comparisons and what is wrong.

    Attributes:
        quantization: float against dialect.
        lowering: dialect against the deployed graph.
        deployed: float against the deployed session, outputs only.
        failures: one line each, with node, figure and remedy; empty when the model is good.
        samples: feeds that were run.
    """

    quantization: Comparison
    lowering: Comparison
    deployed: Comparison
    failures: tuple[str, ...]
    samples: int

    @property
    def passed(self) -> bool:
        return not self.failures


def verify_model(
    reference: ir.Model,
    dialect: ir.Model,
    deployed: Path,
    feeds: Iterable[Feed],
    target: Target,
    *,
    limits: Limits | None = None,
    lowered: Sequence[Lowering] = (),
    threads: int = 1,
    group_bytes: int = GROUP_BYTES,
) -> Verification:
    """Make the three comparisons.

    Args:
        reference: the prepared float model.
        dialect: what the passes made of it, before lowering.
        deployed: the file as lowered for ``target``.
        feeds: data that was not used for calibration; iterated more than once.
        target: opens the deployed file.
        limits: what still passes; ``Limits()`` by default.
        lowered: what legalization did, with the rounding that kernels add.
        threads: threads within an operator.
        group_bytes: bound of the memory that observed values take.

    Raises:
        CalibrationError: no feed, or feeds that do not fit.
        ModelError: the runtime refuses one of the models.
        InputError: the dialect takes or returns something else than the reference.
    """
    limits = limits or Limits()
    require_same_interface(reference, dialect)
    repeatable = list(feeds) if isinstance(feeds, Iterator) else feeds
    few = list(islice(repeatable, INSIDE_FEEDS))
    large = bool(noted_cuts(reference))
    session = _opened(target, deployed, repeatable, threads=threads, replay=large)
    as_float, as_written = (OracleModel(model, threads=threads) for model in (reference, dialect))
    float_outputs = as_float.session(session.output_names)
    lost, samples = compare_outputs(
        reference, float_outputs, as_written.session(session.output_names), repeatable
    )
    quantization = compare_oracles(as_float, as_written, lost, samples, few, group_bytes=group_bytes)
    lowerings = [
        _lowering(as_written, deployed, session, repeatable, threads=threads, group_bytes=group_bytes)
    ]
    with target.variants(deployed) as paths:
        for path in paths:
            variant = _opened(target, path, few, threads=threads, replay=large)
            lowerings.append(
                _lowering(as_written, path, variant, few, threads=threads, group_bytes=group_bytes)
            )
    outputs, samples = compare_outputs(reference, float_outputs, session, repeatable)
    end_to_end = Comparison((), outputs, samples)
    failures = (
        *_quantization_failures(dialect, quantization),
        *dict.fromkeys(
            failure
            for found in lowerings
            for failure in _lowering_failures(dialect, quantization, found, limits, lowered)
        ),
        *_output_failures(dialect, quantization, end_to_end, limits),
    )
    return Verification(quantization, lowerings[0], end_to_end, failures, samples)


def _opened(target: Target, path: Path, feeds: Iterable[Feed], *, threads: int, replay: bool) -> Session:
    """The deployed model's session; what it makes of ``feeds``, where a large one is not to be held."""
    session = target.checking_session(path, threads=threads)
    return ReplayedSession(session, feeds) if replay else session


def _lowering(
    oracle: OracleModel,
    path: Path,
    session: Session,
    feeds: Iterable[Feed],
    *,
    threads: int,
    group_bytes: int,
) -> Comparison:
    dialect = oracle.model
    outputs, samples = compare_outputs(dialect, oracle.session(session.output_names), session, feeds)
    if not shows_inside(session):
        return Comparison((), outputs, samples, (Unobserved("", _CLOSED),))
    quantized = quantized_values(dialect)
    public = {item.value for item in outputs}
    try:
        with OptimizedModel(path, threads=threads) as optimized:
            points = lowered_points(oracle.values, quantized, optimized.values)
            inside = [point for point in points if point.label not in public]
            few = list(islice(feeds, INSIDE_FEEDS))
            nodes, unobserved = compare_inside(
                oracle, optimized, inside, few, name_of=NodeNames(dialect), group_bytes=group_bytes
            )
    except ModelError as error:
        reason = f"the runtime does not load its own optimized graph: {error}"
        return Comparison((), outputs, samples, (Unobserved("", reason),))
    seen = {point.label for point in points}
    fused = (Unobserved(name, "fused into a neighbour") for name in _float_names(dialect) - seen - public)
    return Comparison(nodes, outputs, samples, (*unobserved, *sorted(fused, key=lambda item: item.value)))


def shows_inside(session: Session) -> bool:
    """Whether this is ONNX Runtime, which saves the graph that it made of a model."""
    from qcompiler.backends.onnxruntime.session import OrtSession

    return session.shows_inside if isinstance(session, ReplayedSession) else isinstance(session, OrtSession)


def _float_names(dialect: ir.Model) -> set[str]:
    """Values made by nodes that compute; Q and DQ and their like have no value of the user's file."""
    bookkeeping = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
    return {
        str(output.name)
        for node in dialect.graph
        for output in node.outputs
        if node.op_type not in bookkeeping and output.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)
    }


def _quantization_failures(dialect: ir.Model, quantization: Comparison) -> list[str]:
    bad = [item for item in (*quantization.nodes, *quantization.outputs) if item.not_finite]
    return [
        f"quantization makes NaN or infinity: {item}; "
        f"leave it in float with --exclude {quantized_maker(dialect, item.value)!r}."
        for item in bad[:1]
    ]


def _lowering_failures(
    dialect: ir.Model,
    quantization: Comparison,
    lowering: Comparison,
    limits: Limits,
    lowered: Sequence[Lowering],
) -> list[str]:
    rounding = rounding_limits(dialect, lowered)
    overall = min(
        (item.sqnr_db for item in quantization.outputs if item.is_float), default=limits.rounding_db
    )
    costs = quantization_costs(dialect, quantization, overall, rounding)

    def allowed_db(item: NodeComparison) -> float:
        rounded = rounding.get(item.value, limits.rounding_db)
        return min(limits.rounding_db, rounded, costs.get(item.value, overall))

    compared = lowering.by_value()
    failed = {
        name: item for name, item in compared.items() if item.is_float and item.sqnr_db < allowed_db(item)
    }
    return [
        f"the deployed model does not compute what it must at {failed[name]} against its dialect, where "
        f"rounding explains {format_db(allowed_db(failed[name]))}: this is a defect of the lowering; "
        f"leave the node in float with --exclude {quantized_maker(dialect, name)!r}."
        for name in first_failures(dialect, failed)
    ]


def _output_failures(
    dialect: ir.Model, quantization: Comparison, deployed: Comparison, limits: Limits
) -> list[str]:
    failures = []
    for item in deployed.outputs:
        wrong = _wrong_output(item, limits)
        if wrong:
            node = largest_contributor(dialect, quantization, item.value)
            remedy = f"; try --exclude {node!r}, which adds most of it" if node else ""
            failures.append(f"output {item.value!r} {wrong}{remedy}, or more calibration data.")
    return failures


def _wrong_output(item: NodeComparison, limits: Limits) -> str:
    if item.not_finite:
        return f"has NaN or infinity where float has none, in {item.not_finite} elements"
    if not item.is_float:
        short = item.exact_share < limits.min_agreement
        return (
            f"agrees with float in {item.exact_share:.1%}, below {limits.min_agreement:.0%}" if short else ""
        )
    if item.shape_mismatches:
        return f"has another shape than float for {item.shape_mismatches} feeds"
    if item.cosine < limits.min_cosine:
        return (
            f"has cosine {item.cosine:.4f} to float ({format_db(item.sqnr_db)}), below {limits.min_cosine:g}"
        )
    return ""
