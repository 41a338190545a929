"""Tokens alone are enough for a decoder with a cache: mask and empty past are made, and said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.cli.data import Reading
from qcompiler.data import open_data
from qcompiler.data.feeds import InputSpec
from qcompiler.data.options import DataOptions
from qcompiler.errors import CalibrationError

I64, F32 = np.dtype(np.int64), np.dtype(np.float32)
TOKENS = InputSpec("input_ids", I64, ("batch", "sequence"))
MASK = InputSpec("attention_mask", I64, ("batch", "total_sequence"))
POSITIONS = InputSpec("position_ids", I64, ("batch", "sequence"))
PAST = tuple(
    InputSpec(f"past_key_values.{layer}.{part}", F32, ("batch", 2, "past_sequence", 8))
    for layer in range(2)
    for part in ("key", "value")
)
IDS = np.arange(12).reshape(3, 4)


def test_tokens_of_an_npz_get_a_mask_and_an_empty_past(tmp_path: Path) -> None:
    np.savez(tmp_path / "ids.npz", input_ids=IDS)
    source = open_data(tmp_path / "ids.npz", (TOKENS, MASK, POSITIONS, *PAST), DataOptions(batch=2))
    first = next(iter(source))
    np.testing.assert_array_equal(first["input_ids"], IDS[:2])
    np.testing.assert_array_equal(first["attention_mask"], np.ones((2, 4), np.int64))
    np.testing.assert_array_equal(first["position_ids"], [[0, 1, 2, 3]] * 2)
    assert [first[spec.name].shape for spec in PAST] == [(2, 2, 0, 8)] * 4
    assert "made: attention_mask, position_ids, an empty cache (4 inputs)" in source.description


def test_tokens_of_another_rank_are_what_is_refused() -> None:
    with pytest.raises(CalibrationError, match="input 'input_ids' has rank 1"):
        open_data({"input_ids": IDS[0]}, (TOKENS, MASK, *PAST), DataOptions())


def test_a_mask_of_the_data_is_kept() -> None:
    masked = np.array([[1, 1, 1, 0]] * 3)
    source = open_data({"input_ids": IDS, "attention_mask": masked}, (TOKENS, MASK, *PAST), DataOptions())
    np.testing.assert_array_equal(next(iter(source))["attention_mask"], masked[:1])


def test_a_past_of_the_data_is_not_completed() -> None:
    record = {"input_ids": IDS, PAST[0].name: np.zeros((3, 2, 5, 8), np.float32)}
    with pytest.raises(CalibrationError, match="nothing for the model input 'attention_mask'"):
        open_data([record], (TOKENS, MASK, *PAST), DataOptions())


def test_other_models_still_need_all_their_inputs() -> None:
    with pytest.raises(CalibrationError, match="nothing for the model input 'attention_mask'"):
        open_data({"input_ids": IDS}, (TOKENS, MASK), DataOptions())


def test_the_tokenizer_beside_a_model_reads_its_texts(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the extra data is not installed")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    (tmp_path / "lm").mkdir()
    words.save(str(tmp_path / "lm" / "tokenizer.json"))
    text = tmp_path / "text.txt"
    text.write_text("a b " * 8)
    options = Reading(sequence_length=4).options(tmp_path / "lm" / "model.onnx")
    feed = next(iter(open_data(text, (TOKENS, MASK, *PAST), options)))
    np.testing.assert_array_equal(feed["input_ids"], [[0, 1, 0, 1]])
    with pytest.raises(CalibrationError, match="a tokenizer is needed"):
        open_data(text, (TOKENS,), Reading().options(tmp_path / "model.onnx"))
