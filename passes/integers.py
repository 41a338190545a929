"""Weights as integers of 8, 4, 3 or 2 bits, with a zero point per group or symmetric.

    W[k, n] ~ scale[g, n] (code[k, n] - zero_point[g, n]),   g = k // group

Groups of 32 rows cost half a bit a weight for the scale (float16) and an eighth for the zero point at 4 bits; with
``symmetric=true`` there is none.  8 bits are symmetric unless told otherwise, and their groups are larger: they
lose little however they are scaled.  3-bit codes have no type in ONNX and lie in 4-bit ones; the report says so.
Solvers, refusals, tied weights: see ``weight_only``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler.numerics.formats.base import Format
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.passes.weight_only import GROUP_HELP, WeightOnly
from qcompiler.pipeline.options import option


@dataclass(frozen=True)
class Integers(WeightOnly):
    """Base of the integer passes."""

    group: int = option(32, GROUP_HELP, minimum=0, maximum=256)
    symmetric: bool = option(False, "no zero point")

    width: ClassVar[int]

    @property
    def stored(self) -> Format:
        return format_of(f"int{self.width}", group=self.group, symmetric=self.symmetric)


@dataclass(frozen=True)
class Int8(Integers):
    """Weights in 8-bit integers with scales per group, activations in float."""

    name: ClassVar[str] = "int8"
    width: ClassVar[int] = 8

    group: int = option(128, GROUP_HELP, minimum=0, maximum=256)
    symmetric: bool = option(True, "no zero point")


@dataclass(frozen=True)
class Int4(Integers):
    """Weights in 4-bit integers with scales per group, activations in float."""

    name: ClassVar[str] = "int4"
    width: ClassVar[int] = 4


@dataclass(frozen=True)
class Int3(Integers):
    """Weights in 3-bit integers with scales per group, activations in float."""

    name: ClassVar[str] = "int3"
    width: ClassVar[int] = 3


@dataclass(frozen=True)
class Int2(Integers):
    """Weights in 2-bit integers with scales per group, activations in float."""

    name: ClassVar[str] = "int2"
    width: ClassVar[int] = 2
