"""Weights and biases of nodes whose activations have fixed scales: int8 codes, and int32 codes of ``s_x s_w``.

Every node is served as its own pass asks: nodes of one placement may belong to several passes of one kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.qdq import TensorQuantization, dequantized_bias
from qcompiler.graph.storage import WeightStorage
from qcompiler.graph.weighted import WeightedNode, array_of
from qcompiler.low_bit.narrow import NarrowWeights
from qcompiler.numerics.affine import Float32
from qcompiler.numerics.bias import bias_codes, least_weight_scale
from qcompiler.pipeline.base import PassContext

Key = tuple[int, int | None]


@dataclass(frozen=True)
class WeightChoice:
    """What a pass asks for the weight of a node.

    Attributes:
        per_channel: one scale per output channel instead of one for all.
        clip_mse: choose scales for least squared error.
        narrow: how the file holds it in fewer bits, if it does.
    """

    per_channel: bool = True
    clip_mse: bool = False
    narrow: NarrowWeights | None = None

    def words(self, view: WeightedNode, context: PassContext) -> str:
        """``int8 weight``, or in how many bits the file holds it and how they were chosen."""
        if self.narrow is not None:
            return self.narrow.words(view, context)
        return f"int{context.target.weight.bits} weight"


@dataclass
class StaticWeights:
    """Puts the codes of weights and biases into a graph.

    Attributes:
        context, statistics: of the pass.
        scales: of activations.
        choice: what is asked for a node, by its name.
    """

    context: PassContext
    statistics: Statistics
    scales: Mapping[ir.Value, TensorQuantization]
    choice: Callable[[str], WeightChoice]
    _storages: dict[bool, WeightStorage] = field(default_factory=dict)

    def store(self, views: Sequence[WeightedNode]) -> None:
        """Let nodes that run in integers read weights and biases from codes; a shared weight is stored once."""
        least = self._least_scales(views)
        for view in views:
            self._store(view, least.get(self._key(view)))

    def store_alone(self, view: WeightedNode) -> None:
        """Let a node that the target expands the weight for read it from int8 codes."""
        asked = self.choice(view.name)
        per_channel = asked.per_channel or view.node.op_type == "Gather"
        self._storage(asked).store(view, view.output_axis if per_channel else None)

    def _store(self, view: WeightedNode, least: Float32 | None) -> None:
        asked = self.choice(view.name)
        narrow, coder = asked.narrow, None
        if narrow is not None and not narrow.refusal(view):
            coder = partial(narrow.coded, view, self.context, self.statistics, least)
        scale = self._storage(asked).store(view, self._axis(view), least_scale=least, coder=coder)
        if view.bias is None:
            return
        bias_scale = (scale * self.scales[view.activation].scale).astype(np.float32)
        codes = bias_codes(array_of(view.bias).astype(np.float32), bias_scale)
        view.node.replace_input_with(2, dequantized_bias(view.bias, codes, bias_scale))

    def _storage(self, asked: WeightChoice) -> WeightStorage:
        largest = self.context.target.weight.largest_code
        return self._storages.setdefault(asked.clip_mse, WeightStorage(largest, asked.clip_mse))

    def _axis(self, view: WeightedNode) -> int | None:
        mixes_channels = view.node.op_type == "ConvTranspose" and view.group > 1  # groups share an index
        return view.output_axis if self.choice(view.name).per_channel and not mixes_channels else None

    def _key(self, view: WeightedNode) -> Key:
        return id(view.weight), self._axis(view)

    def _least_scales(self, views: Sequence[WeightedNode]) -> dict[Key, Float32]:
        """Smallest scale of every weight at which the biases of all nodes that share it fit the accumulator."""
        least: dict[Key, Float32] = {}
        for view in views:
            if view.bias is not None:
                bias = array_of(view.bias).astype(np.float32)
                own = least_weight_scale(bias, self.scales[view.activation].scale, self._axis(view))
                least[self._key(view)] = np.maximum(own, least.get(self._key(view), own))
        return least
