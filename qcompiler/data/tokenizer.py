"""A Hugging Face tokenizer from local files; needs ``tokenizers``, or ``transformers`` for other folder formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.data.optional import load_package
from qcompiler.data.reason import first_line
from qcompiler.errors import CalibrationError
from qcompiler.models.checkpoint_files import TOKENIZERS

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class TextEncoder:
    """Token ids of text.

    Attributes:
        prefix: special tokens before a text ([CLS], <s>), as the tokenizer's own template has them.
        suffix: special tokens after it ([SEP]).
        pad: id that fills a text up to a fixed length.
    """

    tokenizer: Tokenizer
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad: int
    name: str

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` without special tokens."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def wrap(self, ids: list[int]) -> list[int]:
        """Put the special tokens around ``ids``."""
        return [*self.prefix, *ids, *self.suffix]

    def body(self, length: int) -> int:
        """Return how many plain tokens a window of ``length`` holds.

        Raises:
            CalibrationError: none.
        """
        body = length - len(self.prefix) - len(self.suffix)
        if body < 1:
            raise CalibrationError(
                f"--sequence-length {length} leaves no room beside the special tokens. Give a longer one."
            )
        return body


def load_encoder(path: Path | str | None, *, purpose: str) -> TextEncoder:
    """Load ``tokenizer.json``, or a folder that holds a tokenizer; nothing is downloaded.

    Raises:
        CalibrationError: none given, not found, not a tokenizer, or the package is missing.
    """
    if path is None:
        raise CalibrationError(
            f"a tokenizer is needed {purpose}. Give --tokenizer with a tokenizer.json or its folder."
        )
    path = Path(path)
    if not path.exists():
        raise CalibrationError(f"the tokenizer {path} does not exist. Give a tokenizer.json or its folder.")
    file = path / "tokenizer.json" if path.is_dir() else path
    if path.is_dir() and not any((path / name).is_file() for name in TOKENIZERS):
        raise CalibrationError(f"{path} holds no tokenizer. Give a folder with tokenizer.json.")
    tokenizer = _from_file(file) if file.is_file() else _from_folder(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return _with_template(tokenizer, str(path))


def _from_file(file: Path) -> Tokenizer:
    package = load_package("tokenizers", purpose=f"to read {file}")
    try:
        tokenizer: Tokenizer = package.Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises bare Exception
        reason = first_line(error)
        raise CalibrationError(f"{file} is not a tokenizer ({reason}). Give a tokenizer.json.") from error
    return tokenizer


def _from_folder(folder: Path) -> Tokenizer:
    package = load_package(
        "transformers", purpose=f"to read the tokenizer of {folder}, which has no tokenizer.json"
    )
    try:
        loaded = package.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer: Tokenizer = loaded.backend_tokenizer
    except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:
        reason = first_line(error)
        raise CalibrationError(
            f"{folder} holds no usable tokenizer ({reason}). Give a folder with tokenizer.json."
        ) from error
    return tokenizer


def _with_template(tokenizer: Tokenizer, name: str) -> TextEncoder:
    """Learn the special tokens from how the tokenizer wraps an ordinary word."""
    encoding = tokenizer.encode("a")
    special, ids = encoding.special_tokens_mask, encoding.ids
    before = next((i for i, flag in enumerate(special) if not flag), len(ids))
    after = next((i for i, flag in enumerate(reversed(special)) if not flag), 0)
    pads = (tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>", "<|endoftext|>", "</s>"))
    pad = next((pad for pad in pads if pad is not None), 0)
    return TextEncoder(tokenizer, tuple(ids[:before]), tuple(ids[len(ids) - after :]), pad, name)
