"""HQQ under its own name: integers whose zero points are found by half-quadratic optimization.  Needs no data.

    min over z of sum |W - dequantize(quantize(W; s, z))|^p,  p < 1

(Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023): a norm below one lets a few
large errors be and keeps the many small ones small.  ``hqq:bits=3`` is ``int3:solver=hqq``.  Zero points are rounded to
codes, so that integer kernels take them.  Refusals, tied weights: see ``weight_only``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from qcompiler.low_bit.solver import Solver
from qcompiler.passes.gptq import Solved


@dataclass(frozen=True)
class Hqq(Solved):
    """Weights in 4-bit integers with zero points by half-quadratic optimization, activations in float."""

    name: ClassVar[str] = "hqq"

    solver: Solver = dataclasses.field(default=Solver.HQQ, init=False)
