"""Histograms of quantized weights and activations, from a diagnosis."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.diagnosis.facts import ActivationReport, Diagnosis, NodeFacts
from qcompiler.report.html.page import Spread

MOST = 400
"""Histograms of each kind; a larger model shows those that lost most."""


def spreads(found: Diagnosis) -> tuple[Spread, ...]:
    """Weights first, then activations, in the order of the graph; biases and other vectors are left out."""
    weights = [item for node in found.nodes for item in _weights(node)]
    activations = [_activation(item) for item in found.activations if item.facts.values.counts]
    return (*_most(weights), *_most(activations))


def _weights(node: NodeFacts) -> Iterator[Spread]:
    for item in node.weights:
        if len(item.shape) > 1 and item.values.counts:
            yield Spread(
                kind="weight",
                name=item.name,
                node=node.name,
                low=item.values.low,
                high=item.values.high,
                counts=item.values.counts,
                clip_low=item.clip_low,
                clip_high=item.clip_high,
                clipped_share=item.clipped_share,
                sqnr_db=item.sqnr_db,
                outliers=len(item.outlier_channels),
            )


def _activation(item: ActivationReport) -> Spread:
    facts = item.facts
    return Spread(
        kind="activation",
        name=item.name,
        node=item.maker,
        low=facts.values.low,
        high=facts.values.high,
        counts=facts.values.counts,
        clip_low=facts.clip_low,
        clip_high=facts.clip_high,
        clipped_share=None if facts.clip_low is None else facts.clipped_share,
        sqnr_db=item.sqnr_db,
        outliers=len(facts.outlier_channels),
    )


def _most(items: list[Spread]) -> list[Spread]:
    worst = {id(item) for item in sorted(items, key=lambda item: item.sqnr_db)[:MOST]}
    return [item for item in items if id(item) in worst]
