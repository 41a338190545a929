"""Cross-layer equalization (arXiv:1906.04721, section 4.1): even out the weight ranges of consecutive layers.

    s_i = sqrt(r1_i r2_i) / r2_i,    W1_i <- W1_i / s_i,  b1_i <- b1_i / s_i,  W2_i <- s_i W2_i

r1_i is the range of the first layer's output channel i, r2_i that of the second's input channel i; afterwards both
are ``sqrt(r1_i r2_i)``.  Pairs are visited again and again until no scale moves: in a chain (Conv, depthwise Conv,
Conv) that ends at the cubic-root rule for three layers.  It pays where weights have one scale per tensor.

A pair is Conv, ConvTranspose, Gemm or MatMul twice, with only what lets a positive factor through between them
(:mod:`qcompiler.graph.fold`: Relu, LeakyRelu, PRelu, pooling, Flatten of 1x1 maps, a constant bias) and no other
reader.  Relu6 (Clip with a finite bound) is refused: a scaled channel would be clipped elsewhere.
``relu6_to_relu=true`` turns it into Relu first, which changes what the model computes.  Biases are not absorbed.
Running it again changes nothing: ranges are equal by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.channels import (
    input_channels,
    input_magnitude,
    output_magnitude,
    with_inputs_scaled,
    with_outputs_scaled,
)
from qcompiler.graph.fold import Fold, apply_fold, plan_fold
from qcompiler.graph.fold_rules import CannotFoldError
from qcompiler.graph.rewire import name_of, set_constant
from qcompiler.graph.weighted import WeightedNode, array_of, is_constant, weighted, weighted_nodes
from qcompiler.numerics.equalization import equalization_scale
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
CONVERGED = 1e-3
"""Scales of one round that all lie this close to one end the iteration."""

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class CrossLayerEqualization(Pass):
    """Evens out weight ranges between consecutive layers; the float output does not change."""

    name: ClassVar[str] = "cross_layer_equalization"
    by_segment: ClassVar[bool] = False
    quantizes: ClassVar[bool] = False

    iterations: int = option(50, "rounds over all pairs at most; it stops when no scale moves", minimum=1)
    relu6_to_relu: bool = option(
        False, "turn Clip(0, 6) between two layers into Relu first; this changes the float output"
    )

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        del statistics
        views = [view for view in weighted_nodes(context.model) if view.node.op_type in LAYERS]
        reasons = {view.name: self._refusal(view, context) for view in views}
        pairs: list[_Pair] = []
        for view in views:
            if reasons[view.name]:
                continue
            replaced = self._without_bound(view)
            try:
                pairs.append(_pair(view, replaced, context))
            except CannotFoldError as error:
                reasons[view.name] = f"no layer before it takes a scale: {error}"
        _equalize(pairs, self.iterations)
        for pair in pairs:
            pair.apply()
        return PassReport(self.name, tuple(_decide(view, pairs, reasons[view.name]) for view in views))

    def _refusal(self, view: WeightedNode, context: PassContext) -> str:
        if view.name not in context.selected:
            return "excluded by the user"
        if view.node.graph is not context.model.graph:
            return "inside a subgraph"
        if view.is_tied:
            return "its weight is tied to another node's"
        return ""

    def _without_bound(self, view: WeightedNode) -> str:
        """Turn the Clip(0, m) before a layer into Relu if asked and if that makes a pair; return its name."""
        clip = view.activation.producer()
        if not self.relu6_to_relu or clip is None or not _is_bounded_relu(clip):
            return ""
        data = clip.inputs[0]
        if data is None or len(clip.outputs[0].uses()) != 1 or clip.outputs[0].is_graph_output():
            return ""
        try:
            plan_fold(data, _shaped(view, np.ones(input_channels(view))), [(clip, 0)], copies=False)
        except CannotFoldError:
            return ""
        relu = ir.node("Relu", [data], name=clip.name, metadata_props=dict(clip.metadata_props))
        output = clip.outputs[0]
        relu.outputs[0].name, relu.outputs[0].shape, relu.outputs[0].type = (
            output.name,
            output.shape,
            output.type,
        )
        graph = clip.graph
        if graph is None:
            raise AssertionError(f"{name_of(clip)} belongs to no graph")
        graph.insert_after(clip, relu)
        view.node.replace_input_with(0, relu.outputs[0])
        graph.remove(clip, safe=True)
        return str(relu.name)


@dataclass
class _Pair:
    """Two layers with one factor per channel between them.

    Attributes:
        order: channel of ``second`` that channel k of ``first`` is, ``[C]``.
        scale: what ``second``'s input channels are multiplied with, ``[C]``; grows round by round.
        replaced: name of the Clip between them that became a Relu.
    """

    first: WeightedNode
    second: WeightedNode
    order: npt.NDArray[np.int64]
    scale: Array
    replaced: str = ""

    def apply(self) -> None:
        """Write the scale into both layers."""
        if np.all(self.scale == 1.0):
            return
        second = _fresh(self.second)
        fold = plan_fold(
            second.activation, _shaped(second, 1.0 / self.scale), [(second.node, 0)], copies=False
        )
        apply_fold(fold)
        scaled = with_inputs_scaled(second, second.array().astype(np.float64), self.scale)
        set_constant(*second.weight_reader, scaled)


def _pair(second: WeightedNode, replaced: str, context: PassContext) -> _Pair:
    """The pair that ends in ``second``.

    Raises:
        CannotFoldError: there is none.
    """
    second = _fresh(second)
    channels = input_channels(second)
    numbers = np.arange(1.0, channels + 1)
    fold = plan_fold(second.activation, _shaped(second, numbers), [(second.node, 0)], copies=False)
    firsts = [sink.need.weight for sink in fold.sinks() if sink.need.weight is not None]
    if len(firsts) != 1 or any(_is_norm(sink) for sink in fold.sinks()):
        raise CannotFoldError(f"it is made {fold.describe().removeprefix('into ')}, not by one layer alone")
    first, vector = firsts[0]
    if first.name not in context.selected:
        raise CannotFoldError(f"{name_of(first.node)} before it is excluded by the user")
    return _Pair(first, second, np.rint(vector).astype(np.int64) - 1, np.ones(channels), replaced)


def _is_norm(sink: Fold) -> bool:
    return sink.need.weight is None and sink.node.op_type not in ("Add", "Sub", "Where")


def _equalize(pairs: Sequence[_Pair], iterations: int) -> None:
    """Find all scales on float64 copies of the weights, shared where a layer is in two pairs."""
    weights: dict[int, Array] = {
        id(view.node): view.array().astype(np.float64) for pair in pairs for view in (pair.first, pair.second)
    }
    for _ in range(iterations):
        moved = 0.0
        for pair in pairs:
            first, second = id(pair.first.node), id(pair.second.node)
            r1 = np.empty_like(pair.scale)
            r1[pair.order] = output_magnitude(pair.first, weights[first])
            step = equalization_scale(r1, input_magnitude(pair.second, weights[second]))
            weights[first] = with_outputs_scaled(pair.first, weights[first], 1.0 / step[pair.order])
            weights[second] = with_inputs_scaled(pair.second, weights[second], step)
            pair.scale = pair.scale * step
            moved = max(moved, float(np.abs(step - 1.0).max(initial=0.0)))
        if moved < CONVERGED:
            return


def _decide(view: WeightedNode, pairs: Sequence[_Pair], reason: str) -> NodeDecision:
    details = list(_details(view, pairs))
    if details:
        return NodeDecision(view.name, view.node.op_type, "transformed", "; ".join(details))
    return NodeDecision(view.name, view.node.op_type, "skipped", reason or "its channels are even already")


def _details(view: WeightedNode, pairs: Sequence[_Pair]) -> Iterator[str]:
    for pair in pairs:
        low, high = float(pair.scale.min(initial=1.0)), float(pair.scale.max(initial=1.0))
        if max(abs(low - 1), abs(high - 1)) < CONVERGED and not pair.replaced:
            continue
        span = f"scales {low:.3g} to {high:.3g}"
        if pair.second.node is view.node:
            clip = f", Clip {pair.replaced!r} became Relu: the float output changes" if pair.replaced else ""
            yield f"inputs evened out with {name_of(pair.first.node)}, {span}{clip}"
        elif pair.first.node is view.node:
            yield f"outputs evened out with {name_of(pair.second.node)}, {span}"


def _shaped(view: WeightedNode, factor: Array) -> Array:
    """``[C]`` as it broadcasts against the layer's input: ``[C, 1, 1]`` for a 2-D convolution."""
    spatial = view.array().ndim - 2 if view.activation_axis == 1 else 0
    return factor.reshape(-1, *[1] * spatial)


def _is_bounded_relu(node: ir.Node) -> bool:
    if node.op_type != "Clip" or len(node.inputs) != 3 or not all(is_constant(v) for v in node.inputs[1:]):
        return False
    low, high = (float(array_of(value).item()) for value in node.inputs[1:] if value is not None)
    return low == 0.0 and high > 0.0


def _fresh(view: WeightedNode) -> WeightedNode:
    """The view of the node as it stands now."""
    current = weighted(view.node)
    if current is None:
        raise AssertionError(f"{view.name} lost its weight")
    return current
