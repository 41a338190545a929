"""Text out of tokens as they come.

A token may hold part of a character (byte-level BPE) and its spaces depend on its neighbours, so text is the
difference between two decodings that begin at the same token, held back while it ends in an incomplete character.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_INCOMPLETE = "�"
_CONTEXT = 6
"""Tokens of the prompt that the first decoding begins with: enough to hold a character of four bytes."""


class TextStream:
    """Turns ids into text, piece by piece; the pieces joined are the whole text, special tokens left out."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt[-_CONTEXT:])
        self._shown = self._decode()

    def add(self, token: int) -> str:
        """Return the text that ``token`` completes; empty while a character is incomplete."""
        self._ids.append(token)
        text = self._decode()
        certain = text.rstrip(_INCOMPLETE)
        piece = certain[len(self._shown) :]
        if certain == text:
            self._ids = self._ids[-_CONTEXT:]
            certain = self._decode()
        self._shown = certain
        return piece

    def finish(self) -> str:
        """Return what was held back; an incomplete character shows as U+FFFD."""
        text = self._decode()
        return text[len(self._shown) :]

    def _decode(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
