"""The tokenizer of stories260k: what it encodes it decodes, and merges go by score."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stories import BEGIN, FIRST_BYTE, Tokenizer, calibration_windows, read_tokenizer

_BYTES = [(f"<0x{byte:02X}>".encode(), 0.0) for byte in range(256)]
_PIECES = [(b"<unk>", 0.0), (b"<s>", 0.0), (b"</s>", 0.0), *_BYTES]
_MERGED = [(piece, -float(rank)) for rank, piece in enumerate([b"ab", b" a", b"bc", b"abc"])]
_LETTERS = [(letter.encode(), -100.0) for letter in " abc"]


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """Assets with a tokenizer of our own, two stories to calibrate on and one that is scored."""
    entries = [*_PIECES, *_MERGED, *_LETTERS]
    content = struct.pack("<i", 8)
    content += b"".join(struct.pack("<fi", score, len(piece)) + piece for piece, score in entries)
    folder = tmp_path / "stories260k"
    folder.mkdir()
    (folder / "tok512.bin").write_bytes(content)
    scored = read_tokenizer(folder / "tok512.bin").encode("cab")
    np.savez(folder / "eval_ids.npz", input_ids=np.array([scored]), lengths=np.array([len(scored)]))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "tinystories_sample.txt").write_text("abc\n<|endoftext|>\ncab\n<|endoftext|>\nbca\n")
    return tmp_path


@pytest.fixture
def tokenizer(assets: Path) -> Tokenizer:
    return read_tokenizer(assets / "stories260k" / "tok512.bin")


def test_the_pair_with_the_best_score_is_merged_first(tokenizer: Tokenizer) -> None:
    assert [tokenizer.pieces[token] for token in tokenizer.encode("abc")[1:]] == [b" ", b"abc"]


@pytest.mark.parametrize("text", ["abc", "c ab", "Käse", ""])
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokens[0] == BEGIN
    assert tokenizer.decode(np.array(tokens)) == text


def test_unknown_characters_are_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("é")[-2:] == [FIRST_BYTE + 0xC3, FIRST_BYTE + 0xA9]


def test_scored_stories_never_calibrate(assets: Path, tokenizer: Tokenizer) -> None:
    windows = calibration_windows(assets, count=2, length=3)
    texts = [tokenizer.decode(row) for row in windows]
    assert len(texts) == 2
    assert not any("cab" in text for text in texts)
