"""Metrics against slow, obvious references; which one is chosen; what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qcompiler.auto.metrics.metric import open_metric
from qcompiler.auto.metrics.user import code_digest, load_function
from qcompiler.backends.base import Session
from qcompiler.data import DataOptions, hold_out, input_specs, open_data
from qcompiler.data.feeds import FeedSource
from qcompiler.errors import CalibrationError, OptionError, UnsupportedError

Array = npt.NDArray[Any]

CLASSIFIER = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 3] x) => (float[N, 3] logits) { logits = Identity(x) }"""
ENCODER = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, T, 4] x, int64[N, T] attention_mask) => (float[N, T, 4] hidden) { hidden = Identity(x) }"""
REGRESSION = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 3] x) => (float[N, 3] y) { y = Identity(x) }"""
LANGUAGE = """<ir_version: 10, opset_import: ["" : 21]>
g (int64[B, T] input_ids, int64[B, T] attention_mask) => (float[B, T, 5] logits)
<float[5, 5] table = {0.1,2,3,4,5, 5,4,3,2,1, 1,3,5,2,4, 2,2,2,2,9, 0,1,0,1,0}>
{ logits = Gather(table, input_ids) }"""


class Made(Session):
    """Gives what a function makes of its inputs."""

    def __init__(self, inputs: list[str], run: Any) -> None:
        self.input_names, self._run = inputs, run

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        found: dict[str, Array] = self._run(feeds)
        return found


def source(text: str, arrays: Mapping[str, Array], batch: int = 4) -> tuple[ir.Model, FeedSource]:
    model = ir.from_onnx_text(text)
    return model, open_data(dict(arrays), input_specs(model), DataOptions(batch=batch))


def rows(count: int, width: int = 3) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_top1_is_the_share_of_labels_whatever_the_batch(batch: int) -> None:
    x, labels = rows(8), np.array([0, 1, 2, 0, 1, 2, 0, 1])
    model, feeds = source(CLASSIFIER, {"x": x, "labels": labels}, batch)
    metric = open_metric(None, model, feeds)
    session = Made(["x"], lambda feed: {"logits": feed["x"]})
    assert metric.name == "top1"
    assert metric.measure(session) == np.mean(x.argmax(axis=1) == labels)
    assert metric.loss(0.7, 0.75) == pytest.approx(0.05)  # rounding of one subtraction


def test_top1_without_labels_is_agreement_with_float_and_nan_agrees_with_nothing() -> None:
    model, feeds = source(CLASSIFIER, {"x": rows(8)})
    metric = open_metric(None, model, feeds)
    assert "agreement" in metric.words
    assert metric.measure(Made(["x"], lambda feed: {"logits": feed["x"]})) == 1.0
    assert metric.measure(Made(["x"], lambda feed: {"logits": feed["x"] * np.nan})) == 0.0


def test_labels_follow_the_rows_that_are_held_out() -> None:
    x = rows(10)
    model, feeds = source(CLASSIFIER, {"x": x, "labels": x.argmax(axis=1)}, batch=1)
    metric = open_metric("top1", model, hold_out(feeds).held_out)
    assert metric.measure(Made(["x"], lambda feed: {"logits": feed["x"]})) == 1.0
    assert "accuracy" in metric.words


def test_perplexity_counts_what_the_mask_leaves() -> None:
    ids = np.array([[0, 1, 2, 3], [3, 3, 1, 0]])
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    model, feeds = source(LANGUAGE, {"input_ids": ids, "attention_mask": mask}, batch=2)
    metric = open_metric(None, model, feeds)
    tensor = model.graph.initializers["table"].const_value
    assert tensor is not None
    table = tensor.numpy().astype(np.float64)
    chances = np.exp(table) / np.exp(table).sum(axis=1, keepdims=True)
    expected = [chances[a, b] for a, b in ((0, 1), (1, 2), (2, 3), (3, 3))]
    session = Made(["input_ids"], lambda feed: {"logits": table[feed["input_ids"]]})
    assert metric.name == "perplexity"
    # float64 on both sides, summed in another order
    assert metric.measure(session) == pytest.approx(math.exp(-np.mean(np.log(expected))), rel=1e-12)
    assert metric.loss(11.0, 10.0) == pytest.approx(0.1)
    assert metric.surrogate_of(0.1) == pytest.approx(math.log(1.1))


