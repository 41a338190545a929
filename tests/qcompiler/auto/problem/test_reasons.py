"""A node with a weight that is in float after a search has a reason: nothing is for it, or nothing was better."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.auto.facts import FLOAT, Choice, Group, Problem
from qcompiler.auto.problem.candidates import Wanted
from qcompiler.auto.problem.choices import make_problem
from qcompiler.auto.problem.reasons import NONE_BETTER, NONE_FOR_IT, why_float
from qcompiler.backends.base import Target
from qcompiler.pipeline.parse import parse_target
from qcompiler.prepare import prepare

MODEL = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 4, 8, 8] x, bool chosen) => (float[N, 8, 8, 32] y, float[N, 4, 8, 32] z)
<float[4, 4, 3, 3] w0 = {0}, float[4, 4, 3, 3] w1 = {0}, float[8, 32] w2 = {0}, double[8, 32] w3 = {0}> {
    [outside] a = Conv <pads = [1, 1, 1, 1]> (x, w0)
    [if] b = If (chosen) <
        then_branch = one () => (float[N, 4, 8, 8] t) { [inside] t = Conv <pads = [1, 1, 1, 1]> (a, w1) },
        else_branch = two () => (float[N, 4, 8, 8] e) { [same] e = Identity (a) }
    >
    [product] z = MatMul (b, w2)
    [cast] h = Cast <to = 11> (b)
    [double] i = MatMul (h, w3)
    [back] y = Cast <to = 1> (i)
}"""


@pytest.fixture(scope="module")
def target() -> Target:
    return parse_target("ort-cpu:isa=vnni").resolved()


@pytest.fixture(scope="module")
def model() -> ir.Model:
    made = ir.from_onnx_text(MODEL)
    for value in (value for graph in made.graphs() for value in graph.initializers.values()):
        shape = (value.shape or ir.Shape([])).numpy()
        kind = np.float64 if value.dtype == ir.DataType.DOUBLE else np.float32
        array = np.random.default_rng(len(shape)).normal(size=shape).astype(kind)
        value.const_value = ir.tensor(array, name=value.name)
    prepare(made, opset=21)
    return made


def reasons(model: ir.Model, target: Target, excluded: str = "") -> dict[str, str]:
    """Of the assignment that leaves everything in float."""
    selected = frozenset(str(node.name) for node in model.graph.all_nodes()) - {excluded}
    problem = make_problem(model, selected, target, Wanted(has_data=True))
    return why_float(problem, model, selected, target, {})


def test_a_convolution_inside_a_branch_says_what_stands_in_its_way(model: ir.Model, target: Target) -> None:
    found = reasons(model, target)
    assert found["inside"].startswith(
        f"{NONE_FOR_IT}it is inside a subgraph, where its activations cannot be "
    )
    assert found["outside"] == found["product"] == NONE_BETTER


def test_what_the_user_excludes_is_said_to_be_excluded(model: ir.Model, target: Target) -> None:
    assert reasons(model, target, "product")["product"] == "excluded by the user"


def test_a_weight_that_no_pass_can_use_is_said_to_be_one(model: ir.Model, target: Target) -> None:
    assert reasons(model, target)["double"].startswith(f"{NONE_FOR_IT}its weight is double; only float32")


def test_what_is_quantized_needs_no_reason(model: ir.Model, target: Target) -> None:
    selected = frozenset(str(node.name) for node in model.graph.all_nodes())
    problem = make_problem(model, selected, target, Wanted(has_data=True))
    assert "product" not in why_float(problem, model, selected, target, {"product": "int8_static"})


def test_nodes_that_share_a_weight_may_have_no_choice_together(model: ir.Model, target: Target) -> None:
    groups = (Group("outside", ("outside", "product"), "Conv", 10),)
    problem = Problem(
        groups, (Choice(FLOAT, ""), Choice("a", "a")), np.array([[True, False]]), np.zeros((1, 2))
    )
    selected = frozenset({"outside", "product"})
    found = why_float(problem, model, selected, target, {})
    assert found["product"] == f"{NONE_FOR_IT}nodes that share its weight can take none together"
