"""A language-model folder: which file is the model, what its cache is called, where its texts end.

The folder is what ``qcompile export`` writes and ``onnxruntime-genai`` opens: a model, ``genai_config.json``,
``config.json``, ``generation_config.json`` and the files of a tokenizer. Everything but the model may be missing;
what then cannot be done is an error where it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.errors import ModelError
from qcompiler.models.checkpoint_files import TOKENIZERS
from qcompiler.package.deployed import models_in

if TYPE_CHECKING:
    from qcompiler.data.tokenizer import TextEncoder

GENAI_CONFIG, CONFIG, GENERATION_CONFIG = "genai_config.json", "config.json", "generation_config.json"


@dataclass(frozen=True)
class LanguageFolder:
    """What a folder says about its model.

    Attributes:
        model: the ``.onnx`` file, or the index of a model compiled to native code.
        tokenizer: the folder or file of the tokenizer, None where there is none.
        end_of_text: token ids after which a text is over.
        context_length: the most tokens that a text may have, None where no file says so.
    """

    model: Path
    tokenizer: Path | None
    end_of_text: tuple[int, ...]
    context_length: int | None

    def encoder(self, *, purpose: str, vocabulary: int | None) -> TextEncoder:
        """Load the tokenizer.

        Args:
            purpose: why it is needed, for the message.
            vocabulary: how many ids the model's logits have, None where unknown.

        Raises:
            CalibrationError: there is none, or it cannot be read.
            ModelError: it has ids that the model does not know.
        """
        from qcompiler.data.tokenizer import load_encoder

        encoder = load_encoder(self.tokenizer, purpose=purpose)
        size = encoder.tokenizer.get_vocab_size(with_added_tokens=False)  # those may stand for pictures
        if vocabulary is not None and size > vocabulary:
            raise ModelError(
                f"the tokenizer {self.tokenizer} has {size} tokens, but {self.model} knows {vocabulary}; "
                "give the tokenizer that the model was trained with (--tokenizer)."
            )
        return encoder


def open_folder(path: str | Path, *, tokenizer: str | Path | None = None) -> LanguageFolder:
    """Look into a language-model folder, or beside an ``.onnx`` file.

    Args:
        path: the folder, or the model file itself.
        tokenizer: instead of the folder's own.

    Raises:
        ModelError: no model, several and nothing that says which, or a configuration that is no JSON object.
    """
    path = Path(path)
    if not path.exists():
        raise ModelError(f"{path} does not exist; give a language-model folder or an .onnx file.")
    folder = path if path.is_dir() else path.parent
    genai = _section(_read(folder / GENAI_CONFIG), "model")
    model = _model_file(folder, genai) if path.is_dir() else path
    config, generation = _read(folder / CONFIG), _read(folder / GENERATION_CONFIG)
    own = folder if any((folder / name).is_file() for name in TOKENIZERS) else None
    return LanguageFolder(
        model=model,
        tokenizer=own if tokenizer is None else Path(tokenizer),
        end_of_text=_token_ids(generation, genai, config),
        context_length=_context_length(config, genai),
    )


def _model_file(folder: Path, genai: Mapping[str, object]) -> Path:
    """The file that ``genai_config.json`` names, else the only ``.onnx`` file."""
    named = _section(genai, "decoder").get("filename")
    if isinstance(named, str):
        if not (folder / named).is_file():
            raise ModelError(
                f"{folder / GENAI_CONFIG} names {named}, which is not there; export or compile the model again."
            )
        return folder / named
    found = models_in(folder)
    if not found:
        raise ModelError(
            f"{folder} holds no .onnx model; make one with `qcompile export CHECKPOINT -o {folder}`."
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ModelError(f"{folder} holds several models ({names}); give the path of one.")
    return found[0]


def _token_ids(*configs: Mapping[str, object]) -> tuple[int, ...]:
    """``eos_token_id`` of the first configuration that has one: a number or a list of them."""
    for config in configs:
        found = config.get("eos_token_id")
        ids = found if isinstance(found, list) else [found]
        numbers = tuple(item for item in ids if isinstance(item, int) and item >= 0)
        if numbers:
            return numbers
    return ()


def _context_length(config: Mapping[str, object], genai: Mapping[str, object]) -> int | None:
    text = _section(config, "text_config")
    candidates: Iterable[object] = (
        text.get("max_position_embeddings"),
        config.get("max_position_embeddings"),
        config.get("n_positions"),
        genai.get("context_length"),
    )
    return next((item for item in candidates if isinstance(item, int) and item > 0), None)


def _section(config: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> Mapping[str, object]:
    """The JSON object in ``path``; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); mend it or delete it.") from error
    if not isinstance(parsed, dict):
        raise ModelError(f"{path} holds no JSON object; mend it or delete it.")
    return parsed
