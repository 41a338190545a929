"""Compare an exported decoder with torch: prefill, decode token by token, and the tokens that greedy search takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qcompiler.errors import VerificationError
from qcompiler.models.export_inputs import longest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from qcompiler.models.cache_graph import CacheShape

Array = npt.NDArray[np.generic]

BATCH, PROMPT, NEW = 2, 11, 16
"""Rows, prompt tokens and new tokens of the comparison."""


@dataclass(frozen=True)
class Expectation:
    """Torch's own logits ``[B, T, V]`` of tokens ``[B, T]``, of which all behind the prompt were chosen greedily."""

    tokens: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]
    prompt: int
    shape: CacheShape

    @staticmethod
    def of(model: PreTrainedModel, shape: CacheShape) -> Expectation:
        """Run ``model`` with its own cache and attention."""
        import torch

        room = max(2, longest(model))
        prompt = max(1, min(PROMPT, room - NEW))
        vocabulary = int(model.config.get_text_config().vocab_size)
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randint(0, vocabulary, (BATCH, prompt), generator=generator)
        given, parts, cache = tokens, [], None
        with torch.no_grad():
            for _ in range(min(NEW, room - prompt)):
                result = model(input_ids=given, past_key_values=cache, use_cache=True)
                cache = result.past_key_values
                parts.append(result.logits)
                given = result.logits[:, -1:].argmax(-1)
                tokens = torch.cat([tokens, given], dim=1)
        logits = torch.cat(parts, dim=1).numpy()
        return Expectation(tokens[:, : logits.shape[1]].numpy(), logits, prompt, shape)


def compare(path: Path, expected: Expectation, tolerance: float) -> tuple[float, int]:
    """Largest absolute error of the logits in prefill and decode, and the number of greedy tokens that agree.

    Raises:
        VerificationError: the model does not run, or is off by more than ``tolerance`` of the largest logit, or
            takes another token where torch's choice is clear by more than that.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is told once, by the error below
    limit = tolerance * max(1.0, float(np.abs(expected.logits).max(initial=0.0)))
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        stepped = _run(session, expected, [expected.prompt] + [1] * (_length(expected) - expected.prompt))
        whole = _run(session, expected, [_length(expected)])
        chunks = _run(session, _first_row(expected), [expected.prompt, _length(expected) - expected.prompt])
    except Exception as problem:  # ONNX Runtime's errors share no base class
        reason = str(problem).splitlines()[0][:300]
        raise VerificationError(f"the exported model does not run: {reason}; try another opset.") from problem
    errors = [
        float(np.abs(stepped - expected.logits).max()),
        float(np.abs(whole - expected.logits).max()),
        float(np.abs(chunks - expected.logits[:1]).max()),
    ]
    error = max(errors) if all(np.isfinite(errors)) else float("nan")
    if not error <= limit:
        raise VerificationError(
            f"exported logits differ from torch by {error:.3g}, accepted is {limit:.3g}; nothing written. Try another "
            "opset, or --attention plain."
        )
    return error, _agreeing(stepped, expected, limit)


def _length(expected: Expectation) -> int:
    return int(expected.tokens.shape[1])


def _first_row(expected: Expectation) -> Expectation:
    return Expectation(expected.tokens[:1], expected.logits[:1], expected.prompt, expected.shape)


def _run(session: object, expected: Expectation, lengths: list[int]) -> npt.NDArray[np.float32]:
    """Logits of all tokens, given in pieces of ``lengths``, the cache handed on between them."""
    batch = len(expected.tokens)
    past = {
        f"past_key_values.{index}.{part}": tensor.numpy()
        for index, layer in enumerate(expected.shape.empty(batch, 0))
        for part, tensor in layer.items()
    }
    parts, start = [], 0
    for length in (length for length in lengths if length):
        end = start + length
        feeds = {
            "input_ids": expected.tokens[:, start:end],
            "attention_mask": np.ones((batch, end), np.int64),
            **past,
        }
        names = ["logits", *(name.replace("past_key_values", "present") for name in past)]
        logits, *present = session.run(names, feeds)  # type: ignore[attr-defined]
        past = dict(zip(past, present, strict=True))
        parts.append(logits)
        start = end
    return np.concatenate(parts, axis=1)


def _agreeing(actual: npt.NDArray[np.float32], expected: Expectation, limit: float) -> int:
    """How many greedy tokens agree; a choice that torch makes by less than ``limit`` may differ."""
    mine, theirs = actual.argmax(-1), expected.logits.argmax(-1)
    chosen = np.take_along_axis(expected.logits, mine[..., None], -1)[..., 0]
    clear = expected.logits.max(-1) - chosen > 2 * limit
    if clear.any():
        raise VerificationError(
            "greedy search takes another token than torch; nothing written. Try another opset."
        )
    return int((mine == theirs)[:, expected.prompt - 1 :].sum())
