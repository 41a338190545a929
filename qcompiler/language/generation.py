"""Generating: prefill, then one token at a time, timed apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qcompiler.errors import OptionError
from qcompiler.language.decoder import Decoder
from qcompiler.language.sampling import Sampling

Stop = Literal["end of text", "max tokens", "context length"]


@dataclass(frozen=True)
class Generation:
    """What was generated and how long it took; the time of showing it is not counted.

    Attributes:
        tokens: ids without the one that ended the text.
        prompt_tokens: length of the prompt.
        steps: runs of one token each, after the prompt's.
        prefill_s, decode_s: seconds in the prompt's run and in all of ``steps``, choosing tokens included.
        stop: why it ended.
    """

    tokens: tuple[int, ...]
    prompt_tokens: int
    steps: int
    prefill_s: float
    decode_s: float
    stop: Stop

    @property
    def prefill_rate(self) -> float:
        """Tokens of the prompt a second."""
        return self.prompt_tokens / self.prefill_s

    @property
    def decode_rate(self) -> float | None:
        """Generated tokens a second after the first; None where there were none."""
        return self.steps / self.decode_s if self.steps else None


def generate(
    decoder: Decoder,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    max_tokens: int,
    end_of_text: Collection[int] = (),
    context_length: int | None = None,
    seed: int = 0,
    show: Callable[[int], None] = lambda token: None,
) -> Generation:
    """Generate what follows ``prompt``.

    Args:
        prompt: token ids, special tokens included.
        max_tokens: stop after as many.
        end_of_text: ids that end the text.
        context_length: the most tokens that prompt and text may have together.
        seed: of the draws; greedy decoding draws nothing.
        show: called with every id as it comes.

    Raises:
        OptionError: an empty prompt, one that leaves no room, or one with an id that the model does not have.
        UnsupportedError, ModelError: the graph cannot run it.
    """
    room = _room(len(prompt), max_tokens, context_length)
    vocabulary = decoder.signature.vocabulary
    if vocabulary is not None and max(prompt) >= vocabulary:
        raise OptionError(
            f"the prompt has the token id {max(prompt)}, but {decoder.model} knows {vocabulary}; give a prompt "
            "without that token, or the tokenizer that the model was trained with (--tokenizer)."
        )
    generator = np.random.default_rng(seed)
    text = decoder.start(len(prompt) + room)
    tokens: list[int] = []
    new, prefill_s, decode_s = list(prompt), 0.0, 0.0
    stop: Stop = "max tokens" if room == max_tokens else "context length"
    while len(tokens) < room:
        started = time.perf_counter()
        logits = text.extend(np.array([new], np.int64))[0]
        token = sampling.choose(logits, generator)
        seconds = time.perf_counter() - started
        prefill_s, decode_s = (prefill_s, decode_s + seconds) if prefill_s else (seconds, 0.0)
        if token in end_of_text:
            stop = "end of text"
            break
        tokens.append(token)
        new = [token]
        show(token)
    steps = len(tokens) - (stop != "end of text")
    return Generation(tuple(tokens), len(prompt), steps, prefill_s, decode_s, stop)


def _room(prompt: int, max_tokens: int, context_length: int | None) -> int:
    if prompt == 0:
        raise OptionError("the prompt has no tokens, expected at least one; give --prompt with a text.")
    if max_tokens < 1:
        raise OptionError(f"--max-tokens {max_tokens} must be 1 or more.")
    if context_length is None:
        return max_tokens
    if prompt >= context_length:
        raise OptionError(
            f"the prompt has {prompt} tokens, but the model's context holds {context_length} with at least one "
            "generated; give a shorter prompt."
        )
    return min(max_tokens, context_length - prompt)
