"""Weights as small floats with a scale: fp8 (e4m3), mxfp4, nvfp4; and as the three values of ternary.

| pass | level | scale | source |
|---|---|---|---|
| fp8 | e4m3, largest 448 | float16, one a column or group | arXiv:2209.05433 |
| mxfp4 | e2m1, largest 6 | power of two, 32 weights | OCP Microscaling Formats 1.0, arXiv:2310.10537 |
| nvfp4 | e2m1, largest 6 | e4m3, 16 weights, and a float32 for the tensor | NVIDIA Blackwell |
| ternary | -1, 0, 1 | mean magnitude of a column or group | BitNet b1.58, arXiv:2402.17764 |

Ternary is meant for models trained so; rounding another one to it leaves little of it.  fp8 is DequantizeLinear in
the dialect, the 4-bit floats are a model-local function.  Solvers, refusals, tied weights: see ``weight_only``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler.numerics.formats.base import Format
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.passes.weight_only import GROUP_HELP, WeightOnly
from qcompiler.pipeline.options import option


@dataclass(frozen=True)
class Fp8(WeightOnly):
    """Weights in 8-bit floats (e4m3), activations in float."""

    name: ClassVar[str] = "fp8"

    group: int = option(0, GROUP_HELP, minimum=0, maximum=256)

    @property
    def stored(self) -> Format:
        return format_of("fp8", group=self.group)


@dataclass(frozen=True)
class MxFp4(WeightOnly):
    """Weights in 4-bit floats with scales that are powers of two, activations in float."""

    name: ClassVar[str] = "mxfp4"

    @property
    def stored(self) -> Format:
        return format_of("mxfp4")


@dataclass(frozen=True)
class NvFp4(WeightOnly):
    """Weights in 4-bit floats with scales in 8-bit floats, activations in float."""

    name: ClassVar[str] = "nvfp4"

    @property
    def stored(self) -> Format:
        return format_of("nvfp4")


@dataclass(frozen=True)
class Ternary(WeightOnly):
    """Weights that are -1, 0 or 1 times a scale, activations in float."""

    name: ClassVar[str] = "ternary"

    group: int = option(0, GROUP_HELP, minimum=0, maximum=256)

    @property
    def stored(self) -> Format:
        return format_of("ternary", group=self.group)