def test_perplexity_of_nan_is_bad_and_finite() -> None:
    ids, mask = np.zeros((1, 4), np.int64), np.ones((1, 4), np.int64)
    model, feeds = source(LANGUAGE, {"input_ids": ids, "attention_mask": mask}, batch=1)
    metric = open_metric("perplexity", model, feeds)
    found = metric.measure(Made(["input_ids"], lambda feed: {"logits": np.full((1, 4, 5), np.nan)}))
    assert math.isfinite(found)
    assert found > 1e6


def test_spearman_ranks_cosines_of_pairs_and_ignores_padding() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(size=(12, 3, 4)).astype(np.float32)
    mask = np.tile([1, 1, 0], (12, 1))
    means = x[:, :2].mean(axis=1)
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(means[0::2], means[1::2], strict=True)
    ]
    arrays = {"x": x, "attention_mask": mask, "scores": np.repeat(np.array(cosines) * 5, 2)}
    model, feeds = source(ENCODER, arrays, batch=5)  # batches that part a pair
    metric = open_metric(None, model, feeds)
    session = Made(["x"], lambda feed: {"hidden": feed["x"]})
    assert metric.name == "spearman"
    assert metric.measure(session) == pytest.approx(1.0)  # the same order: ranks are equal
    assert metric.measure(Made(["x"], lambda feed: {"hidden": feed["x"] * np.nan})) == 0.0


def test_a_score_for_each_pair_is_as_good_as_one_for_each_row() -> None:
    x, mask = np.random.default_rng(1).normal(size=(8, 2, 4)).astype(np.float32), np.ones((8, 2), np.int64)
    session = Made(["x"], lambda feed: {"hidden": feed["x"]})
    scores = np.array([3.0, 1.0, 2.0, 5.0])
    found = []
    for given in (scores, np.repeat(scores, 2)):
        model, feeds = source(ENCODER, {"x": x, "attention_mask": mask, "scores": given})
        found.append(open_metric("spearman", model, feeds).measure(session))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["kl", "relative_error"])
def test_float_has_no_loss_and_a_disturbed_model_has_what_the_formula_says(name: str) -> None:
    x = rows(8)
    model, feeds = source(CLASSIFIER, {"x": x})
    metric = open_metric(name, model, feeds)
    disturbed = Made(["x"], lambda feed: {"logits": feed["x"] * np.float32(1.1)})
    p, q = (
        np.exp(v) / np.exp(v).sum(axis=1, keepdims=True)
        for v in (x.astype(float), (x * np.float32(1.1)).astype(float))
    )
    expected = {"kl": float((p * np.log(p / q)).sum(axis=1).mean()), "relative_error": 0.1}[name]
    assert metric.measure(Made(["x"], lambda feed: {"logits": feed["x"]})) == 0.0
    # float32 of the disturbance: 1.1 has 24 bits
    assert metric.measure(disturbed) == pytest.approx(expected, rel=1e-5)
    assert metric.loss(0.25, 0.0) == 0.25
    # the surrogate is additive: an energy, where the metric is an amplitude
    assert metric.surrogate_of(0.1) == pytest.approx({"kl": 0.1, "relative_error": 0.01}[name])


def test_what_is_no_distribution_is_judged_by_its_error() -> None:
    model, feeds = source(REGRESSION, {"x": rows(8)})
    assert open_metric(None, model, feeds).name == "relative_error"


