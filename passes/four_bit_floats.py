"""Weights as indices of the 16 levels of NF4 or FP4, scaled by the largest magnitude of a block.

    W[k, n] ~ scale[g, n] level[code[k, n]],   g = k // group,   levels in [-1, 1]

NF4's levels are quantiles of the normal distribution, FP4's those of a float with two bits of exponent and one of
mantissa (QLoRA, arXiv:2305.14314).  Blocks of 64 as there.  ``double_quantized=true`` stores the scales themselves in
8 bits, which saves a tenth of a bit a weight in blocks of 64.  The dialect is a model-local function; targets without
a kernel for it run that.  Solvers, refusals, tied weights: see ``weight_only``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler.numerics.formats.base import Format
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.passes.weight_only import GROUP_HELP, WeightOnly
from qcompiler.pipeline.options import option


@dataclass(frozen=True)
class FourBitFloats(WeightOnly):
    """Base of nf4 and fp4."""

    group: int = option(64, GROUP_HELP, minimum=0, maximum=256)
    double_quantized: bool = option(False, "scales in 8 bits")

    @property
    def stored(self) -> Format:
        return format_of(self.name, group=self.group, double_quantized=self.double_quantized)


@dataclass(frozen=True)
class Nf4(FourBitFloats):
    """Weights in 4-bit NormalFloat, activations in float."""

    name: ClassVar[str] = "nf4"


@dataclass(frozen=True)
class Fp4(FourBitFloats):
    """Weights in 4-bit floats scaled by blocks, activations in float."""

    name: ClassVar[str] = "fp4"
