"""What is decided about a model, by which choices, and how an assignment becomes a pipeline."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.auto.bounds import check_bounds, refusal, refuse_few_bits, settle, shown_size
from qcompiler.auto.facts import Bounds, Choice, Group, Problem, Totals
from qcompiler.auto.problem.candidates import Wanted
from qcompiler.auto.problem.choices import make_problem, rounded_words, sequential_words
from qcompiler.auto.problem.form import form_for, smallest_form
from qcompiler.auto.problem.groups import find_groups
from qcompiler.auto.recipe import literal, recipe_text, steps_of, words
from qcompiler.auto.solve import Infeasible
from qcompiler.auto.variants import Variant, variants_of
from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.budget import parse_size
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.passes.int8_static import Int8Static
from qcompiler.passes.integers import Int2, Int4
from qcompiler.pipeline.parse import read_recipe, recipe_passes
from qcompiler.pipeline.selected import Selected
from qcompiler.prepare import prepare
from qcompiler.prepare.select import select_nodes
from tests.passes.graphs import convolutions, graph, normal


def network() -> ir.Model:
    """A table tied to the last product, a product of 32 x 64 and one of 64 x 32 between."""
    model = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (int64[N] ids) => (float[N, 48] logits)
        {
            h = Gather (table, ids)
            a = MatMul (h, w0)
            b = Relu (a)
            c = MatMul (b, w1)
            turned = Transpose <perm = [1, 0]> (table)
            logits = MatMul (c, turned)
        }
        """,
        {"table": normal(48, 32), "w0": normal(32, 64), "w1": normal(64, 32)},
    )
    prepare(model, opset=21)
    return model


@pytest.fixture(scope="module")
def model() -> ir.Model:
    return network()


def problem_of(model: ir.Model, wanted: Wanted, exclude: tuple[str, ...] = ()) -> Problem:
    return make_problem(model, select_nodes(model, (), exclude), OrtCpu(), wanted)


def test_nodes_that_share_a_weight_are_one_group(model: ir.Model) -> None:
    groups = find_groups(model, select_nodes(model, (), ()))
    assert [(group.op_type, len(group.nodes), group.parameters) for group in groups] == [
        ("Gather", 2, 48 * 32),
        ("MatMul", 1, 32 * 64),
        ("MatMul", 1, 64 * 32),
    ]


def test_a_group_with_an_excluded_node_is_not_decided(model: ir.Model) -> None:
    groups = find_groups(model, select_nodes(model, (), ("op:Gather",)))
    assert [group.op_type for group in groups] == ["MatMul", "MatMul"]


def test_bits_are_for_convolutions_too() -> None:
    """No weight-only format takes a Conv: its weights get few bits beside int8 activations."""
    model = convolutions()
    prepare(model, opset=21)
    problem = problem_of(model, Wanted(has_data=True, bits=True, fast=False))
    on_codes = np.array([choice.name.startswith("int8_") for choice in problem.choices])
    for group, allowed in zip(problem.groups, problem.allowed, strict=True):
        assert allowed[on_codes].any() != allowed[~on_codes][1:].any(), group  # one kind or the other
    assert {group.op_type for group in problem.groups} == {"Conv", "Gemm"}


def test_bits_are_those_of_the_format(model: ir.Model) -> None:
    """4 bits, a float16 scale and a 4-bit zero point for 32 weights: 4.625."""
    problem = problem_of(model, Wanted(has_data=True, bits=True, fast=False))
    at = problem.choice("int4:group=32:solver=gptq:sequential=false")
    sizes = np.array([group.parameters for group in problem.groups])
    np.testing.assert_allclose(problem.stored_bits[:, at] / sizes, 4.625)
    np.testing.assert_allclose(problem.stored_bits[:, 0] / sizes, 32)
    wide = problem.choice("int4:group=64:solver=gptq:sequential=false")
    assert problem.allowed[:, wide].tolist() == [False, False, True]  # the others have 32 rows


def test_a_model_without_weights_has_nothing_to_choose() -> None:
    bare = graph(
        '<ir_version: 10, opset_import: ["" : 21]> n (float[N] x) => (float[N] y) { y = Relu (x) }', {}
    )
    with pytest.raises(OptionError, match="auto finds nothing to choose"):
        problem_of(bare, Wanted(has_data=True))


