"""Who is to blame: the parts whose error, alone, is a good share of what the outputs lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.diagnosis.effects import Effect
from qcompiler.diagnosis.facts import ActivationReport, Culprit, NodeFacts
from qcompiler.verify.metrics import format_db

SHARE = 0.25
"""A part that makes so much of the noise at the outputs is to blame, whether anything is wrong with it or not."""

FAULTY_SHARE = 0.02
"""One with a fault is to blame from here on."""

GOOD_DB = 40.0
"""Outputs above it lose nothing that matters; only faults are told."""

_GAIN_DB = 3.0
_CANCELLED_DB = 6.0
_SHOWN = 3


@dataclass(frozen=True)
class Suspects:
    """Which parts are measured up to the outputs.

    Attributes:
        nodes: positions among the nodes.
        activations: positions among the activations.
    """

    nodes: tuple[int, ...]
    activations: tuple[int, ...]


def suspects(nodes: Sequence[NodeFacts], activations: Sequence[ActivationReport], most: int) -> Suspects:
    """The parts of the largest errors alone, at most so many of each kind, and before them those with a fault."""
    by_weights = sorted(
        range(len(nodes)), key=lambda i: (nodes[i].fault is None, min(nodes[i].weights_db, 200.0))
    )
    by_error = sorted(
        range(len(activations)), key=lambda i: (activations[i].facts.fault is None, activations[i].sqnr_db)
    )
    return Suspects(tuple(by_weights[:most]), tuple(by_error[:most]))


def culprits(
    nodes: Sequence[NodeFacts], activations: Sequence[ActivationReport], outputs_db: float
) -> tuple[Culprit, ...]:
    """Those to blame, the one with the largest share of the noise first."""
    candidates = [
        *(_of_node(item, outputs_db) for item in nodes),
        *(_of_activation(item, outputs_db) for item in activations),
    ]
    found = [item for item in candidates if item is not None and _is_guilty(item, outputs_db)]
    return tuple(sorted(found, key=lambda item: -item.share))


def _is_guilty(item: Culprit, outputs_db: float) -> bool:
    if item.effect is None:
        return bool(item.fault)
    if is_contradictory(item.effect, outputs_db):
        return False
    if item.fault and item.share >= FAULTY_SHARE:
        return True
    gain = item.effect.without - outputs_db
    return outputs_db < GOOD_DB and (item.share >= SHARE or gain >= _GAIN_DB)


def is_contradictory(effect: Effect, outputs_db: float) -> bool:
    """Whether a part is worse alone than in company: a transform changed it together with others."""
    return effect.only < outputs_db - _CANCELLED_DB and effect.without < outputs_db + _GAIN_DB


def _of_node(item: NodeFacts, outputs_db: float) -> Culprit | None:
    fault = item.fault
    if item.effect is None and fault is None:
        return None
    return Culprit(
        "weight",
        item.name,
        item.value if item.effect is not None else "",
        item.members,
        item.weights_db,
        _share(item.effect.only, outputs_db) if item.effect is not None else 0.0,
        item.effect,
        fault.text if fault is not None else "",
        _weight_cause(item),
    )


def _weight_cause(item: NodeFacts) -> str:
    for facts in item.weights:
        if facts.per_channel_db is not None and facts.per_channel_db > facts.sqnr_db + _GAIN_DB:
            return (
                f"one scale for all channels, the widest of which spans {facts.channel_ratio:.0f}x the median one: "
                f"{facts.sqnr_db:.1f} dB, where a scale for each reaches {facts.per_channel_db:.1f}"
            )
    return ""


def _activation_cause(item: ActivationReport) -> str:
    facts = item.facts
    if facts.outlier_channels:
        count = len(facts.outlier_channels)
        return f"{count} of {facts.channels} channels are outliers, up to {facts.outlier_ratio:.0f}x the median one"
    if facts.best_db > facts.sqnr_db + _GAIN_DB:
        low, high = facts.best_range
        return f"[{low:.3g}, {high:.3g}] would be a better range: {facts.best_db:.1f} dB"
    return ""


def _of_activation(item: ActivationReport, outputs_db: float) -> Culprit | None:
    fault = item.facts.fault
    if item.effect is None and fault is None:
        return None
    return Culprit(
        "activation",
        item.name,
        item.name if item.effect is not None else "",
        item.readers or ((item.maker,) if item.maker else ()),
        item.sqnr_db,
        _share(item.effect.only, outputs_db) if item.effect is not None else 0.0,
        item.effect,
        fault.text if fault is not None else "",
        _activation_cause(item),
    )


def _share(only_db: float, outputs_db: float) -> float:
    return float(10.0 ** min((outputs_db - only_db) / 10.0, 10.0))


def costliest(nodes: Sequence[NodeFacts], most: int) -> list[NodeFacts]:
    """The measured nodes that make most noise at the outputs, in the order of the float model."""
    known = [(item.effect.only, index) for index, item in enumerate(nodes) if item.effect is not None]
    return [nodes[index] for _, index in sorted(sorted(known)[:most], key=lambda pair: pair[1])]


def verdict(
    found: Sequence[Culprit], nodes: Sequence[NodeFacts], outputs_db: float, mended_db: float | None
) -> tuple[str, ...]:
    """One sentence for each of the worst culprits, or one that says that there is none."""
    if found:
        shown = [_sentence(item, outputs_db) for item in found[:_SHOWN]]
        if len(found) > 1 and mended_db is not None:
            shown.append(
                f"With all {len(found)} of them in float the outputs are at {format_db(mended_db)} instead of "
                f"{format_db(outputs_db)}."
            )
        return tuple(shown)
    if outputs_db >= GOOD_DB:
        return (f"Nothing is wrong: the outputs are at {format_db(outputs_db)}.",)
    measured = [item for item in nodes if item.effect is not None]
    best = max((item.effect.without for item in measured if item.effect is not None), default=outputs_db)
    gain = max(best - outputs_db, 0.0)
    return (
        f"No single part is to blame: the error is spread over {len(nodes)} nodes; leaving any one of the "
        f"{len(measured)} worst in float gains at most {gain:.1f} dB.",
    )


def _sentence(item: Culprit, outputs_db: float) -> str:
    what = f"{item.name}: its weight" if item.kind == "weight" else f"activation {item.name}"
    reason = item.fault or f"its error alone is {format_db(item.alone_db)}"
    if item.fault:
        text = f"{what} is wrong: {reason}."
    elif item.cause:
        text = f"{what} costs most: {item.cause}."
    else:
        text = f"{what} costs most, though nothing is wrong with it: {reason}."
    if item.effect is None:
        return text
    return (
        f"{text} Quantizing it alone puts the outputs at {format_db(item.effect.only)}; "
        f"with it in float they are at {format_db(item.effect.without)} instead of {format_db(outputs_db)}."
    )
