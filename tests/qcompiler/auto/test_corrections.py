"""Corrections behind an assignment: switched with the group that they belong to, and kept where they help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.auto.losses.switchboard import Switchboard
from qcompiler.auto.problem.groups import find_groups
from qcompiler.build import build
from qcompiler.graph.quantized import quantized_product
from qcompiler.load import load_model
from qcompiler.models.catalog import DIGITS
from qcompiler.pipeline.parse import parse_passes, parse_target
from qcompiler.pipeline.run import Pipeline
from qcompiler.prepare import prepare
from qcompiler.request import CompileOptions
from qcompiler.samples import open_samples
from qcompiler.verify.observed import OracleModel


@pytest.mark.parametrize("words", ["int8_static", "int8_static:weights=int3:solver=rtn", "int8_dynamic"])
def test_switched_off_a_corrected_model_is_float_and_switched_on_it_is_itself(
    words: str, tmp_path: Path
) -> None:
    model = load_model(DIGITS.onnx)
    samples = open_samples(model, DIGITS.calibration, CompileOptions())
    prepare(model)
    names = frozenset(str(node.name) for node in model.graph.all_nodes())
    target = parse_target("ort-cpu").resolved()
    passes = parse_passes(f"{words},bias_correction")
    made = build(
        Pipeline(model, passes, target, names, samples.calibration), tmp_path / "m.onnx", (), external=None
    )
    groups = find_groups(model, names)
    board = Switchboard(made.dialect, groups, threads=1)
    feed = next(iter(samples.held_out))
    output = board.output_names[0]
    exact, quantized = (
        np.asarray(OracleModel(each, threads=1).session([output]).run(feed)[output], np.float32)
        for each in (model, made.dialect)
    )
    shifted = [view for node in made.dialect.graph if (view := quantized_product(node)) is not None]
    assert shifted
    board.switch(())
    # float32 sums in another order, and a bias of a step of s_x s_w
    np.testing.assert_allclose(board.run(feed)[output], exact, rtol=1e-3, atol=2e-2)
    board.switch([group.name for group in groups])
    # as above; a code may fall to the other side of a boundary
    assert np.abs(board.run(feed)[output] - quantized).mean() < 0.02 * np.abs(exact).mean()
    assert np.abs(quantized - exact).mean() > 5 * np.abs(board.run(feed)[output] - quantized).mean()
