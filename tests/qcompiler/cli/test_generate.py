"""``qcompile generate`` from the command line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.qcompiler.cli.conftest import Qcompile
from tests.qcompiler.language.tiny import Kind, save_folder

pytest.importorskip("tokenizers", reason="tokenizers is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "out")


def test_the_text_goes_to_stdout_and_the_figures_to_stderr(qcompile: Qcompile, folder: Path) -> None:
    ran = qcompile("generate", folder, "--prompt", "the fox", "--max-tokens", "12", "--ignore-eos")
    assert ran.code == 0, ran.err
    assert "prefill 8 tokens" in ran.err
    assert "decode 12 tokens" in ran.err
    assert "in one buffer" in ran.err
    quiet = qcompile("generate", folder, "--prompt", "the fox", "--max-tokens", "12", "--ignore-eos", "-q")
    assert (quiet.out, quiet.err) == (ran.out, "")


@pytest.mark.parametrize(
    ("kind", "cache"), [("grouped", "in place"), ("concatenated", "rebound"), ("none", "none")]
)
def test_as_json(qcompile: Qcompile, tmp_path: Path, kind: Kind, cache: str) -> None:
    folder = save_folder(tmp_path / "out", kind)
    arguments = ("generate", folder, "--prompt", "the fox", "--max-tokens", "12", "--ignore-eos")
    facts = qcompile(*arguments, "--json").document
    assert facts["text"] + "\n" == qcompile(*arguments).out
    assert (facts["prompt"], facts["prompt_tokens"], facts["cache"]) == ("the fox", 8, cache)
    assert len(facts["tokens"]) == facts["generated_tokens"] == 12
    assert facts["stop"] == "max tokens"
    assert facts["prefill_tokens_per_s"] > 0
    assert facts["decode_tokens_per_s"] > 0


def test_a_seed_repeats_a_draw(qcompile: Qcompile, folder: Path) -> None:
    arguments = (
        "generate",
        folder,
        "--prompt",
        "the",
        "--temperature",
        "2",
        "--top-k",
        "40",
        "--ignore-eos",
        "-q",
    )
    one, same, other = (qcompile(*arguments, "--seed", seed).out for seed in ("1", "1", "2"))
    assert one == same != other


def test_the_prompt_comes_from_a_file_or_stdin(
    qcompile: Qcompile, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompt.txt").write_text("the fox")
    arguments = ("generate", folder / "model.onnx", "--max-tokens", "4", "-q")
    wanted = qcompile(*arguments, "--prompt", "the fox").out
    assert qcompile(*arguments, "--prompt-file", tmp_path / "prompt.txt").out == wanted
    monkeypatch.setattr("sys.stdin", io.StringIO("the fox"))
    assert qcompile(*arguments).out == wanted


def test_a_compiled_folder_generates(qcompile: Qcompile, folder: Path, tmp_path: Path) -> None:
    ran = qcompile(
        folder / "model.onnx", "--passes", "int8_dynamic", "--verify", "numerics", "-o", tmp_path / "q"
    )
    assert ran.code == 0, ran.err
    ran = qcompile("generate", tmp_path / "q", "--prompt", "the fox", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["model"].endswith("model.qc.onnx")
    assert ran.document["cache"] == "in place"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--prompt", "a", "--prompt-file", "b"), "either --prompt or --prompt-file"),
        (("--prompt-file", "missing.txt"), "missing.txt cannot be read"),
        (("--prompt", "a", "--seed", "3"), "--seed has no effect"),
        (("--prompt", "a", "--top-p", "0.5"), "no effect on greedy"),
        (("--prompt", "a" * 60), "context holds 48"),
        (("--prompt", "a", "--tokenizer", "nowhere"), "does not exist"),
    ],
)
def test_what_cannot_be_is_one_line(
    qcompile: Qcompile, folder: Path, arguments: tuple[str, ...], told: str
) -> None:
    ran = qcompile("generate", folder, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


def test_a_folder_without_tokenizer_or_model(qcompile: Qcompile, folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    ran = qcompile("generate", folder, "--prompt", "a")
    assert (ran.code, "a tokenizer is needed to read the prompt" in ran.err) == (2, True)
    ran = qcompile("generate", tmp_path / "nowhere", "--prompt", "a")
    assert (ran.code, "does not exist" in ran.err) == (2, True)
