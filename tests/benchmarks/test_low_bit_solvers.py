"""The benchmark of solvers: its problem is one that they can be told apart on, and every row names its figures."""

from __future__ import annotations

import numpy as np

from benchmarks.low_bit_solvers import SOLVED, _row, _solving, problem
from qcompiler.low_bit.solver import Inputs
from qcompiler.numerics.formats.catalog import format_of


def test_inputs_are_correlated_and_no_solver_fails() -> None:
    weights, inputs = problem(64, 256)
    assert inputs.gram is not None
    diagonal = np.diagonal(inputs.gram)
    assert np.abs(inputs.gram - np.diag(diagonal)).max() > 0.1 * diagonal.mean()
    for words, settings in SOLVED.items():
        given = Inputs(None, inputs.gram, inputs.drift if words == "gptaq" else None)
        row = _row(words, *_solving(weights, format_of("int4"), settings, given))
        assert set(row.scores.own) == {"seconds", "processor seconds", "MB of float32 a second"}
