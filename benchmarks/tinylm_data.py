"""What tinylm is calibrated and scored on: the first 95 % of each text it was trained on, windows of the last 5 %."""

from __future__ import annotations

import pydoc_data.topics
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

TRAINED_SHARE = 0.95
FILES = {
    "tinystories": "tinystories_sample.txt",
    "shakespeare": "tinyshakespeare.txt",
    "wikitext": "wiki.valid.tokens",
}
DOMAINS = (*FILES, "pydoc")


def scored_windows(assets: Path) -> dict[str, Ids]:
    """``[n, 256]`` tokens of every domain, unseen in training."""
    with np.load(assets / "tinylm" / "eval_ids.npz") as data:
        return {domain: data[domain] for domain in DOMAINS}


def calibration_windows(assets: Path, domain: str, *, count: int, length: int) -> Ids:
    """``[count, length]`` tokens, evenly spread over the training part of one domain's text.

    Args:
        assets: folder of ``tinylm`` and ``text``.
        domain: one of ``DOMAINS``, or ``"mixed"`` for as many windows of each.
    """
    if domain == "mixed":
        parts = [
            calibration_windows(assets, each, count=count // len(DOMAINS), length=length) for each in DOMAINS
        ]
        return np.concatenate(parts)
    from tokenizers import Tokenizer

    text = _training_part(_read(assets, domain))
    tokens = np.array(
        Tokenizer.from_file(str(assets / "tinylm" / "hf" / "tokenizer.json")).encode(text).ids, dtype=np.int64
    )
    starts = np.linspace(0, len(tokens) - length, count).astype(np.int64)
    return np.stack([tokens[start : start + length] for start in starts])


def _read(assets: Path, domain: str) -> str:
    if domain == "pydoc":
        return "\n".join(pydoc_data.topics.topics.values())
    return (assets / "text" / FILES[domain]).read_text("utf-8")


def _training_part(text: str) -> str:
    return text[: int(TRAINED_SHARE * len(text))]
