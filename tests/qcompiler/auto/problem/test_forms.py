"""Transforms as choices of single groups: only where one changes something, together where an activation is shared."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.auto.bounds import settle
from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import FLOAT, Bounds, Choice, Estimates, Group, Problem
from qcompiler.auto.judge import Judge
from qcompiler.auto.latency.in_situ import Kernel, Timing
from qcompiler.auto.metrics.metric import open_metric
from qcompiler.auto.problem.candidates import Wanted
from qcompiler.auto.problem.choices import make_problem
from qcompiler.auto.problem.extras import extra_times, made_for
from qcompiler.auto.problem.forms import changed_nodes, conflicts, of_one_pass, uniform_names, with_forms
from qcompiler.auto.recipe import recipe_text, steps_of
from qcompiler.auto.search import SearchOptions, search
from qcompiler.auto.solve import Limits, Solution, solve
from qcompiler.auto.transforms import PROBES, Transformed, choose_transform
from qcompiler.auto.variants import Variant
from qcompiler.driver import compile as compile_model
from qcompiler.measure.profile import profile_nodes
from qcompiler.measure.sessions import Feed
from qcompiler.pipeline.journal import Journal
from qcompiler.pipeline.parse import parse_target
from qcompiler.prepare import prepare
from qcompiler.request import CompileOptions
from qcompiler.samples import open_samples
from tests.passes.graphs import graph, normal

pytest.importorskip("scipy")

WIDTH, HIDDEN = 32, 200
LOUD = 7
BOTH = "smoothquant,outlier_channels"
QUICK = CompileOptions(verify="none")


def encoder() -> ir.Model:
    """A norm with a large channel that two products and a residual sum read, then two hidden layers.

    Only the second of them has a hidden channel that is much larger than the others.
    """
    up, down = normal(WIDTH, HIDDEN, seed=5, scale=0.2), normal(HIDDEN, WIDTH, seed=6, scale=0.1)
    up[:, LOUD] *= 40
    down[LOUD] /= 40
    gain, query = np.ones(WIDTH, np.float32), normal(WIDTH, WIDTH, seed=1, scale=0.1)
    gain[3], query[3] = 60, query[3] / 60
    return graph(
        f"""
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 5, {WIDTH}] x) => (float[N, 5, {WIDTH}] y)
        {{
            n = LayerNormalization (x, gain, zeros)
            [query] q = MatMul (n, wq)
            [key] k = MatMul (n, wk)
            qk = Mul (q, k)
            r = Add (qk, n)
            [up1] a = MatMul (r, w1)
            ga = Gelu (a)
            [down1] b = MatMul (ga, w2)
            [up2] c = MatMul (b, w3)
            gc = Gelu (c)
            [down2] y = MatMul (gc, w4)
        }}
        """,
        {
            "gain": gain,
            "zeros": np.zeros(WIDTH, np.float32),
            "wq": query,
            "wk": normal(WIDTH, WIDTH, seed=2, scale=0.1),
            "w1": normal(WIDTH, HIDDEN, seed=3, scale=0.02),
            "w2": normal(HIDDEN, WIDTH, seed=4, scale=0.1),
            "w3": up,
            "w4": down,
        },
    )


@dataclasses.dataclass
class Planted:
    """The model in a file, prepared, and a bench over it."""

    path: Path
    data: dict[str, object]
    bench: Builds

    def judge(self) -> Judge:
        bench = self.bench
        metric = open_metric(
            "relative_error", bench.reference, bench.samples.held_out, None, QUICK.data, None
        )
        return Judge.of(bench, metric)

    def settled(self, **bounds: object) -> Transformed:
        asked = settle(Bounds(**bounds), "relative_error")  # type: ignore[arg-type]
        return choose_transform(self.bench, self.judge(), asked)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    model = encoder()
    ir.save(model, folder / "net.onnx")
    data: dict[str, object] = {"x": normal(60, 5, WIDTH, seed=9)}
    samples = open_samples(model, data, QUICK)
    prepare(model, opset=21)
    names = frozenset(str(node.name) for node in model.graph.all_nodes())
    target = parse_target("ort-cpu").resolved()
    problem = make_problem(model, names, target, Wanted(has_data=True, small=False))
    (folder / "work").mkdir()
    bench = Builds(model, problem, target, samples, names, folder / "work", Journal())
    return Planted(folder / "net.onnx", data, bench)


@pytest.fixture(scope="module")
def widened(planted: Planted) -> Problem:
    """With the forms of a search for speed."""
    problem = planted.settled(prefer="speed", max_drop=0.1).problem
    assert planted.bench.problem is not problem
    return problem


def groups_of(problem: Problem, name: str) -> set[str]:
    at = problem.choice(name)
    return {group.name for group, row in zip(problem.groups, problem.allowed, strict=True) if row[at]}


def test_only_groups_that_a_transform_changes_have_a_form(widened: Problem) -> None:
    for quantizing in PROBES:
        assert groups_of(widened, f"outlier_channels,{quantizing}") == {"down2"}
        smoothed = groups_of(widened, f"smoothquant,{quantizing}")
        assert {"query", "key"} <= smoothed
        assert "down1" not in smoothed  # no scale passes through Gelu
    assert not any(choice.transforms for choice in widened.choices if choice.weight_only)


def test_transforms_stand_before_everything_where_time_is_not_asked_for(planted: Planted) -> None:
    placed = planted.settled(max_drop=0.1, prefer="size")
    assert placed.problem is planted.bench.problem
    assert placed.variant.before == BOTH
    assert len(placed.said) == 4


def test_uniform_models_take_every_form_where_it_is(widened: Problem) -> None:
    names = uniform_names(widened)
    assert f"{BOTH},int8_dynamic" in names
    both = widened.uniform(f"{BOTH},int8_dynamic")
    assert both["down2"] == "outlier_channels,int8_dynamic"
    assert both["query"] == "smoothquant,int8_dynamic"
    assert both["down1"] == "int8_dynamic"
    one = widened.uniform("outlier_channels,int8_dynamic")
    assert one["query"] == "int8_dynamic"
    assert set(widened.uniform("int8_dynamic").values()) == {"int8_dynamic"}
    with pytest.raises(ValueError, match="none of the choices"):
        widened.uniform("smoothquant,int9")


def test_all_forms_at_once_are_the_transforms_before_everything(planted: Planted, widened: Problem) -> None:
    words = f"{BOTH},int8_dynamic"
    steps = steps_of(widened, planted.bench.reference, widened.uniform(words))
    before = Variant(BOTH).steps(
        planted.bench.problem, planted.bench.reference, planted.bench.problem.uniform("int8_dynamic")
    )
    made = [
        planted.bench._build(each, planted.bench.folder / str(at)) for at, each in enumerate((steps, before))
    ]
    one, other = (each.path.read_bytes() for each in made)
    assert one == other


def test_a_mixed_assignment_comes_back_from_its_recipe(
    planted: Planted, widened: Problem, tmp_path: Path
) -> None:
    assignment = {
        **widened.uniform("int8_dynamic"),
        "query": "smoothquant,int8_dynamic",
        "key": "smoothquant,int8_dynamic",
        "down2": "outlier_channels,int8_static",
    }
    steps = steps_of(widened, planted.bench.reference, assignment)
    assert [step.item.name for step in steps] == [
        "smoothquant",
        "outlier_channels",
        "int8_dynamic",
        "int8_static",
    ]
    assert set(steps[0].include) == {"query", "key"}
    assert steps[1].include == ("down2",)
    recipe = tmp_path / "net.recipe.yaml"
    recipe.write_text(recipe_text(steps, "ort-cpu"))
    digests = set()
    for name, given in (("steps", {"passes": list(steps)}), ("recipe", {"recipe": recipe})):
        (tmp_path / name).mkdir()
        result = compile_model(
            planted.path,
            calibration=planted.data,
            output=tmp_path / name / "net.qc.onnx",
            options=QUICK,
            **given,
        )
        digests.add(hashlib.sha256(result.path.read_bytes()).hexdigest())
        changed = changed_nodes(result.passes)
        assert changed == {"smoothquant": {"query", "key"}, "outlier_channels": {"down2"}}
    assert len(digests) == 1


def test_nodes_of_transforms_belong_to_who_asked_for_them(planted: Planted, widened: Problem) -> None:
    rows = {group.name: row for row, group in enumerate(widened.groups)}
    plain, both = (
        steps_of(widened, planted.bench.reference, widened.uniform(name))
        for name in ("int8_dynamic", f"{BOTH},int8_dynamic")
    )
    folder = planted.bench.folder
    one, other = (
        planted.bench._build(each, folder / f"made_{at}").dialect for at, each in enumerate((plain, both))
    )
    owners = made_for(one, other, widened.groups)
    smoothing = [name for name in owners if name.endswith("_smoothed_Mul")]
    assert {owners[name] for name in smoothing} >= {(rows["query"], rows["key"])}
    branch = {owners[name] for name in owners if "_outliers_" in name}
    assert branch == {(rows["down2"],)}  # not the groups behind the sum, nor those before the branch
    assert not made_for(one, one, widened.groups)


def test_what_kernels_take_is_shared_by_their_owners() -> None:
    owners = {"mul": (0, 1), "branch": (2,)}
    kernels = [Kernel("mul", "Mul", 2.0), Kernel("branch", "MatMul", 4.0), Kernel("other", "MatMul", 50.0)]
    np.testing.assert_allclose(extra_times(owners, kernels, 4, 9.0), [1.5, 1.5, 6.0, 0.0])
    np.testing.assert_allclose(extra_times(owners, kernels, 4, -1.0), [1.0, 1.0, 4.0, 0.0])  # noise
    np.testing.assert_allclose(extra_times(owners, kernels, 4, 90.0), [2.0, 2.0, 8.0, 0.0])
    np.testing.assert_allclose(extra_times(owners, [], 4, 4.0), [1.0, 1.0, 2.0, 0.0])  # no profiler
    np.testing.assert_allclose(extra_times({}, kernels, 2, 4.0), [0.0, 0.0])  # folded into other nodes


def tied(loss: list[list[float]]) -> Solution:
    """Three groups that read one activation; smoothing takes time, float much more."""
    groups = tuple(Group(name, (name,), "MatMul", 1) for name in "abc")
    choices = (Choice(FLOAT, ""), Choice("int8", "int8"), Choice("smoothquant,int8", "smoothquant,int8"))
    allowed = np.ones((3, 3), np.bool_)
    problem = Problem(groups, choices, allowed, np.zeros((3, 3)), ((0, 1, 2),))
    assert len(list(conflicts(problem))) == 6
    times = np.array([[10.0, 1.0, 1.2]] * 3)
    estimates = Estimates(np.zeros((3, 3)), times, np.array(loss))
    found = solve(problem, estimates, Limits(loss=1.0), "speed")
    assert isinstance(found, Solution)
    return found


def test_groups_that_read_one_activation_are_smoothed_together() -> None:
    assert tied([[0.0, 0.1, 0.1]] * 3).picked.tolist() == [1, 1, 1]
    # one of them must be smoothed: alone it would be cheapest
    assert tied([[0.0, 2.0, 0.1], [0.0, 0.1, 0.1], [0.0, 0.1, 0.1]]).picked.tolist() == [2, 2, 2]
    # what stays in float is no partner: it reads the activation as it is
    assert tied([[0.0, 2.0, 0.4], [0.0, 0.1, 0.1], [0.0, 9.0, 9.0]]).picked.tolist() == [2, 2, 0]


def test_one_pass_is_left_where_it_can_be(widened: Problem) -> None:
    one = of_one_pass(widened, f"{BOTH},int8_dynamic")
    kept = {choice.quantizing for choice, row in zip(one.choices, one.allowed.T, strict=True) if row.any()}
    assert kept == {"int8_dynamic"}  # float neither, where the pass is for the group
    for name in ("int8_dynamic", f"{BOTH},int8_dynamic"):
        assert one.uniform(name) == widened.uniform(name)


def test_what_reads_the_activation_is_known(widened: Problem) -> None:
    names = [group.name for group in widened.groups]
    assert [[names[row] for row in rows] for rows in widened.shared] == [["query", "key"]]


def test_without_changes_there_are_no_forms(planted: Planted) -> None:
    problem = planted.bench.problem
    assert with_forms(problem, planted.bench.reference, {}, PROBES).choices == problem.choices


COST_MS = {"MatMul": 4.0, "MatMulNBits": 3.0, "DynamicQuantizeMatMul": 1.0, "MatMulIntegerToFloat": 1.0}


def made_up(path: Path, float_path: Path, feed: Feed, *, threads: int, profiled: bool = True) -> Timing:
    """Every kernel takes what its type costs; those of transforms little."""
    del float_path
    found = tuple(
        Kernel(
            kernel.name,
            kernel.op_type,
            0.2 if "_outliers_" in kernel.name else COST_MS.get(kernel.op_type, 0.1),
        )
        for kernel in profile_nodes(path, feed, runs=1, warmup_runs=1, threads=threads).values()
    )
    return Timing(sum(kernel.ms for kernel in found), 30.0, found if profiled else ())


def test_a_search_takes_a_transform_only_where_it_is_needed(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without transforms the uniform model loses 0.126 of the output's norm, with one 0.09, with both 0.017."""
    monkeypatch.setattr("qcompiler.auto.latency.table.time_model", made_up)
    monkeypatch.setattr("qcompiler.auto.problem.choices.candidate_words", lambda *_: ["int8_dynamic"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = search(
        planted.path,
        planted.data,
        bounds=Bounds(max_drop=0.06, prefer="speed"),
        metric="relative_error",
        output=tmp_path / "net.qc.onnx",
        options=SearchOptions(CompileOptions(verify="numerics", min_cosine=0.5)),
    )
    assert found.measured.loss <= 0.06
    held = {name: judged.totals for name, judged in found.uniform.items() if judged.totals.loss <= 0.06}
    assert set(held) == {f"{BOTH},int8_dynamic"}
    assert found.measured.latency_ms < min(each.latency_ms for each in held.values())
    assert [name for name, choice in found.assignment.items() if "outlier" in choice] == ["down2"]
    assert "smoothquant" not in found.assignment["up1"]  # no outliers: its Mul is spared
