"""Text through a tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.data import (
    DataOptions,
    open_data,
)
from qcompiler.errors import CalibrationError
from tests.qcompiler.data.specs import IDS


def test_text_becomes_windows(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "t.txt").write_text("a b " * 10)
    feeds = open_data(tmp_path / "t.txt", IDS, DataOptions(batch=2, tokenizer=tokenizer, length=4))
    arrays = [feed["input_ids"] for feed in feeds]
    assert [array.shape for array in arrays] == [(2, 4), (2, 4), (1, 4)]
    assert arrays[0][0].tolist() == [0, 1, 0, 1]


def test_jsonl_texts_keep_their_lengths(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a b"}\n{"text": "b"}\n')
    feeds = list(open_data(tmp_path / "t.jsonl", IDS, DataOptions(tokenizer=tokenizer)))
    assert [feed["input_ids"].tolist() for feed in feeds] == [[[0, 1]], [[1]]]


def test_text_of_nul_characters_is_none(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "t.txt").write_bytes(bytes(5000))
    with pytest.raises(CalibrationError, match="it is no text"):
        open_data(tmp_path / "t.txt", IDS, DataOptions(tokenizer=tokenizer))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "t.txt").write_bytes("a b ä ".encode("latin-1") * 10)
    with pytest.raises(CalibrationError, match="not UTF-8"):
        open_data(tmp_path / "t.txt", IDS, DataOptions(tokenizer=tokenizer, length=2))


def test_a_text_shorter_than_a_window_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "t.txt").write_text("a b")
    with pytest.raises(CalibrationError, match="fewer than one window"):
        open_data(tmp_path / "t.txt", IDS, DataOptions(tokenizer=tokenizer, length=4))


def test_the_first_windows_are_taken_of_a_text(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "t.txt").write_text("a a " + "b b " * 10)
    feeds = open_data(tmp_path / "t.txt", IDS, DataOptions(tokenizer=tokenizer, length=2, limit=2))
    assert [feed["input_ids"].tolist() for feed in feeds] == [[[0, 0]], [[1, 1]]]
