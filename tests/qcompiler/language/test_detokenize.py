"""Pieces of a streamed text joined are the text decoded at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.language.detokenize import TextStream
from tests.qcompiler.language.tiny import save_tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")


def byte_tokenizer() -> Any:
    """Byte-level BPE without merges: every byte is a token, most characters are several."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


BYTES = byte_tokenizer()


@given(st.text(max_size=20), st.text(max_size=20))
def test_pieces_make_up_the_text(prompt: str, text: str) -> None:
    stream = TextStream(BYTES, BYTES.encode(prompt).ids)
    pieces = [stream.add(token) for token in BYTES.encode(text).ids]
    assert "".join([*pieces, stream.finish()]) == text


@given(st.lists(st.integers(0, 255), max_size=40))
def test_pieces_make_up_what_is_no_text(tokens: list[int]) -> None:
    """Bytes that are no UTF-8, as an untrained model makes them, show as the decoder shows them."""
    stream = TextStream(BYTES, [])
    assert "".join([*map(stream.add, tokens), stream.finish()]) == BYTES.decode(tokens)


def test_nothing_is_shown_before_a_character_is_whole() -> None:
    tokens = BYTES.encode("a€b").ids
    stream = TextStream(BYTES, [])
    assert [stream.add(token) for token in tokens] == ["a", "", "", "€", "b"]
    assert stream.finish() == ""


def test_special_tokens_are_left_out(tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(save_tokenizer(tmp_path)))
    stream = TextStream(tokenizer, tokenizer.encode("ab").ids)
    assert [stream.add(token) for token in (*tokenizer.encode("c").ids, 1)] == ["", "c", ""]


def test_spaces_between_pieces_of_sentencepiece_stay() -> None:
    """Its decoder drops the first space of a text, which must not be that of a later token."""
    vocabulary = {"<unk>": 0, "▁once": 1, "▁upon": 2, "▁a": 3}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    stream = TextStream(tokenizer, [1])
    assert [stream.add(2), stream.add(3)] == [" upon", " a"]
