"""Lines below a generated text, a row a score, and feeds with an empty cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.language.perplexity import Score
from qcompiler.report import bench
from qcompiler.report.language import GenerationFacts, eval_facts, generation_lines, print_eval


def facts(**changed: object) -> GenerationFacts:
    made: dict[str, object] = {
        "model": "m.onnx",
        "prompt": "a",
        "text": "b",
        "tokens": (1, 2),
        "stop": "max tokens",
        "prompt_tokens": 10,
        "generated_tokens": 2,
        "prefill_s": 0.5,
        "prefill_tokens_per_s": 20.0,
        "decode_s": 0.1,
        "decode_tokens_per_s": 10.0,
        "cache": "in place",
        "threads": 1,
    }
    return GenerationFacts(**{**made, **changed})  # type: ignore[arg-type]


def test_rates_and_reason_stand_below_the_text() -> None:
    rates, reason = generation_lines(facts())
    assert rates == "prefill 10 tokens, 20.0 tokens/s; decode 2 tokens, 10.0 tokens/s (1 thread)"
    assert reason.startswith("stopped at: max tokens; cache: kept in place")


def test_nothing_decoded_has_no_rate_and_no_cache_is_told() -> None:
    rates, reason = generation_lines(facts(decode_tokens_per_s=None, cache="none", threads=2))
    assert rates == "prefill 10 tokens, 20.0 tokens/s (2 threads)"
    assert "every token computes the whole text again" in reason


def test_scores_of_every_size_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    scores = [Score("text", 100.0, 50, 2, 120, 1.0), Score("bad", 1e6, 10, 1, None, 1.0)]
    print_eval(eval_facts(Path("m.onnx"), "each once", scores, threads=1))
    text, bad = capsys.readouterr().out.splitlines()[2:4]
    assert text.split() == ["text", "7.389", "1.2022", "50", "2", "1.0", "50"]
    assert bad.split() == ["bad", "inf", "10", "1", "1.0", "10"]


def test_bench_counts_inputs_that_are_empty() -> None:
    shapes = {"input_ids": "1x10", "past.0": "1x2x0x8", "past.1": "1x2x0x8", "step": "scalar"}
    assert bench._shapes(shapes) == ["input_ids 1x10", "step scalar", "2 empty inputs"]
    assert bench._shapes({"x": "1x10"}) == ["x 1x10"]
