"""The cache of keys and values in int8: a quarter of the memory that decoding reads besides the weights.

    k' = clip(round(k / s_k), -128, 127),  s_k = max |k| / 127;  v likewise

after the int8 form of KIVI (arXiv:2402.02750) with fixed scales.  ``com.microsoft::GroupQueryAttention`` keeps the
codes and multiplies with them; keys are coded after they were turned by their position, so their range is that of
``present.*.key`` over the calibration data.  One scale for a layer's keys and one for its values
(``tensor``), or one for each channel (``channel``), shared by the heads.

The graph takes and gives the cache as int8: ``past_key_values.*`` and ``present.*`` change their type, not their
name or shape.  It is asked for memory and for decoding of long texts.  Prefill is slower with it, and nodes are not
put back to float for that: they count as transformed.  Left alone, with the reason: attention whose cache is no input
and output of the graph; Casts of a 16-bit cache go.  A model without GroupQueryAttention is refused.  Running it again
finds no float cache left.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.calibration.requests import ChannelAbsMax, Range, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.errors import UnsupportedError
from qcompiler.graph.cache_codes import write_scales
from qcompiler.graph.public_casts import make_public_input, make_public_output, public_input, public_output
from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option
from qcompiler.tensors import HALF_TYPES

OPERATOR, DOMAIN = "GroupQueryAttention", "com.microsoft"
PAST_INPUTS, PRESENT_OUTPUTS, SCALE_INPUTS = (3, 4), (1, 2), (12, 13)
LARGEST = 127
LEAST = float(np.finfo(np.float32).tiny)


class Scope(enum.StrEnum):
    """What shares a scale."""

    TENSOR = "tensor"
    CHANNEL = "channel"


@dataclass(frozen=True)
class KvInt8(Pass):
    """Keeps the cache of keys and values in int8, with scales from calibration."""

    name: ClassVar[str] = "kv_int8"
    by_segment: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True

    scales: Scope = option(
        Scope.TENSOR, "one scale per layer for keys and one for values, or one per channel"
    )

    def statistics(self, context: PassContext) -> Sequence[Request]:
        return [
            self._request(node, part)
            for node in _attentions(context)
            if _refusal(node, context) is None
            for part in range(2)
        ]

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        decisions = []
        for node in _attentions(context):
            reason = _refusal(node, context)
            if reason is None:
                scales = [self._scale(node, part, statistics) for part in range(2)]
                _store(context.model, node, scales, self.scales)
                reason = f"int8 cache, scale {scales[0].max():.3g} of keys, {scales[1].max():.3g} of values"
                decisions.append(NodeDecision(str(node.name), OPERATOR, "transformed", reason))
            else:
                decisions.append(NodeDecision(str(node.name), OPERATOR, "skipped", reason))
        return PassReport(self.name, tuple(decisions))

    def _request(self, node: ir.Node, part: int) -> Range | ChannelAbsMax:
        present = str(node.outputs[PRESENT_OUTPUTS[part]].name)
        return Range(present, symmetric=True) if self.scales is Scope.TENSOR else ChannelAbsMax(present)

    def _scale(self, node: ir.Node, part: int, statistics: Statistics) -> npt.NDArray[np.float32]:
        """``[1]``, or ``[1, kv_heads, 1, size]``."""
        request = self._request(node, part)
        if isinstance(request, Range):
            return scale_of(np.array([max(map(abs, statistics.range(request)))]))
        heads = node.attributes["kv_num_heads"].as_int()
        return np.tile(scale_of(statistics.array(request))[None, None, None], (1, heads, 1, 1))


def scale_of(magnitude: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Scale for which ``magnitude`` is the largest code, positive also where everything is zero."""
    return np.maximum(np.asarray(magnitude, np.float64) / LARGEST, LEAST).astype(np.float32)


def _attentions(context: PassContext) -> list[ir.Node]:
    """Every GroupQueryAttention; ``UnsupportedError`` when there is none."""
    found = [
        node for node in context.model.graph.all_nodes() if (node.op_type, node.domain) == (OPERATOR, DOMAIN)
    ]
    if not found:
        raise UnsupportedError(
            "kv_int8 needs GroupQueryAttention with a cache, and the model has none; export a decoder with "
            "`qcompile export DIR -o OUT/` (what its attention became stands in that report)."
        )
    return found


def _refusal(node: ir.Node, context: PassContext) -> str | None:
    if str(node.name) not in context.selected:
        return "excluded by the user"
    pasts = [node.inputs[index] if index < len(node.inputs) else None for index in PAST_INPUTS]
    presents = [node.outputs[index] if index < len(node.outputs) else None for index in PRESENT_OUTPUTS]
    for past, present in zip(pasts, presents, strict=True):
        if past is None or present is None:
            return "it has no cache"
        past, present = public_input(past), public_output(present)
        if not past.is_graph_input() or not present.is_graph_output():
            return "its cache is no input and output of the model"
        if past.dtype not in (ir.DataType.FLOAT, *HALF_TYPES):
            return f"its cache is {past.dtype} already"
        if len(past.uses()) != 1 or present.uses():
            return "something else reads its cache"
    return None


def _store(model: ir.Model, node: ir.Node, scales: Sequence[npt.NDArray[np.float32]], scope: Scope) -> None:
    """Give ``node`` its scales, and its cache the type int8."""
    inputs = [*node.inputs, *[None] * (max(SCALE_INPUTS) + 1 - len(node.inputs))]
    noted: dict[str, npt.NDArray[np.float32]] = {}
    for part, letter in enumerate("kv"):
        given = node.inputs[PAST_INPUTS[part]]
        assert given is not None  # _refusal looked
        past, present = make_public_input(given), make_public_output(node.outputs[PRESENT_OUTPUTS[part]])
        inputs[PAST_INPUTS[part]] = past
        inputs[SCALE_INPUTS[part]] = add_initializer(graph_of(past), f"{present.name}_scale", scales[part])
        past.type = present.type = ir.TensorType(ir.DataType.INT8)
        noted |= {str(past.name): scales[part], str(present.name): scales[part]}
        kind = f"{letter}_quant_type"
        node.attributes[kind] = ir.AttrString(kind, f"PER_{scope.value.upper()}")
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)
    node.attributes["kv_cache_bit_width"] = ir.AttrInt64("kv_cache_bit_width", 8)
    write_scales(model, noted)
