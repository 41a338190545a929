"""A whole search on a small network: bounds are kept, the size is foretold to the byte, the recipe repeats it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.auto import compiled
from qcompiler.auto.facts import Bounds
from qcompiler.auto.loop import Loop
from qcompiler.auto.outcome import SearchResult
from qcompiler.auto.search import SearchOptions, search
from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.cli.signals import TerminatedError
from qcompiler.driver import compile as compile_model
from qcompiler.driver import compile_request
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.request import CompileOptions, Request
from qcompiler.result import CompileResult
from tests.passes.graphs import Arrays, graph, normal

pytest.importorskip("scipy")

WIDTH = 64
QUICK = SearchOptions(CompileOptions(verify="numerics", min_cosine=0.5), rounds=2)


@pytest.fixture(scope="module", autouse=True)
def few_formats() -> Iterator[None]:
    """A small network needs no ten formats to be searched in."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("qcompiler.auto.problem.candidates.GROUPS", {"int4": (32,), "int2": (32,)})
        patched.setattr("qcompiler.auto.problem.candidates.BY_BITS", ("int4:group=32", "int2:group=32"))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four products with a residual sum; the last gives eight logits."""
    made = graph(
        f"""
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, {WIDTH}] x) => (float[N, 8] logits)
        {{
            a = MatMul (x, w0)
            b = Relu (a)
            c = MatMul (b, w1)
            d = Add (c, x)
            e = Relu (d)
            f = MatMul (e, w2)
            g = Relu (f)
            logits = MatMul (g, w3)
        }}
        """,
        {
            **{f"w{at}": normal(WIDTH, WIDTH, seed=at, scale=0.15) for at in range(3)},
            "w3": normal(WIDTH, 8, seed=3, scale=0.3),
        },
    )
    for at, node in enumerate(node for node in made.graph if node.op_type == "MatMul"):
        node.name = f"/fc{at}"
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    ir.save(made, path)
    return path


@pytest.fixture(scope="module")
def data() -> Arrays:
    return {"x": normal(120, WIDTH, seed=9)}


@pytest.fixture(scope="module")
def found(model: Path, data: Arrays, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return search(
        model,
        data,
        bounds=Bounds(max_bits=4.4),
        metric="kl",
        target="ort-cpu:size_first=true",
        exclude="/fc1",
        output=tmp_path_factory.mktemp("out") / "net.qc.onnx",
        options=SearchOptions(QUICK.compile, pareto=True, rounds=1),
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_bound_is_kept_and_the_size_foretold_to_the_byte(found: SearchResult) -> None:
    assert found.bits <= 4.4
    assert found.measured.size_bytes == found.predicted.size_bytes == found.result.path.stat().st_size
    assert found.result.path.exists()


def test_the_recipe_gives_the_same_bytes_without_searching(
    found: SearchResult, model: Path, data: Arrays, tmp_path: Path
) -> None:
    again = compile_model(
        model, recipe=found.recipe, calibration=data, output=tmp_path / "net.qc.onnx", options=QUICK.compile
    )
    assert digest(again.path) == digest(found.result.path)
    manifest = json.loads(again.manifest_path.read_text())
    assert manifest == json.loads(found.result.manifest_path.read_text())


def test_nothing_is_left_beside_the_result(found: SearchResult) -> None:
    names = sorted(path.name for path in found.result.path.parent.iterdir())
    assert names == ["net.qc.front.json", "net.qc.manifest.json", "net.qc.onnx", "net.qc.recipe.yaml"]


def test_no_uniform_model_within_the_bound_loses_less(found: SearchResult) -> None:
    """Those of at most as many bits; the search compiles the best of them too where it finds nothing better."""
    assert found.uniform
    within = [judged.totals.loss for name, judged in found.uniform.items() if "int2" in name]
    assert found.measured.loss <= min(within) * 1.0001


def test_a_size_below_what_is_possible_is_refused_before_calibration(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "qcompiler.pipeline.run.collect", lambda *_, **__: pytest.fail("calibrated before refusing")
    )
    with pytest.raises(UnsupportedError, match=r"--max-size is 1 kB, and the least that is possible is "):
        search(model, "random", bounds=Bounds(max_size_bytes=1000), output=tmp_path, options=QUICK)
    with pytest.raises(UnsupportedError, match=r"--bits is 1, and the least that is possible is 2\.\d+"):
        search(model, "random", bounds=Bounds(max_bits=1.0), output=tmp_path, options=QUICK)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, TerminatedError(15)])
def test_an_interrupted_search_publishes_the_best_it_has_verified(
    model: Path,
    data: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stop: type[BaseException] | BaseException,
) -> None:
    """What ends the process (Ctrl-C, a signal that the command line turns into an exception) ends it afterwards."""
    verify = Loop.verify

    def once(loop: Loop, *arguments: object, **others: object) -> object:
        if loop.best is not None:
            raise stop
        return verify(loop, *arguments, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(Loop, "verify", once)
    with pytest.raises(KeyboardInterrupt if stop is KeyboardInterrupt else TerminatedError):
        search(model, data, bounds=Bounds(max_bits=5.0), metric="kl", output=tmp_path, options=QUICK)
    assert (tmp_path / "net.qc.onnx").exists()
    assert (tmp_path / "net.qc.recipe.yaml").exists()
    assert "best model" in caplog.text


def test_a_search_that_goes_on_measures_nothing_again(
    model: Path, data: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "run", dies)
        with pytest.raises(KeyboardInterrupt):
            search(model, data, bounds=Bounds(max_bits=4.4), metric="kl", output=tmp_path, options=QUICK)
    assert (tmp_path / ".net.qc.work").is_dir()
    monkeypatch.setattr("qcompiler.auto.compiled.compile_request", dies)
    monkeypatch.setattr("qcompiler.pipeline.run.collect", lambda *_, **__: pytest.fail("calibrated again"))
    monkeypatch.setattr("qcompiler.auto.judge.Judge.judge", lambda *_: pytest.fail("judged again"))
    with pytest.raises(KeyboardInterrupt):
        search(model, data, bounds=Bounds(max_bits=4.4), metric="kl", output=tmp_path, options=QUICK)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, TerminatedError(15)])
def test_interrupted_while_measuring_the_best_uniform_model_is_verified_and_published(
    model: Path,
    data: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stop: type[BaseException] | BaseException,
) -> None:
    def stopped(*_: object) -> None:
        raise stop

    monkeypatch.setattr("qcompiler.auto.tables.loss_table", stopped)
    with pytest.raises(KeyboardInterrupt if stop is KeyboardInterrupt else TerminatedError):
        search(model, data, bounds=Bounds(max_bits=5.0), metric="kl", output=tmp_path, options=QUICK)
    assert "verifying int4:group=32:solver=gptq:sequential=false everywhere" in caplog.text
    result, recipe = tmp_path / "net.qc.onnx", tmp_path / "net.qc.recipe.yaml"
    monkeypatch.undo()
    again = compile_model(
        model, recipe=recipe, calibration=data, output=tmp_path / "again", options=QUICK.compile
    )
    assert digest(again.path) == digest(result)
    assert again.verification is not None


def test_interrupted_before_anything_keeps_the_bounds_nothing_is_published(
    model: Path,
    data: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qcompiler.auto.tables.size_table", dies)
    with pytest.raises(KeyboardInterrupt):
        search(model, data, bounds=Bounds(max_bits=5.0), metric="kl", output=tmp_path, options=QUICK)
    assert "no model was verified yet that keeps the bounds, so none is published" in caplog.text
    assert not list(tmp_path.glob("net*"))


def test_an_impossible_latency_is_refused_before_losses_are_measured(
    model: Path, data: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("loss_table", "judge_uniform"):
        monkeypatch.setattr(
            f"qcompiler.auto.tables.{name}", lambda *_: pytest.fail("measured before refusing")
        )
    with pytest.raises(
        UnsupportedError, match=r"--max-latency asks for .* ms, and the least that is possible is .* ms"
    ):
        search(
            model, data, bounds=Bounds(max_latency_ratio=0.01), metric="kl", output=tmp_path, options=QUICK
        )


def test_a_candidate_that_fails_verification_is_one_line(
    model: Path,
    data: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails_by_segment(given: Any, request: Request, *others: Any) -> CompileResult:
        calibration, output, options, progress, solved = others
        if any(item.sequential for item in request.passes):
            options = CompileOptions(verify="numerics", min_cosine=1.0)
        return compile_request(given, request, calibration, output, options, progress, solved)

    monkeypatch.setattr(compiled, "compile_request", fails_by_segment)
    found = search(model, data, bounds=Bounds(max_bits=5.0), metric="kl", output=tmp_path, options=QUICK)
    failed = [line for line in found.considered if "fails:" in line]
    assert len(failed) == 3
    assert failed[0].startswith("candidate 2 (... (by segment)) fails: output 'logits'")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_without_data_only_what_needs_none_is_looked_at(model: Path, data: Arrays, tmp_path: Path) -> None:
    found = search(
        model,
        None,
        bounds=Bounds(max_size_bytes=30_000),
        metric="relative_error",
        metric_data=data,
        output=tmp_path,
        options=QUICK,
    )
    assert found.measured.size_bytes <= 30_000
    assert not any("gptq" in name or "static" in name for name in found.assignment.values())


def test_excluded_nodes_stay_in_float(found: SearchResult) -> None:
    assert set(found.assignment) == {"/fc0", "/fc2", "/fc3"}
    left = {item["name"]: item for item in json.loads(found.result.manifest_path.read_text())["nodes"]}
    assert "skipped" in str(left["/fc1"]["decisions"])


def test_accuracy_without_a_bound_is_refused(model: Path, data: Arrays, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--prefer accuracy without a bound is the float model"):
        search(model, data, bounds=Bounds(prefer="accuracy"), metric="kl", output=tmp_path, options=QUICK)


def test_compile_takes_auto_for_passes(
    found: SearchResult, model: Path, data: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def searched(*given: object, **options: object) -> object:
        asked.append((given, options["options"]))
        return found

    monkeypatch.setattr("qcompiler.auto.search.search", searched)
    result = compile_model(model, "auto", calibration=data, output=tmp_path, options=QUICK.compile)
    assert result is found.result
    assert asked == [((model, data), SearchOptions(QUICK.compile))]
    with pytest.raises(OptionError, match="auto chooses the passes itself"):
        compile_model(model, "smoothquant,auto", calibration=data, output=tmp_path)


def test_a_front_is_traced_on_demand(found: SearchResult) -> None:
    assert found.front is not None
    points = found.front.points
    assert any(point.measured is not None for point in points)
    (chosen,) = [point for point in points if point.chosen]
    assert (
        chosen.measured == found.measured
    )  # of the pipeline that is published, not of another one of its assignment
    sizes = [(point.measured or point.predicted).size_bytes for point in points]
    assert sizes == sorted(sizes)
    written = json.loads(found.result.path.with_suffix(".front.json").read_text())
    assert len(written["points"]) == len(points)


def test_the_target_of_the_recipe_is_that_of_the_search(found: SearchResult) -> None:
    assert isinstance(found.result.target, OrtCpu)
    assert found.result.target.size_first
    assert np.isfinite(found.value)