def test_where_the_user_leaves_nothing_to_choose_that_is_the_reason(model: ir.Model) -> None:
    with pytest.raises(OptionError, match=r"--include and --exclude leave none of the 3 places"):
        make_problem(model, frozenset(), OrtCpu(), Wanted(has_data=True))


def test_the_pipeline_of_an_assignment_comes_back_from_its_recipe(tmp_path: Path) -> None:
    model = convolutions()
    prepare(model, opset=21)
    problem = problem_of(model, Wanted(has_data=True))
    names = [group.name for group in problem.groups]
    assignment = dict.fromkeys(names[1:-1], "int8_static") | {names[-1]: "int8_dynamic"}
    steps = steps_of(problem, model, assignment)
    assert [step.item.name for step in steps] == ["int8_dynamic", "int8_static"]
    assert steps[0].include == (names[-1],)
    assert steps[1].include == ()
    assert set(steps[1].exclude) == {names[0], names[-1]}  # so that Add and pooling between can join
    path = tmp_path / "found.recipe.yaml"
    path.write_text(recipe_text(steps, "ort-cpu", "a note\nof two lines", exclude=("op:Softmax",)))
    recipe = read_recipe(path)
    assert recipe_passes(recipe) == list(steps)
    assert recipe.target == "ort-cpu"
    assert recipe.exclude == ["op:Softmax"]


def test_names_with_special_letters_match_themselves_alone() -> None:
    from fnmatch import fnmatchcase

    for name in ("/a[0]/b*", "op:Conv", "why?", "plain"):
        assert fnmatchcase(name, literal(name))
        assert not literal(name).startswith("op:")
    assert not fnmatchcase("/a0/bc", literal("/a[0]/b*"))


def test_words_say_what_is_not_usual() -> None:
    assert words(Int4(group=64), "int4") == "int4:group=64"
    assert words(OrtCpu(size_first=True), "ort-cpu") == "ort-cpu:size_first=true"
    assert rounded_words("int4:group=64:solver=gptq:sequential=false") == "int4:group=64"
    assert rounded_words("int8_static:weights=int4") == "int8_static:weights=int4:solver=rtn"
    assert rounded_words("int8_static") == "int8_static"
    assert sequential_words("int4:solver=gptq:sequential=false") == "int4:solver=gptq"


def test_variants_fit_what_is_chosen(model: ir.Model) -> None:
    problem = problem_of(model, Wanted(has_data=True, bits=True, fast=False))
    low_bit = problem.uniform("int4:group=32:solver=gptq:sequential=false")
    found = list(variants_of(problem, low_bit, Variant(), has_data=True))
    assert [variant.solver for variant in found] == ["at once", "by segment", "gptaq", "by segment"]
    assert found[-1].before == "awq"
    assert list(variants_of(problem, low_bit, Variant(), has_data=False)) == [Variant()]
    settled = list(variants_of(problem, low_bit, Variant(solver="gptaq"), has_data=True))
    assert [variant.name for variant in settled] == ["... (gptaq)", "awq,... (gptaq)"]
    products = [group for group in problem.groups if group.op_type in ("MatMul", "Gemm")]
    small = {
        min(products, key=lambda group: group.parameters).name: "int4:group=32:solver=gptq:sequential=false"
    }
    few = replace(problem, groups=(*problem.groups, replace(products[0], name="rest", parameters=10**7)))
    assert list(variants_of(few, small, Variant(), has_data=True)) == [Variant()]
    assert list(variants_of(problem, {}, Variant(), has_data=True)) == [Variant()]
    awq, low = Variant("awq", solver="by segment").steps(problem, model, low_bit)
    assert (awq.item.name, low.item.name) == ("awq", "int4")
    assert set(awq.include) < set(low.include)  # awq is for products, not for tables
    assert Variant("awq").steps(problem, model, {}) == ()


