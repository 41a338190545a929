"""Histograms of quantized weights and activations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import onnx_ir as ir

from qcompiler.diagnosis.distribution import distribution
from qcompiler.diagnosis.facts import ActivationReport, Diagnosis, NodeFacts
from qcompiler.errors import OptionError
from qcompiler.graph.weighted import array_of
from qcompiler.package.manifest import Manifest
from qcompiler.pipeline.registry import pass_class
from qcompiler.report.html.page import NodeRow, Spread
from qcompiler.report.html.stored_bytes import StoredTensor

SAME_DB = 3.0
"""Below it codes are those of other values, rotated ones, whatever made them."""

MOST = 400
"""Histograms of each kind; of a larger model the first ones are left."""


def spreads(
    found: Diagnosis | None,
    reference: ir.Model,
    nodes: Sequence[NodeRow],
    floats: Sequence[StoredTensor],
    manifest: Manifest | None = None,
) -> tuple[Spread, ...]:
    """Weights first, then activations; biases and other vectors are left out.

    Weights that a transform changed before they were quantized, and all where there is no diagnosis, have no range of
    codes beside their float values.

    Args:
        found: knows ranges of codes.
        reference: the prepared float model.
        nodes: rows of the page.
        floats: constants of the float model.
        manifest: says which nodes no transform has changed.
    """
    untransformed = _untransformed(manifest)
    known = {
        item.name: item for node in (found.nodes if found else ()) for item in _weights(node, untransformed)
    }
    places = {row.name: row.place for row in nodes if row.state != "float"}
    wanted = [item for item in floats if item.rank > 1 and item.owners and item.owners[0] in places]
    wanted.sort(key=lambda item: places[item.owners[0]])
    weights = [
        known.pop(item.name) if item.name in known else _plain(item, reference) for item in wanted[:MOST]
    ]
    activations = [
        _activation(item) for item in (found.activations if found else ()) if item.facts.values.counts
    ]
    return (*weights, *known.values(), *activations[:MOST])


def _untransformed(manifest: Manifest | None) -> frozenset[str]:
    """Nodes whose weights are those of the float model: nothing but passes that choose codes was there."""
    if manifest is None or not all(_only_stores(item.name) for item in manifest.pipeline):
        return frozenset()
    return frozenset(item.name for item in manifest.nodes)


def _only_stores(name: str) -> bool:
    try:
        return pass_class(name).quantizes or name == "bias_correction"
    except (OptionError, ImportError):
        return False


def _plain(item: StoredTensor, reference: ir.Model) -> Spread:
    """A weight of which only the float values are known."""
    value = next(
        graph.initializers[item.name] for graph in reference.graphs() if item.name in graph.initializers
    )
    values = distribution(array_of(value).astype("float32"))
    return Spread(
        kind="weight",
        name=item.name,
        node=item.owners[0],
        low=values.low,
        high=values.high,
        counts=values.counts,
        clip_low=None,
        clip_high=None,
        clipped_share=None,
        sqnr_db=None,
        outliers=None,
    )


def _weights(node: NodeFacts, untransformed: Collection[str]) -> Iterator[Spread]:
    """Those whose codes stand for the float values; codes that a solver chose may lie far from them, and still do."""
    solved = [item for item in node.distant if node.name in untransformed and item.sqnr_db > SAME_DB]
    for item in (*node.weights, *solved):
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
