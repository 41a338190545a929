"""What makes a value can make it scaled: moving a positive factor per channel into the constants before it.

``x * f`` is wanted where ``x`` is made.  The factor walks up from ``x`` until constants take it in:

| made by | the factor goes |
|---|---|
| LayerNormalization, RMSNormalization, SkipLayerNormalization, ... | into gamma and beta |
| Mul, Div with a constant (the last op of a decomposed norm) | into the constant |
| Add, Sub | into a constant operand, and up the other operand |
| Mul of two activations (SwiGLU) | up one of them |
| MatMul, Gemm, Conv, ConvTranspose with a constant weight | into its output channels and bias |
| MatMul of two activations (attention times values) | up the right operand |
| fused attention (:mod:`qcompiler.graph.fold_attention`) | up its values |
| Relu, LeakyRelu, PRelu, Abs, Clip at zero, pooling: ``g(f x) = f g(x)`` for f > 0 | up |
| Reshape, Transpose, Flatten, ... | up, where every channel provably keeps its own factor |
| Where with constants | into them, and up the other operand |

Everything else (Gelu, Silu, Softmax, Clip with a bound, Concat, a graph input) cannot take it.

The factor is an array that broadcasts against the value from the right: ``[C]``, ``[C, 1, 1]`` for feature maps,
``[H, 1, D]`` for attention heads.  A value that others read too must keep its scale for them: a norm or a product
with constants is then duplicated (at most ``MAX_COPIES`` nodes), anything else refuses.  Vectors that are shared
are duplicated; a weight matrix that is shared (tied) is never untied, and refuses.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompiler.graph.channels import with_outputs_scaled
from qcompiler.graph.fold_rules import Array, CannotFoldError, Need, needs
from qcompiler.graph.rewire import Reader, copy_node, name_of, set_constant
from qcompiler.graph.weighted import is_constant

MAX_COPIES = 2
"""Nodes duplicated for one value: a norm, or the product and the sum that end a decomposed one."""


@dataclass(frozen=True)
class Fold:
    """How one node makes its first output scaled.

    Attributes:
        node: the node.
        copied: make a scaled copy beside it, because others read the unscaled value.
        need: the constants that change, and the factors that inputs come scaled with.
        scaled: the folds of those inputs.
    """

    node: ir.Node
    copied: bool
    need: Need
    scaled: dict[int, Fold] = field(default_factory=dict)

    def sinks(self) -> list[Fold]:
        """The steps at which constants take the factor in."""
        own = [self] if self.need.constants or self.need.weight else []
        return own + [sink for step in self.scaled.values() for sink in step.sinks()]

    def copies(self) -> int:
        """How many nodes are duplicated."""
        return int(self.copied) + sum(step.copies() for step in self.scaled.values())

    def describe(self) -> str:
        """``"into LayerNormalization 'norm' (duplicated, as others read its output)"``."""
        made = ", ".join(name_of(sink.node) for sink in self.sinks())
        return f"into {made}" + (" (duplicated, as others read its output)" if self.copied else "")


def plan_fold(value: ir.Value, factor: Array, readers: Collection[Reader], *, copies: bool) -> Fold:
    """Find how ``value`` can be made ``factor`` times as large for ``readers`` alone; changes nothing.

    Args:
        value: what the readers read.
        factor: positive, broadcasts against ``value`` from the right.
        readers: the uses (node and input index) that shall see the scaled value.
        copies: whether nodes may be duplicated for them.

    Raises:
        CannotFoldError: nothing can take the factor in.
    """
    fold = _plan(value, factor, readers, False)
    if fold.copies() and not copies:
        raise CannotFoldError(
            f"others read the output of {name_of(fold.node)} too, and duplicating it is not allowed"
        )
    if fold.copies() > MAX_COPIES:
        raise CannotFoldError(f"{fold.copies()} nodes before it would have to be duplicated")
    return fold


def apply_fold(fold: Fold) -> ir.Value:
    """Do what was planned; return the scaled value (a new one where a node was duplicated)."""
    node = copy_node(fold.node, "scaled") if fold.copied else fold.node
    for index, step in fold.scaled.items():
        node.replace_input_with(index, apply_fold(step))
    for index, array in fold.need.constants.items():
        set_constant(node, index, array)
    if fold.need.weight is not None:
        view, per_channel = fold.need.weight
        weight = with_outputs_scaled(view, view.array().astype(np.float64), per_channel)
        set_constant(*view.weight_reader, weight)
    return node.outputs[0]


def _plan(value: ir.Value, factor: Array, readers: Collection[Reader], reader_copied: bool) -> Fold:
    node = value.producer()
    if node is None:
        kind = "a graph input" if value.is_graph_input() else "a constant"
        raise CannotFoldError(f"it comes from {value.name!r}, {kind}")
    if value is not node.outputs[0]:
        raise CannotFoldError(f"it is output {value.index()} of {name_of(node)}")
    others = [use.node for use in value.uses() if (use.node, use.idx) not in readers]
    copied = reader_copied or bool(others) or value.is_graph_output()
    reasons = []
    for need in needs(node, factor):
        if copied and (need.weight or not need.constants):
            who = f"{name_of(others[0])} reads it" if others else "it is read"
            raise CannotFoldError(f"{name_of(node)} makes it, and {who} unscaled too")
        try:
            return Fold(node, copied, need, _plan_inputs(node, need, copied))
        except CannotFoldError as error:
            reasons.append(str(error))
    raise CannotFoldError("; ".join(dict.fromkeys(reasons)))


def _plan_inputs(node: ir.Node, need: Need, copied: bool) -> dict[int, Fold]:
    folds = {}
    for index, factor in need.inputs.items():
        value = node.inputs[index]
        if value is None or is_constant(value):
            raise CannotFoldError(f"no scale passes through {name_of(node)}")
        folds[index] = _plan(value, factor, [(node, index)], copied)
    return folds