def test_bits_that_no_choice_has_are_refused_with_what_is_possible(model: ir.Model) -> None:
    problem = problem_of(model, Wanted(has_data=True, bits=True, fast=False))
    with pytest.raises(
        UnsupportedError, match=r"--bits is 1, and the least that is possible is \d"
    ) as refused:
        refuse_few_bits(problem, Bounds(max_bits=1.0))
    named = float(str(refused.value).partition("possible is ")[2].split()[0])
    refuse_few_bits(problem, Bounds(max_bits=named))
    refuse_few_bits(problem, Bounds())
    with pytest.raises(UnsupportedError):
        refuse_few_bits(
            problem, Bounds(max_bits=0.98 * named)
        )  # three digits: rounded up by less than a per cent


@given(size=st.integers(1, 10**12))
def test_a_least_size_is_shown_so_that_asking_for_it_is_enough(size: int) -> None:
    shown = shown_size(size, up=True)
    given_size = parse_size(shown.replace(" ", ""))
    assert (
        size <= given_size <= 1.011 * size + 1
    )  # three digits; less than a byte is lost as a number of bytes


def test_what_is_left_open_is_settled_and_said() -> None:
    nothing = settle(Bounds(), "top1")
    assert (nothing.bounds.max_drop, nothing.prefer) == (0.01, "size")
    assert any("--max-drop 0.01 of top1" in note for note in nothing.notes)
    assert settle(Bounds(max_size_bytes=10), "kl").prefer == "accuracy"
    assert settle(Bounds(max_drop=0.1, prefer="speed"), "kl").notes == ()


def test_measured_models_are_held_against_every_bound() -> None:
    settled = settle(Bounds(max_drop=0.1, max_size_bytes=100, max_latency_ratio=0.5, max_bits=4), "kl")
    float_model = Totals(1000, 10.0, 0.0)
    assert settled.broken(Totals(100, 5.0, 0.1), 4.0, float_model) == ()
    assert len(settled.broken(Totals(101, 5.2, 0.2), 4.1, float_model)) == 4


@pytest.mark.parametrize(
    "name", ["max_size_bytes", "max_latency_ms", "max_latency_ratio", "max_bits", "max_drop"]
)
def test_numbers_that_no_model_can_have_are_refused(name: str) -> None:
    for value in (-1, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="expected"):
            check_bounds(dataclasses.replace(Bounds(), **{name: value}))  # type: ignore[arg-type]


def test_a_bound_that_cannot_be_kept_is_named_with_what_can() -> None:
    alone = str(refusal(Infeasible("latency_ms", 1.0, 2.0, alone=True)))
    assert alone.startswith("--max-latency asks for 1 ms, and the least that is possible is 2 ms.")
    assert "with the other bounds kept" in str(refusal(Infeasible("size_bytes", 1e6, 2e6, alone=False)))


def test_the_smallest_form_is_taken_where_bytes_count() -> None:
    small, notes = smallest_form(OrtCpu(), Bounds(max_size_bytes=1))
    assert small == OrtCpu(size_first=True, packed=True)
    assert "size_first=true" in notes[0]
    assert smallest_form(OrtCpu(), Bounds(prefer="speed")) == (OrtCpu(), [])
    assert form_for(small, [Selected(Int8Static())]) == OrtCpu()
    assert form_for(small, [Selected(Int2())]) == small


def test_uniform_weights_of_few_bits_leave_the_rest_in_eight() -> None:
    """As the pass does on the command line: a depthwise convolution keeps 8 bits, and its kernel in integers."""
    groups = tuple(Group(name, (name,), "Conv", 100) for name in ("pointwise", "depthwise", "first"))
    words = ("int8_static", "int8_static:weights=int5", "int8_dynamic:weights=int4")
    choices = (Choice("float", ""), *(Choice(each, each) for each in words))
    allowed = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], bool)
    problem = Problem(groups, choices, allowed, np.ones((3, 4)))
    assert problem.uniform(words[1]) == {"pointwise": words[1], "depthwise": "int8_static"}
    assert problem.uniform(words[0]) == {"pointwise": "int8_static", "depthwise": "int8_static"}
    assert problem.uniform(words[2]) == {"pointwise": words[2]}  # there is no int8_dynamic to fall back to