def test_probabilities_are_recognized_by_their_sum() -> None:
    x = np.abs(rows(8)) + 0.1
    model, feeds = source(REGRESSION, {"x": x / x.sum(axis=1, keepdims=True)})
    assert open_metric(None, model, feeds).name == "top1"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("top2", OptionError, "Did you mean 'top1'"),
        ("perplexity", UnsupportedError, "use another metric"),
        ("spearman", CalibrationError, "'scores'"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(name: str, error: type[Exception], words: str) -> None:
    model, feeds = source(REGRESSION, {"x": rows(8)})
    with pytest.raises(error, match=words):
        open_metric(name, model, feeds)


def test_labels_that_do_not_fit_are_refused() -> None:
    model, feeds = source(CLASSIFIER, {"x": rows(8), "labels": np.ones((8, 2), np.int64)})
    with pytest.raises(CalibrationError, match="one label for each class"):
        open_metric("top1", model, feeds)
    model, feeds = source(CLASSIFIER, {"x": rows(8), "labels": np.ones(8, np.float32)})
    with pytest.raises(CalibrationError, match="give integers"):
        open_metric("top1", model, feeds)


def test_labels_that_float_never_gives_are_refused() -> None:
    """Nothing could be lost by any model: every bound on a drop would hold."""
    model, feeds = source(CLASSIFIER, {"x": rows(8), "labels": np.full(8, 100)})
    with pytest.raises(CalibrationError, match="gives none of the 8 labels"):
        open_metric("top1", model, feeds)


@pytest.mark.parametrize("name", ["labels", "scores", "lengths"])
def test_answers_of_another_number_of_rows_are_refused(name: str) -> None:
    model, feeds = source(CLASSIFIER, {"x": rows(8), name: np.zeros(3, np.int64)})
    with pytest.raises(CalibrationError, match="3 rows beside 8 samples"):
        open_metric(None, model, feeds)


def test_a_function_that_was_changed_is_told_from_what_it_was(tmp_path: Path) -> None:
    text = "def score(session, data): return 1"
    first = code_digest(load_function(user(tmp_path, text)))
    assert code_digest(load_function(user(tmp_path, text))) == first
    assert code_digest(load_function(user(tmp_path, text + " + 1"))) != first
    assert code_digest(None) is None
    assert code_digest(max) != code_digest(max)


def user(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.py"
    path.write_text(text)
    return f"{path}:score"


def test_the_users_function_gets_session_feeds_and_extras(tmp_path: Path) -> None:
    text = """
import numpy as np
def score(session, data):
    found = np.concatenate([session.run(feed)["y"] for feed in data])
    return float((found[:, 0] - data.extras["wanted"]).sum())
score.higher_is_better = False
score.relative = True
"""
    x = rows(8)
    model, feeds = source(REGRESSION, {"x": x, "wanted": x[:, 0] - 1})
    metric = open_metric(user(tmp_path, text), model, feeds)
    # eight ones, added up in float32
    assert metric.measure(Made(["x"], lambda feed: {"y": feed["x"]})) == pytest.approx(8.0, rel=1e-5)
    assert metric.loss(12.0, 8.0) == 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def other(session, data): return 1", "Did you mean|Known: other"),
        ("import not_there_at_all", "importing .* failed: ModuleNotFoundError"),
        ("def score(session): return 1", "expected function"),
        ("score = 3", "is of type int, expected a function"),
        ("def score(session, data): return 'good'", "returned a str, expected one number"),
        ("def score(session, data): pass", "returned nothing"),
        ("def score(session, data): return float('nan')", "finite number"),
        ("def score(session, data): raise SystemExit(3)", "failed: SystemExit: 3"),
        ("raise SystemExit(3)", "importing .* failed: SystemExit"),
        ("def score(session, data): return {}['x']", "failed: KeyError: 'x' .mine.py, line 1."),
    ],
)
def test_a_users_function_that_is_wrong_ends_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    model, feeds = source(REGRESSION, {"x": rows(8)})
    with pytest.raises(OptionError, match=words) as caught:
        open_metric(user(tmp_path, text), model, feeds).measure(Made(["x"], lambda feed: {"y": feed["x"]}))
    assert "\n" not in str(caught.value)


def test_a_module_of_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_metric_module.py").write_text("def score(session, data): return 2")
    monkeypatch.chdir(tmp_path)
    model, feeds = source(REGRESSION, {"x": rows(8)})
    assert open_metric("my_metric_module:score", model, feeds).measure(Made([], dict)) == 2.0


def test_a_missing_file_is_named() -> None:
    model, feeds = source(REGRESSION, {"x": rows(8)})
    with pytest.raises(OptionError, match="is no file"):
        open_metric("nowhere.py:score", model, feeds)


def test_options_of_calibration_data_are_followed_where_they_apply() -> None:
    x = rows(8)
    model, feeds = source(CLASSIFIER, {"x": x})
    data = {"x": x, "labels": x.argmax(axis=1)}
    for options in (DataOptions(batch=4, limit=2), DataOptions(image_scale=0.5, batch=2)):
        metric = open_metric("top1", model, feeds, data, options)
        calls: list[int] = []

        def run(feed: Mapping[str, Array], seen: list[int] = calls) -> dict[str, Array]:
            seen.append(len(feed["x"]))
            return {"logits": feed["x"]}

        assert metric.measure(Made(["x"], run)) == 1.0
        assert sum(calls) == 8
        # what is for pictures alone cannot be followed for arrays, and the rest is then as usual
        assert calls[0] == (4 if options.batch == 4 else 1)
