"""Perplexity against a slow reference, and windows that count every token once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.data.tokenizer import TextEncoder, load_encoder
from qcompiler.errors import CalibrationError, OptionError, UnsupportedError
from qcompiler.language.decoder import Decoder
from qcompiler.language.perplexity import check_ids, score, token_nats
from qcompiler.language.windows import Task, Window, ids_tasks, sliding, text_task
from qcompiler.models.catalog import PYDOC_LM
from tests.qcompiler.language.tiny import VOCABULARY, Kind, save_tiny, save_tokenizer

TEXT = "the quick brown fox jumps over the lazy dog. " * 4


@pytest.fixture(params=["grouped", "none"])
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Decoder:
    kind: Kind = request.param
    return Decoder(save_tiny(tmp_path / "model.onnx", kind))


def slow_nats(decoder: Decoder, context: np.ndarray, token: int) -> float:
    logits = decoder.logits(context[None])[0, -1].astype(np.float64)
    return float(np.log(np.sum(np.exp(logits))) - logits[token])


@given(st.integers(2, 200), st.integers(2, 40), st.data())
def test_every_token_counts_once_with_enough_before_it(count: int, length: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, length))
    windows = list(sliding(count, length, stride))
    counted = [position for _, end, first in windows for position in range(first, end)]
    if stride < length:
        assert counted == list(range(1, count))
    else:
        assert counted == [position for position in range(count) if position % length]
    for start, end, first in windows:
        assert start < first < end <= min(start + length, count)
        assert first - start >= min(length - stride, first)


@pytest.mark.parametrize("batch", [1, 3, None])
def test_score_is_the_mean_over_counted_tokens(tiny: Decoder, batch: int | None) -> None:
    ids = np.random.default_rng(3).integers(0, VOCABULARY, 40)
    windows = [Window(ids[start:end], first - start) for start, end, first in sliding(40, 16, 6)]
    found = score(tiny, Task("ids", windows), batch=batch)
    slow = [
        slow_nats(tiny, ids[start:position], int(ids[position]))
        for start, end, first in sliding(40, 16, 6)
        for position in range(first, end)
    ]
    assert found.tokens == len(slow) == 39
    # float32 logits of other lengths differ by roundings of 1e-6 each
    assert found.perplexity == pytest.approx(math.exp(np.mean(slow)), rel=1e-5)


def test_long_windows_are_summed_in_pieces(tiny: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task("ids", [Window(np.random.default_rng(3).integers(0, VOCABULARY, 40), 1)])
    whole = score(tiny, task).nats
    monkeypatch.setattr("qcompiler.language.perplexity._POSITIONS", 7)
    assert score(tiny, task).nats == pytest.approx(
        whole, rel=1e-12
    )  # the same float64 terms in another order


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[1e4, 0.0], [0.0, 6e4]], np.float32)
    np.testing.assert_array_equal(token_nats(logits, np.array([0, 0])), [0, 6e4])


def test_perplexity_that_no_float_holds_is_infinite(tiny: Decoder) -> None:
    from qcompiler.language.perplexity import Score

    assert Score("x", 1e6, 10, 1, None, 1.0).perplexity == math.inf


def test_the_repository_s_model_has_its_figure() -> None:
    (task,) = ids_tasks(PYDOC_LM.heldout)
    assert score(Decoder(PYDOC_LM.onnx), task).perplexity == pytest.approx(PYDOC_LM.float_metric, rel=1e-4)


@pytest.mark.parametrize("stride", [8, 20])
def test_windows_of_a_text(tmp_path: Path, stride: int) -> None:
    """The special token stands once, before the text; bytes are those of the tokens that count."""
    encoder = load_encoder(save_tokenizer(tmp_path), purpose="")
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    task = text_task(file, encoder, length=20, stride=stride)
    assert task.windows[0].ids[0] == 0
    predicted = sum(window.predicted for window in task.windows)
    if stride == 8:
        assert predicted == task.bytes_scored == len(TEXT)  # a byte is a token here
    else:
        assert predicted == task.bytes_scored == len(TEXT) - (len(TEXT) + 1 - 1) // 20
    assert len(text_task(file, encoder, length=20, stride=stride, limit=2).windows) == 2


def test_bits_a_byte_do_not_depend_on_the_tokens(tiny: Decoder, tmp_path: Path) -> None:
    encoder = load_encoder(save_tokenizer(tmp_path), purpose="")
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    found = score(tiny, text_task(file, encoder, length=20, stride=10))
    assert found.bits_per_byte == pytest.approx(math.log2(found.perplexity))  # a byte is a token here


def test_short_text_and_impossible_windows_are_refused(tmp_path: Path) -> None:
    encoder = load_encoder(save_tokenizer(tmp_path), purpose="")
    file = tmp_path / "text.txt"
    file.write_text("short", encoding="utf-8")
    with pytest.raises(CalibrationError, match="6 tokens, fewer than one window of 7"):
        text_task(file, encoder, length=7, stride=1)
    with pytest.raises(OptionError, match="stride"):
        text_task(file, encoder, length=4, stride=5)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="not UTF-8"):
        text_task(file, encoder, length=4, stride=2)


def test_rows_are_cut_to_their_lengths(tmp_path: Path) -> None:
    ids = np.arange(20).reshape(2, 10)
    np.savez(tmp_path / "ids.npz", input_ids=ids, lengths=[4, 10])
    (task,) = ids_tasks(tmp_path / "ids.npz")
    assert [window.ids.tolist() for window in task.windows] == [[0, 1, 2, 3], list(range(10, 20))]
    assert [window.predicted for window in task.windows] == [3, 9]
    (task,) = ids_tasks(tmp_path / "ids.npz", limit=1)
    assert len(task.windows) == 1


def test_arrays_of_other_names_are_a_task_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "ids.npz", one=np.ones((2, 3), np.int32), two=np.ones((1, 5), np.uint8))
    assert [(task.name, len(task.windows)) for task in ids_tasks(tmp_path / "ids.npz")] == [
        ("one", 2),
        ("two", 1),
    ]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"input_ids": np.ones((2, 3))}, "expected integers"),
        ({"input_ids": np.ones(3, int)}, "expected integers"),
        ({"input_ids": np.ones((2, 3), int), "extra": np.ones(2)}, "extra beside input_ids"),
        ({"input_ids": np.ones((2, 3), int), "lengths": np.array([1, 3])}, "at least 2"),
        ({"input_ids": np.ones((2, 3), int), "lengths": np.array([2, 4])}, "no more than there are"),
        ({"input_ids": np.ones((2, 3), int), "lengths": np.array([2.0, 3.0])}, "one a row"),
        ({"lengths": np.array([2])}, "no input_ids"),
        ({}, "no array"),
    ],
)
def test_other_archives_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], told: str) -> None:
    np.savez(tmp_path / "ids.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match=told):
        ids_tasks(tmp_path / "ids.npz")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"no archive", b"PK\x03\x04broken"):
        (tmp_path / "ids.npz").write_bytes(content)
        with pytest.raises(CalibrationError, match=r"no \.npz of token ids"):
            ids_tasks(tmp_path / "ids.npz")


def test_ids_that_the_model_does_not_have_are_refused(tiny: Decoder) -> None:
    for wrong in (VOCABULARY, -1):
        task = Task("ids", [Window(np.array([1, wrong]), 1)])
        with pytest.raises(CalibrationError, match=f"token id {wrong}"):
            score(tiny, task)


def test_rows_longer_than_the_context_are_refused() -> None:
    task = Task("ids", [Window(np.zeros(9, np.int64), 1)])
    check_ids(task, None, 9)
    with pytest.raises(CalibrationError, match="rows of 9 tokens, but the model's context holds 8"):
        check_ids(task, None, 8)


def test_what_holds_nul_characters_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "nul.txt").write_bytes(bytes(100))
    with pytest.raises(CalibrationError, match="it is no text"):
        text_task(tmp_path / "nul.txt", cast(TextEncoder, None), length=4, stride=4)


def test_windows_that_a_fixed_graph_does_not_take_are_refused(tmp_path: Path) -> None:
    import onnx_ir as ir

    path = save_tiny(tmp_path / "model.onnx", "none")
    model = ir.load(path)
    model.graph.inputs[0].shape = ir.Shape([2, 8])
    ir.save(model, path)
    fixed = Decoder(path)
    ids = np.random.default_rng(3).integers(0, VOCABULARY, 8)
    assert score(fixed, Task("ids", [Window(ids, 1)] * 3)).tokens == 21
    with pytest.raises(UnsupportedError, match="2 x 8 only"):
        score(fixed, Task("ids", [Window(np.tile(ids, 2), 1)]))
    with pytest.raises(UnsupportedError, match="2 x 8 only"):
        score(fixed, Task("ids", [Window(ids, 1)] * 3), batch=3)
