"""Generation stops where it must, and does not depend on how the cache is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import OptionError
from qcompiler.language.decoder import Decoder
from qcompiler.language.generation import generate
from qcompiler.language.sampling import Sampling
from tests.qcompiler.language.tiny import Kind, save_tiny

PROMPT = [5, 9, 2, 40]


@pytest.fixture(params=["grouped", "concatenated", "none"])
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Decoder:
    kind: Kind = request.param
    return Decoder(save_tiny(tmp_path / "model.onnx", kind))


def slow_greedy(decoder: Decoder, count: int) -> tuple[int, ...]:
    ids = list(PROMPT)
    for _ in range(count):
        ids.append(int(decoder.logits(np.array([ids]))[0, -1].argmax()))
    return tuple(ids[len(PROMPT) :])


def test_greedy_equals_the_whole_text_each_time(tiny: Decoder) -> None:
    shown: list[int] = []
    found = generate(tiny, PROMPT, Sampling(), max_tokens=12, show=shown.append)
    assert found.tokens == slow_greedy(tiny, 12) == tuple(shown)
    assert (found.stop, found.steps, found.prompt_tokens) == ("max tokens", 11, 4)
    assert found.prefill_s > 0 and found.decode_s > 0  # noqa: PT018
    assert found.decode_rate == pytest.approx(11 / found.decode_s)


def test_draws_repeat_with_their_seed(tiny: Decoder) -> None:
    hot = Sampling(temperature=1.5)
    one, same, other = (generate(tiny, PROMPT, hot, max_tokens=20, seed=seed).tokens for seed in (1, 1, 2))
    assert one == same != other


def test_text_ends_at_its_end_token_which_is_not_part_of_it(tiny: Decoder) -> None:
    expected = slow_greedy(tiny, 6)
    end = expected[-1]
    found = generate(tiny, PROMPT, Sampling(), max_tokens=12, end_of_text=(end,))
    assert found.stop == "end of text"
    assert found.tokens == expected[: expected.index(end)]
    assert found.steps == len(found.tokens)


def test_text_ends_at_the_context(tiny: Decoder) -> None:
    found = generate(tiny, PROMPT, Sampling(), max_tokens=50, context_length=10)
    assert (len(found.tokens), found.stop) == (6, "context length")


def test_one_token_has_no_decode_rate(tiny: Decoder) -> None:
    found = generate(tiny, PROMPT, Sampling(), max_tokens=1)
    assert (found.steps, found.decode_rate) == (0, None)


def test_impossible_prompts_are_refused(tiny: Decoder) -> None:
    with pytest.raises(OptionError, match="no tokens"):
        generate(tiny, [], Sampling(), max_tokens=1)
    with pytest.raises(OptionError, match="context holds 4"):
        generate(tiny, PROMPT, Sampling(), max_tokens=1, context_length=4)
    with pytest.raises(OptionError, match=r"token id 64, but .* knows 64"):
        generate(tiny, [3, 64], Sampling(), max_tokens=1)
