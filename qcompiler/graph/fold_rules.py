"""What each kind of node needs so that its output comes out scaled; local, nothing is followed or changed here.

The factor is a positive array that broadcasts against the node's first output from the right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.channels import output_channels
from qcompiler.graph.fold_attention import VALUES, factor_of_values, is_attention
from qcompiler.graph.rewire import name_of
from qcompiler.graph.weighted import WeightedNode, array_of, is_constant, weighted

Array = npt.NDArray[np.floating[Any]]

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "Abs", "Neg", "Identity", "Dropout"})
POOLING = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
RESHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})

NORMS: dict[str, tuple[int, ...]] = {
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2, 3),
    "SkipSimplifiedLayerNormalization": (2,),
}
"""Which inputs hold gamma and beta."""


class CannotFoldError(Exception):
    """No constant before the value can take the factor in; the text is the reason for the report."""


@dataclass(frozen=True)
class Need:
    """One way in which a node can make its first output scaled.

    Attributes:
        constants: new constants by input index.
        inputs: the factor that inputs must come scaled with, by input index.
        weight: where the node is a weighted one, its view and the factor per output channel, ``[N]``.
    """

    constants: dict[int, Array] = field(default_factory=dict)
    inputs: dict[int, Array] = field(default_factory=dict)
    weight: tuple[WeightedNode, Array] | None = None


def needs(node: ir.Node, factor: Array) -> list[Need]:
    """The ways in which ``node`` can make its first output ``factor`` times as large, the best first.

    Raises:
        CannotFoldError: there is none.
    """
    rule = _rule(node)
    if rule is None:
        raise CannotFoldError(f"no scale passes through {name_of(node)}")
    return rule(node, factor)


Rule = Callable[[ir.Node, Array], list[Need]]


def _rule(node: ir.Node) -> Rule | None:
    if node.domain not in ("", "ai.onnx", "com.microsoft"):
        return None
    if node.op_type in NORMS:
        return _norm
    if is_attention(node):
        return _attention
    return None if node.domain == "com.microsoft" else _BY_OP.get(node.op_type)


def _pass_on(node: ir.Node, factor: Array) -> list[Need]:
    return [Need(inputs={0: factor})]


def _bound(node: ir.Node, factor: Array) -> list[Need]:
    """Clip, Max and Min pass a positive factor where every bound is zero or infinite, as in Relu."""
    data = [index for index, value in enumerate(node.inputs) if value and not is_constant(value)]
    bounds = [array_of(value) for value in node.inputs if value is not None and is_constant(value)]
    harmless = (bound.size == 1 and _is_zero_or_infinite(float(bound.item())) for bound in bounds)
    if len(data) != 1 or (node.op_type == "Clip" and data != [0]) or not all(harmless):
        raise CannotFoldError(
            f"{name_of(node)} has a finite bound, which a scaled input would meet elsewhere"
        )
    return [Need(inputs={data[0]: factor})]


def _is_zero_or_infinite(bound: float) -> bool:
    return bound == 0 or abs(bound) >= float(np.finfo(np.float32).max)


def _norm(node: ir.Node, factor: Array) -> list[Need]:
    constants = {}
    for index in NORMS[node.op_type]:
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            continue
        scaled = _times(node, index, factor)
        if scaled.ndim > max(len(array_of(value).shape), 1):
            raise CannotFoldError(f"the factor is not one per channel of {name_of(node)}")
        constants[index] = scaled
    return [Need(constants)]


def _product(node: ir.Node, factor: Array) -> list[Need]:
    """Mul takes the factor in one operand, Div in its dividend or, inverted, in its divisor."""
    for index in (0, 1):
        if is_constant(node.inputs[index]):
            inverted = node.op_type == "Div" and index == 1
            return [Need({index: _times(node, index, 1.0 / factor if inverted else factor)})]
    return [Need(inputs={index: factor}) for index in ((0, 1) if node.op_type == "Mul" else (0,))]


def _sum(node: ir.Node, factor: Array) -> list[Need]:
    """Every operand of Add, Sub, and of Where beside its condition, is scaled."""
    constants, inputs = {}, {}
    for index in (1, 2) if node.op_type == "Where" else (0, 1):
        value = node.inputs[index]
        if value is None or not is_constant(value):
            inputs[index] = factor
        elif array_of(value).any():  # zero stays zero
            constants[index] = _times(node, index, factor)
    return [Need(constants, inputs)]


def _pool(node: ir.Node, factor: Array) -> list[Need]:
    rank = _rank(node)
    aligned = factor.reshape((1,) * max(rank - factor.ndim, 0) + factor.shape)
    if aligned.ndim != rank or aligned[0, :].size != aligned.size or any(n != 1 for n in aligned.shape[2:]):
        raise CannotFoldError(f"the factor is not one per channel of {name_of(node)}")
    return [Need(inputs={0: factor})]


def _rank(node: ir.Node) -> int:
    shape = node.outputs[0].shape
    if shape is None:
        raise CannotFoldError(f"the rank of what {name_of(node)} makes is unknown")
    return len(shape)


def _transpose(node: ir.Node, factor: Array) -> list[Need]:
    attribute = node.attributes.get("perm")
    permutation = list(attribute.as_ints()) if attribute else list(range(_rank(node)))[::-1]
    aligned = factor.reshape((1,) * (len(permutation) - factor.ndim) + factor.shape)
    moved = np.transpose(aligned, np.argsort(permutation))
    return [Need(inputs={0: moved})]


def _reshape(node: ir.Node, factor: Array) -> list[Need]:
    """A factor that covers the last axes as a block stays with its elements: reshaping keeps their order."""
    block = _significant(factor)
    if 1 in block.shape:  # otherwise every axis it covers has its size
        block = np.broadcast_to(block, _static_tail(node.outputs[0], block.ndim))
    source = node.inputs[0]
    if source is None or source.shape is None:
        raise CannotFoldError(f"the shape that {name_of(node)} reads is unknown")
    sizes: list[int] = []
    for size in reversed(list(source.shape)):
        if not isinstance(size, int) or int(np.prod(sizes)) >= block.size:
            break
        sizes.insert(0, size)
    if int(np.prod(sizes)) != block.size:
        raise CannotFoldError(f"{name_of(node)} moves channels apart, or its shape is not known")
    return [Need(inputs={0: block.reshape(sizes)})]


def _significant(factor: Array) -> Array:
    """Without leading axes of size one, at least 1-D."""
    while factor.ndim > 1 and factor.shape[0] == 1:
        factor = factor[0]
    return factor


def _static_tail(value: ir.Value, axes: int) -> tuple[int, ...]:
    tail = list(value.shape)[-axes:] if value.shape is not None else []
    if len(tail) < axes or not all(isinstance(size, int) for size in tail):
        raise CannotFoldError(f"the shape of {value.name!r} is not known")
    return tuple(int(size) for size in tail if isinstance(size, int))


def _linear(node: ir.Node, factor: Array) -> list[Need]:
    view = weighted(node)
    if view is None:
        return _attention_product(node, factor)
    vector = _per_output_channel(view, factor)
    if view.is_tied:
        raise CannotFoldError(f"the weight of {name_of(node)} is tied to another node's")
    constants = {}
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        constants[2] = _times(node, 2, vector)
    return [Need(constants, weight=(view, vector))]


def _per_output_channel(view: WeightedNode, factor: Array) -> Array:
    spatial = view.weight.shape.rank() - 2 if view.activation_axis == 1 and view.weight.shape else 0
    aligned = factor.reshape((1,) * max(spatial + 1 - factor.ndim, 0) + factor.shape)
    channels = aligned.shape[aligned.ndim - 1 - spatial]
    if aligned.size != channels or channels != output_channels(view):
        raise CannotFoldError(f"the factor is not one per output channel of {name_of(view.node)}")
    return aligned.reshape(-1)


def _attention_product(node: ir.Node, factor: Array) -> list[Need]:
    """``A (V f) = (A V) f`` for a factor that is the same in every row of V."""
    if node.op_type != "MatMul":
        raise CannotFoldError(f"no scale passes through {name_of(node)}")
    if factor.ndim > 1 and factor.shape[-2] != 1:
        raise CannotFoldError(f"the factor differs between the rows that {name_of(node)} sums")
    right = node.inputs[1]
    known = [] if right is None or right.shape is None else list(right.shape)
    needed = _significant(factor).shape
    same = [size in (1, have) for size, have in zip(needed[::-1], known[::-1], strict=False)]
    if len(known) < len(needed) or not all(same):
        raise CannotFoldError(f"{name_of(node)} broadcasts its right operand, or its shape is not known")
    return [Need(inputs={1: factor})]


def _attention(node: ir.Node, factor: Array) -> list[Need]:
    """Fused attention: its output is a sum of values."""
    found = factor_of_values(node, factor)
    if isinstance(found, str):
        raise CannotFoldError(found)
    return [Need(inputs={VALUES: found})]


def _times(node: ir.Node, index: int, factor: Array) -> Array:
    """A constant input times the factor, in float64 so that it is rounded once."""
    value = node.inputs[index]
    if value is None or not is_constant(value):
        raise CannotFoldError(f"input {index} of {name_of(node)} is not a constant")
    return np.asarray(array_of(value).astype(np.float64) * factor)


_BY_OP: dict[str, Rule] = {
    **dict.fromkeys(HOMOGENEOUS, _pass_on),
    **dict.fromkeys(POOLING, _pool),
    **dict.fromkeys(RESHAPING, _reshape),
    **dict.fromkeys(("Clip", "Max", "Min"), _bound),
    "Mul": _product,
    "Div": _product,
    "Add": _sum,
    "Sub": _sum,
    "Where": _sum,
    "Transpose": _transpose,
    "MatMul": _linear,
    "Gemm": _linear,
    "Conv": _linear,
    "ConvTranspose": _linear,
}
