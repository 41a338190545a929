"""A choice that fails is said and left out; a metric that fails of a whole model is no reason to end a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Bounds
from qcompiler.auto.left_out import narrowed
from qcompiler.auto.metrics.metric import Divergence
from qcompiler.auto.outcome import SearchResult
from qcompiler.auto.search import SearchOptions, search
from qcompiler.auto.variants import Variant
from qcompiler.errors import OptionError, OutputError, QCompilerError, UnsupportedError
from qcompiler.request import CompileOptions
from tests.qcompiler.auto.test_loop import problem
from tests.qcompiler.auto.workbench import mlp, rows

pytest.importorskip("scipy")

EIGHT, FOUR, TWO = CHOICES = ("int8_static", "int4:group=32", "int2:group=32")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "mlp.onnx"
    ir.save(mlp(), path)
    return path


@pytest.fixture(autouse=True)
def few_choices() -> Iterator[None]:
    with mock.patch("qcompiler.auto.problem.choices.candidate_words", return_value=CHOICES):
        yield


def searched(model: Path, output: Path) -> SearchResult:
    """On a target that is not timed; the bound is one that a mix of 8 and 4 bits keeps."""
    return search(
        model,
        rows(80),
        bounds=Bounds(max_drop=0.15),
        metric="relative_error",
        target="onnx",
        output=output / "net.onnx",
        options=SearchOptions(CompileOptions(min_cosine=0.0), rounds=1),
    )


def build_failing(monkeypatch: pytest.MonkeyPatch, *names: str, solved_only: bool = False) -> None:
    real = Builds.build_variant

    def build(bench: Builds, assignment: Mapping[str, str], *others: Any, rounded: bool = False) -> Any:
        if set(names) & set(assignment.values()) and not (rounded and solved_only):
            raise UnsupportedError("the weight of /fc0 has a rank of 7, expected 2.")
        return real(bench, assignment, *others, rounded=rounded)

    monkeypatch.setattr(Builds, "build_variant", build)


@pytest.mark.parametrize("solved_only", [False, True])
def test_a_choice_that_cannot_be_built_is_said_and_left_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, solved_only: bool
) -> None:
    """With rounded codes it fails while sizes are measured, otherwise while uniform models are judged."""
    build_failing(monkeypatch, TWO, solved_only=solved_only)
    found = searched(model, tmp_path)
    assert f"{TWO} is left out of the search: the weight of /fc0 has a rank of 7, expected 2." in found.notes
    assert TWO not in found.uniform
    assert TWO not in found.assignment.values()
    assert FOUR in found.assignment.values()


def test_a_transform_that_cannot_be_built_is_said(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Builds.build_variant

    def build(
        bench: Builds, assignment: Mapping[str, str], variant: Variant, *, rounded: bool = False
    ) -> Any:
        if variant.before == "smoothquant":
            raise UnsupportedError("no statistics of x.")
        return real(bench, assignment, variant, rounded=rounded)

    monkeypatch.setattr(Builds, "build_variant", build)
    found = searched(model, tmp_path)
    assert "smoothquant,int8_static: fails: no statistics of x." in found.considered


def test_the_first_failure_is_the_searchs_where_every_choice_fails(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_failing(monkeypatch, *CHOICES)
    with pytest.raises(UnsupportedError, match="a rank of 7"):
        searched(model, tmp_path)
    assert not list(tmp_path.glob("net*"))


def test_a_full_disk_is_no_choices_fault(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("no space left on device.")

    monkeypatch.setattr("qcompiler.auto.tables.size_table", full)
    with pytest.raises(OutputError, match="no space"):
        searched(model, tmp_path)


def metric_failing(monkeypatch: pytest.MonkeyPatch, *calls: int, error: QCompilerError | None = None) -> None:
    """The metric fails, or is NaN, when it is measured for these times; the float model is the first."""
    real, count = Divergence.measure, iter(range(1000))

    def measure(metric: Divergence, session: Any) -> float:
        if next(count) not in calls:
            return real(metric, session)
        if error is not None:
            raise error
        return float("nan")

    monkeypatch.setattr(Divergence, "measure", measure)


@pytest.mark.parametrize(
    "error", [None, OptionError("metric 'm:f' failed: KeyError (m.py, line 3); mend it.")]
)
def test_where_the_metric_fails_groups_are_measured_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: QCompilerError | None
) -> None:
    metric_failing(monkeypatch, 3, error=error)
    found = searched(model, tmp_path)
    said = [note for note in found.notes if note.startswith(f"{TWO} cannot be judged everywhere")]
    assert len(said) == 1
    assert ("KeyError" if error else "no finite number") in said[0]
    assert set(found.uniform) == {EIGHT, FOUR}
    assert np.isfinite(found.measured.loss)


def test_a_metric_that_always_fails_ends_the_search_in_its_own_words(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OptionError("metric 'm:f' failed: KeyError (m.py, line 3); mend it.")
    metric_failing(monkeypatch, *range(1, 1000), error=error)
    with pytest.raises(OptionError, match="line 3"):
        searched(model, tmp_path)


def test_forms_after_transforms_go_with_their_pass() -> None:
    whole = problem()
    left = narrowed(whole, ["int4"])
    assert left.allowed.any(axis=0).tolist() == [True, True, False]
    assert whole.allowed.all()
