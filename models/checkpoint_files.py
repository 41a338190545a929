"""The files of a Transformers checkpoint, looked at without torch: are all weights there and whole, in which type.

A safetensors file is 8 bytes of header length (little endian), a JSON header with ``dtype``, ``shape`` and
``data_offsets`` of each tensor, and their bytes (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

from qcompiler.errors import ModelError

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

SIDE_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
"""What generating needs beside the model: configurations and the files of a tokenizer."""

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""Any of these is a tokenizer."""

_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def check_weights(directory: Path) -> str | None:
    """The float type that most weights are stored in, e.g. ``"bfloat16"``; None where no file says so.

    Raises:
        ModelError: a shard that the index names is missing, or a safetensors file is cut short or no safetensors.
    """
    for name in INDEXES:
        _check_index(directory / name)
    counted: Counter[str] = Counter()
    for path in sorted(directory.glob("*.safetensors")):
        counted += _read_header(path)
    floats = {name: count for name, count in counted.items() if name in _NAMES}
    return _NAMES[max(floats, key=lambda name: floats[name])] if floats else None


def _check_index(index: Path) -> None:
    if not index.is_file():
        return
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}: not a readable index of shards ({error}); download it again.") from error
    missing = sorted(str(name) for name in shards if not (index.parent / str(name)).is_file())
    if missing:
        raise ModelError(
            f"{index.parent}: {len(missing)} of {len(shards)} weight files are missing ({', '.join(missing[:3])}); "
            "download them there."
        )


def _read_header(path: Path) -> Counter[str]:
    """Elements of each type; ``ModelError`` when the file is not as long as its header says."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 2 <= length <= size - 8 else None
        entries = [entry for name, entry in (header or {}).items() if name != "__metadata__"]
        ends = [int(entry["data_offsets"][1]) for entry in entries]
        counted = Counter[str]()
        for entry in entries:
            counted[str(entry["dtype"])] += math.prod(entry["shape"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{path}: its weights cannot be loaded, no safetensors header; download it again."
        ) from error
    if header is None:
        raise ModelError(
            f"{path}: its weights cannot be loaded, it is cut short or no safetensors; download it again."
        )
    expected = 8 + length + max(ends, default=0)
    if size < expected:
        raise ModelError(
            f"{path}: its weights cannot be loaded, it has {size} bytes where its header says {expected}; download it "
            "again."
        )
    return counted
