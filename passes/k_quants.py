"""The k-quants of llama.cpp: super-blocks of 256 weights whose groups have small integers for scale and minimum.

    q2_k, q4_k, q5_k   W ~ (d s[g]) code - (m c[g])      s, c of 4 or 6 bits, d and m float16 per super-block
    q3_k, q6_k         W ~ (d s[g]) (code - middle)      s of 6 or 8 bits, signed
    q8_0               W ~ s[g] code                     groups of 32, no super-blocks

Bits a weight: 2.625, 3.4375, 4.5, 5.5, 6.5625, 8.5 as llama.cpp packs them (ggml-common.h); in ONNX, which has no type
of 3, 5 or 6 bits, codes and scales lie in 4 or 8 bits, and the report says what the file holds.  The solver is
``k_quant``, the weighted search of llama.cpp, which uses the mean squares of a weight's inputs (its importance
matrix) where calibration data is given.

``q4_k_m`` is a mix after llama.cpp's: q6_k for the lm_head (and a table tied to it) and for the value and down
projections of the first and last eighth of the layers and every third between them, else q4_k.  Roles and layers are
read from the names of nodes and weights (``layers.3...v_proj``); what has no such name gets q4_k.
Solvers, refusals, tied weights: see ``weight_only``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from qcompiler.graph.weighted import WeightedNode
from qcompiler.low_bit.readers import makes_output
from qcompiler.low_bit.solver import Solver
from qcompiler.numerics.formats.base import Format
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.numerics.formats.mixed import Role, q4_k_m
from qcompiler.passes.weight_only import SOLVER_HELP, WeightOnly
from qcompiler.pipeline.base import PassContext
from qcompiler.pipeline.options import option

_LAYER = re.compile(r"(?:^|[./_])(?:layers?|h|blocks?)[./_](\d+)[./_]")
_VALUE = re.compile(r"(?:^|[./_])(?:v_proj|value|qkv\w*|qkv_proj|c_attn|query_key_value|attn_v)(?:[./_]|$)")
_DOWN = re.compile(r"(?:^|[./_])(?:down_proj|mlp[./_]c_proj|fc2|fc_out|dense_4h_to_h|ffn_down)(?:[./_]|$)")


@dataclass(frozen=True)
class KQuants(WeightOnly):
    """Base of the k-quants."""

    solver: Solver = option(Solver.K_QUANT, SOLVER_HELP)

    @property
    def stored(self) -> Format:
        return format_of(self.name)


@dataclass(frozen=True)
class Q2K(KQuants):
    """Weights in llama.cpp's 2-bit super-blocks, activations in float."""

    name: ClassVar[str] = "q2_k"


@dataclass(frozen=True)
class Q3K(KQuants):
    """Weights in llama.cpp's 3-bit super-blocks, activations in float."""

    name: ClassVar[str] = "q3_k"


@dataclass(frozen=True)
class Q4K(KQuants):
    """Weights in llama.cpp's 4-bit super-blocks, activations in float."""

    name: ClassVar[str] = "q4_k"


@dataclass(frozen=True)
class Q5K(KQuants):
    """Weights in llama.cpp's 5-bit super-blocks, activations in float."""

    name: ClassVar[str] = "q5_k"


@dataclass(frozen=True)
class Q6K(KQuants):
    """Weights in llama.cpp's 6-bit super-blocks, activations in float."""

    name: ClassVar[str] = "q6_k"


@dataclass(frozen=True)
class Q8Zero(KQuants):
    """Weights in llama.cpp's 8-bit groups of 32, activations in float."""

    name: ClassVar[str] = "q8_0"


@dataclass(frozen=True)
class Q4KM(KQuants):
    """Weights in a mix of llama.cpp's 4-bit and 6-bit super-blocks, activations in float."""

    name: ClassVar[str] = "q4_k_m"

    @property
    def stored(self) -> Format:
        return format_of("q4_k")

    def formats(self) -> Sequence[Format]:
        return (format_of("q4_k"), format_of("q6_k"))

    def format_for(self, view: WeightedNode, context: PassContext) -> Format:
        layers = [
            layer for node in context.reference.graph.all_nodes() if (layer := _layer(node)) is not None
        ]
        return format_of(q4_k_m(_role(view), _layer(view.node), max(layers, default=0) + 1))


def _layer(node: ir.Node) -> int | None:
    found = _LAYER.search(str(node.name))
    return None if found is None else int(found.group(1))


def _role(view: WeightedNode) -> Role:
    names = (view.name, str(view.weight.name))
    if makes_output(view):
        return Role.OUTPUT
    if view.node.op_type == "Gather":
        return Role.EMBEDDING
    if any(_VALUE.search(name) for name in names):
        return Role.ATTN_V
    return Role.FFN_DOWN if any(_DOWN.search(name) for name in names) else Role.OTHER
