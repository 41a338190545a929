"""The sum of the four products of the int8 in two int32."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

Expr = Any


def dot_by_instruction(left: Expr, right: Expr) -> Expr:
    """One instruction of GPUs from compute capability 6.1."""
    from tvm import tirx

    return tirx.call_pure_extern("int32", "__dp4a", left, right, tirx.const(0, "int32"))


def dot_by_shifts(left: Expr, right: Expr) -> Expr:
    """The same for a CPU."""
    from tvm import tirx

    def signed(word: Expr, place: int) -> Expr:
        raised = tirx.shift_left(word, tirx.const(24 - 8 * place, "int32"))
        return tirx.shift_right(raised, tirx.const(24, "int32"))

    return reduce(operator.add, (signed(left, i) * signed(right, i) for i in range(4)))
