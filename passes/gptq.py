"""GPTQ and GPTAQ under their own names: integers whose rounding errors later rows make good.

    H = X'X / rows + damping mean(diag) I
    row k of W after row:  q[k] = round(w[k]),   w[j] -= (w[k] - q[k]) H^-1[k, j] / H^-1[k, k]  for j > k

``gptq:bits=3`` is ``int3:solver=gptq`` (arXiv:2210.17323); ``gptaq`` also makes good what quantized layers before have
changed of X (arXiv:2504.02692, "GPTQ v2"): it rounds the weights that come nearest to the float model's output, where
the paper corrects in later rows alone.  Both go segment by segment with the inputs that the quantized part before
gives; ``sequential=false`` is for gptq alone.  Sweeps of coordinate descent follow (``sweeps=0``: GPTQ as published).
With ``static_groups=false`` scales are fitted when a group's turn comes; rows in the order of their inputs' size then
need a Gather on the activation.  What is not observed (tables, convolutions, the inside of subgraphs) is rounded with
scales of least squared error, and the report says so.
Refusals, tied weights: see ``weight_only``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from qcompiler.low_bit.solver import Solver
from qcompiler.numerics.formats.base import Format
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.passes.weight_only import GROUP_HELP, WeightOnly
from qcompiler.pipeline.options import option

BITS = (2, 3, 4, 8)
BITS_HELP = "2, 3, 4 or 8"


@dataclass(frozen=True)
class Solved(WeightOnly):
    """Base of passes that are named after their solver."""

    bits: int = option(4, BITS_HELP, minimum=2, maximum=8)
    group: int = option(32, GROUP_HELP, minimum=0, maximum=256)
    symmetric: bool = option(False, "no zero point")

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"option 'bits' is {self.bits}, expected {BITS_HELP}.")
        super().__post_init__()

    @property
    def stored(self) -> Format:
        return format_of(f"int{self.bits}", group=self.group, symmetric=self.symmetric)


@dataclass(frozen=True)
class Gptq(Solved):
    """Weights in 4-bit integers, their codes solved with GPTQ; activations in float."""

    name: ClassVar[str] = "gptq"
    needs_data: ClassVar[bool] = True

    solver: Solver = dataclasses.field(default=Solver.GPTQ, init=False)


@dataclass(frozen=True)
class Gptaq(Solved):
    """Weights in 4-bit integers, their codes solved with GPTAQ; activations in float."""

    name: ClassVar[str] = "gptaq"
    needs_data: ClassVar[bool] = True

    solver: Solver = dataclasses.field(default=Solver.GPTAQ, init=False)
