"""What a choice does not change is no choice, nor what costs time that nobody would see."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.auto.problem.candidates import Wanted
from qcompiler.auto.problem.choices import make_problem
from qcompiler.pipeline.parse import parse_target
from qcompiler.prepare import prepare

PRODUCT = "[product] y = MatMul (h, w)"
NOTHING = "[nothing] y = Identity (h)"
MODEL = """<ir_version: 10, opset_import: ["" : 21]>
g (float[T, 1, 8] x) => (float[T, 1, 1, 8] y)
<float[1, 32, 8] i = {0}, float[1, 32, 8] r = {0}, float[8, 8] w = {0}> {
    [recurrent] h = LSTM <hidden_size = 8> (x, i, r)
    %s
}"""


@pytest.mark.parametrize(("behind", "expected"), [(PRODUCT, True), (NOTHING, False)])
def test_scales_for_each_token_are_a_choice_where_a_product_reads_tokens(
    behind: str, *, expected: bool
) -> None:
    """An LSTM has one scale for the whole sequence, whatever is asked for."""
    model = ir.from_onnx_text(MODEL % behind)
    for value in model.graph.initializers.values():
        shape = (value.shape or ir.Shape([])).numpy()
        array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        value.const_value = ir.tensor(array, name=value.name)
    prepare(model, opset=21)
    selected = frozenset(str(node.name) for node in model.graph.all_nodes())
    target = parse_target("ort-cpu:isa=vnni").resolved()
    names = [choice.name for choice in make_problem(model, selected, target, Wanted(has_data=True)).choices]
    assert "int8_dynamic" in names
    assert ("int8_dynamic:granularity=token" in names) == expected


CONVOLUTION = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y)
<float[4, 3, 3, 3] w = {0}> {
    [conv] y = Conv <pads = [1, 1, 1, 1]> (x, w)
}"""


@pytest.mark.parametrize(("has_data", "expected"), [(True, False), (False, True)])
def test_untimed_convolutions_find_ranges_while_the_model_runs_only_without_data(
    *, has_data: bool, expected: bool
) -> None:
    model = ir.from_onnx_text(CONVOLUTION)
    array = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    model.graph.initializers["w"].const_value = ir.tensor(array, name="w")
    prepare(model, opset=21)
    selected = frozenset(str(node.name) for node in model.graph.all_nodes())
    problem = make_problem(model, selected, parse_target("onnx").resolved(), Wanted(has_data=has_data))
    assert ("int8_dynamic" in [choice.name for choice in problem.choices]) == expected
