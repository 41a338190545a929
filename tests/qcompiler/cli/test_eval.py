"""``qcompile eval`` from the command line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from qcompiler.models.catalog import PYDOC_LM
from tests.qcompiler.cli.conftest import Qcompile
from tests.qcompiler.language.tiny import VOCABULARY, Kind, save_folder

pytest.importorskip("tokenizers", reason="tokenizers is not installed")

TEXT = "the quick brown fox jumps over the lazy dog. " * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return save_folder(tmp_path / "out")


def test_the_repository_s_model_has_its_figure(qcompile: Qcompile) -> None:
    ran = qcompile("eval", PYDOC_LM.onnx, "--ids", PYDOC_LM.heldout, "--json")
    assert ran.code == 0, ran.err
    (found,) = ran.document["scores"]
    assert found["perplexity"] == pytest.approx(PYDOC_LM.float_metric, rel=1e-4)
    assert f"{found['perplexity']:.3f}" in qcompile("eval", PYDOC_LM.onnx, "--ids", PYDOC_LM.heldout).out


def test_a_text(qcompile: Qcompile, folder: Path, tmp_path: Path) -> None:
    arguments = ("eval", folder, "--text", tmp_path / "text.txt", "--length", "20", "--stride", "10")
    ran = qcompile(*arguments, "--json")
    assert ran.code == 0, ran.err
    (found,) = ran.document["scores"]
    assert found["tokens"] == len(TEXT)  # a byte is a token here, and <s> stands before the first
    assert found["bits_per_byte"] == pytest.approx(math.log2(found["perplexity"]))
    assert "windows of 20 tokens, one every 10" in ran.document["method"]
    assert qcompile(*arguments, "--limit", "2", "--json").document["scores"][0]["windows"] == 2


def test_the_length_is_the_context_unless_said(qcompile: Qcompile, folder: Path, tmp_path: Path) -> None:
    ran = qcompile("eval", folder, "--text", tmp_path / "text.txt", "--json")
    assert "windows of 48 tokens, one every 24" in ran.document["method"]


@pytest.mark.parametrize("kind", ["grouped", "concatenated", "none"])
def test_rows_of_ids(qcompile: Qcompile, tmp_path: Path, kind: Kind) -> None:
    folder = save_folder(tmp_path / "out", kind)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (5, 12))
    np.savez(tmp_path / "ids.npz", one=ids, two=ids[:2])
    scores = qcompile("eval", folder, "--ids", tmp_path / "ids.npz", "--json").document["scores"]
    assert [(item["name"], item["tokens"]) for item in scores] == [("one", 55), ("two", 22)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give either --text"),
        (("--text", "text.txt", "--ids", "ids.npz"), "give either --text"),
        (("--ids", "ids.npz", "--length", "8"), "are for --text"),
        (("--text", "missing.txt"), "missing.txt is no file"),
        (("--text", "text.txt", "--length", "49"), "context of 48"),
        (("--text", "text.txt", "--length", "20", "--stride", "21"), "stride from 1 to the length"),
        (("--text", "short.txt", "--length", "20"), "fewer than one window of 20"),
        (("--ids", "ids.npz"), "token id 64"),
    ],
)
def test_what_cannot_be_is_one_line(
    qcompile: Qcompile,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("short")
    np.savez("ids.npz", input_ids=np.array([[1, VOCABULARY]]))
    ran = qcompile("eval", folder, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert ran.err.count("\n") == 1
