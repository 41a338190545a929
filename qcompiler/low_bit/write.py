"""Solving one weight and letting all its readers read the codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.graph.low_bit import store_low_bit
from qcompiler.graph.weighted import WeightedNode
from qcompiler.low_bit.order import ordered
from qcompiler.low_bit.solver import Inputs, Settings, Solver, recalled, solve_weight
from qcompiler.numerics.formats.base import Float32, Format
from qcompiler.numerics.gptq import Solution
from qcompiler.pipeline.base import PassContext


def quantize_weight_of(
    readers: list[WeightedNode],
    stored: Format,
    settings: Settings,
    inputs: Callable[[], Inputs],
    context: PassContext,
) -> None:
    """Quantize the weight that all of ``readers`` read, for the last of them.

    Args:
        readers: in the order of :meth:`qcompiler.low_bit.sharing.Sharing.readers`.
        stored: the format.
        settings: the solver.
        inputs: what is known of the last one's inputs; not called where the journal knows the codes.
        context: of the pass.

    Raises:
        UnsupportedError: the weight or its inputs are not finite, or too large for the format's scales.
    """
    view = readers[-1]
    if len(readers) > 1 or view.is_tied:  # the others would have to read other rows than they look for
        settings = replace(settings, static_groups=True)

    def make() -> Solution:
        return solve_weight(_finite(view), stored, settings, inputs())

    try:
        key = f"{view.weight.name}/{view.output_axis}"
        is_costly = settings.solver is not Solver.RTN
        solution = recalled(context.journal.recall, key, make) if is_costly else make()
    except UnsupportedError as error:
        raise UnsupportedError(
            f"weight {str(view.weight.name)!r} of {view.node.op_type} {view.name!r}: {error} "
            f"(--exclude {view.name!r} leaves it in float)"
        ) from error
    codes, grid, order = solution.codes, solution.grid, solution.order
    store_low_bit(context.model, view, stored, codes, grid, tied=readers[:-1], order=order)
    if order is not None:
        view.node.replace_input_with(0, ordered(view.activation, order))


def _finite(view: WeightedNode) -> Float32:
    """The weight ``[K, N]``; minimum and maximum are NaN where any weight is, and take no memory."""
    matrix = view.matrix()
    if not (np.isfinite(matrix.min()) and np.isfinite(matrix.max())):
        raise UnsupportedError("it holds NaN or infinity, which no code stands for")
    return matrix
