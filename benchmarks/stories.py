"""The data of stories260k: its tokenizer, stories to calibrate on, and the perplexity that its float model has.

The tokenizer file (``tok512.bin`` of karpathy/llama2.c) holds, after an int32, for every token a float32 score, an
int32 length, and its bytes.  Encoding merges the pair with the best score until none is left.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

BEGIN = 1
FIRST_BYTE = 3
"""Token of the byte 0; those of the other bytes follow."""

SEPARATOR = "<|endoftext|>"
COMPARED = 80
"""Characters of a story's start by which it is known again."""


@dataclass(frozen=True)
class Tokenizer:
    """Pieces with their scores, by token."""

    pieces: tuple[bytes, ...]
    scores: tuple[float, ...]

    def encode(self, text: str) -> list[int]:
        """Tokens of ``text`` behind the one that begins a story."""
        known = {piece: token for token, piece in enumerate(self.pieces) if token >= FIRST_BYTE + 256}
        tokens: list[int] = []
        for character in f" {text}":
            raw = character.encode()
            tokens += [known[raw]] if raw in known else [FIRST_BYTE + byte for byte in raw]
        while merge := self._best_merge(tokens, known):
            at, token = merge
            tokens[at : at + 2] = [token]
        return [BEGIN, *tokens]

    def decode(self, tokens: Ids) -> str:
        """Text of ``tokens``, without what begins and ends a story."""
        single = range(FIRST_BYTE, FIRST_BYTE + 256)
        parts = [
            bytes([token - FIRST_BYTE]) if token in single else self.pieces[token]
            for token in map(int, tokens)
            if token >= FIRST_BYTE
        ]
        return b"".join(parts).decode(errors="replace").removeprefix(" ")

    def _best_merge(self, tokens: list[int], known: dict[bytes, int]) -> tuple[int, int] | None:
        best: tuple[float, int, int] | None = None
        for at, (left, right) in enumerate(itertools.pairwise(tokens)):
            token = known.get(self.pieces[left] + self.pieces[right])
            if token is not None and (best is None or self.scores[token] > best[0]):
                best = (self.scores[token], at, token)
        return None if best is None else (best[1], best[2])


def read_tokenizer(path: Path) -> Tokenizer:
    """Read ``tok512.bin``."""
    content, at = path.read_bytes(), 4
    pieces, scores = [], []
    while at < len(content):
        score, length = struct.unpack_from("<fi", content, at)
        at += 8 + length
        scores.append(float(score))
        pieces.append(content[at - length : at])
    return Tokenizer(tuple(pieces), tuple(scores))


def calibration_windows(assets: Path, *, count: int, length: int) -> Ids:
    """``[count, length]`` tokens: stories of the sample, one behind the other, without those that are scored.

    Args:
        assets: folder of ``stories260k`` and ``text``.
        count: windows.
        length: tokens of a window; each begins with a story.
    """
    tokenizer = read_tokenizer(assets / "stories260k" / "tok512.bin")
    scored = {start for start in map(_start, _scored_stories(assets, tokenizer)) if start}
    stories = (assets / "text" / "tinystories_sample.txt").read_text("utf-8").split(SEPARATOR)
    windows, window = [], list[int]()
    for story in stories:
        if _start(story) in scored or not story.strip():
            continue
        window += tokenizer.encode(story.strip())
        if len(window) >= length:
            windows.append(window[:length])
            window = []
        if len(windows) == count:
            break
    return np.array(windows, dtype=np.int64)


def _scored_stories(assets: Path, tokenizer: Tokenizer) -> list[str]:
    with np.load(assets / "stories260k" / "eval_ids.npz") as data:
        ids, lengths = data["input_ids"], data["lengths"]
    return [tokenizer.decode(row[:length]) for row, length in zip(ids, lengths, strict=True)]


def _start(story: str) -> str:
    return story.strip()[:COMPARED]
