"""Open a local Transformers checkpoint: which class, are all its weights there, one clear error when not."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.errors import InputError, ModelError, OptionError, UnsupportedError, suggest
from qcompiler.models.quiet import without_progress_bars

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TASKS = {
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "text-generation": "AutoModelForCausalLM",
    "image-classification": "AutoModelForImageClassification",
    "image-segmentation": "AutoModelForSemanticSegmentation",
    "depth-estimation": "AutoModelForDepthEstimation",
}
"""Task name of the Hugging Face hub -> the class that serves it."""

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def require_extra() -> None:
    """Raise ``UnsupportedError`` when torch or transformers is not installed."""
    try:
        import torch  # noqa: F401
        import transformers.exporters  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(
            f"export needs torch and transformers >= 5.23 ({error}); install them: pip install 'qcompiler[export]'."
        ) from error


def check_directory(directory: Path) -> dict[str, object]:
    """The parsed ``config.json`` of a checkpoint directory that has weights.

    Raises:
        InputError: not a directory.
        ModelError: no ``config.json``, an unreadable one, or no weights.
    """
    if not directory.is_dir():
        raise InputError(
            f"{directory}: expected a directory with a Transformers checkpoint (config.json and weights)."
        )
    config = directory / "config.json"
    if not config.is_file():
        raise ModelError(
            f"{directory}: no config.json in it; give the directory that save_pretrained() wrote."
        )
    try:
        parsed = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{config}: not readable as JSON ({error}); copy the checkpoint again.") from error
    if not isinstance(parsed, dict):
        raise ModelError(
            f"{config}: expected a JSON object; give the directory that save_pretrained() wrote."
        )
    if not any(any(directory.glob(pattern)) for pattern in _WEIGHTS):
        raise ModelError(
            f"{directory}: no weights in it (*.safetensors or pytorch_model*.bin); download them there."
        )
    return parsed


def load_checkpoint(directory: Path, task: str | None, *, attention: str | None = None) -> PreTrainedModel:
    """The model in float32 and evaluation mode, from local files only and without executing code of the checkpoint.

    Args:
        task: a key of ``TASKS``; None takes the architecture that ``config.json`` names.
        attention: implementation of attention, ``"sdpa"`` or ``"eager"``; None lets Transformers choose.

    Raises:
        ModelError: weights that do not fit the configuration, or a head that the checkpoint has no weights for.
        UnsupportedError: an architecture that the installed Transformers does not know.
    """
    parsed = check_directory(directory)
    if task is not None and task not in TASKS:
        raise OptionError(f"unknown task {task!r}.{suggest(task, TASKS)}")
    require_extra()
    model, info = _open(directory, TASKS[task] if task else architecture(parsed, directory), attention)
    missing = sorted({*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])})
    if missing:
        raise ModelError(
            f"{directory}: the checkpoint has no weights for {len(missing)} parameters of {type(model).__name__} "
            f"({', '.join(missing[:3])}); choose a task that it was trained for, or download it again."
        )
    loaded: PreTrainedModel = model.eval()
    return loaded


def _open(directory: Path, name: str, attention: str | None) -> tuple[Any, dict[str, Any]]:
    """The model of class ``name``, and what Transformers found missing while loading it."""
    import torch

    transformers: Any = import_module("transformers")
    try:
        with without_progress_bars():
            model, info = getattr(transformers, name).from_pretrained(
                directory,
                local_files_only=True,
                dtype=torch.float32,
                attn_implementation=attention,
                output_loading_info=True,
            )
    except (ValueError, KeyError) as error:
        raise UnsupportedError(f"{directory}: {name} cannot open it: {_first_line(error)}") from error
    except Exception as error:  # what a broken weight file raises depends on its format
        if "mismatched_sizes" in str(error):
            raise ModelError(
                f"{directory}: its weights have other shapes than its config.json says; download both again."
            ) from error
        raise ModelError(f"{directory}: its weights cannot be loaded: {_first_line(error)}") from error
    return model, info


def architecture(config: dict[str, object], directory: Path) -> str:
    """Class that ``config.json`` names, else ``AutoModel``; ``UnsupportedError`` when Transformers lacks it."""
    transformers: Any = import_module("transformers")
    known: Any = import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING_NAMES
    kind = config.get("model_type")
    if kind not in known:
        raise UnsupportedError(
            f"{directory}: model_type {kind!r} in config.json is unknown to Transformers {transformers.__version__}."
            f"{suggest(str(kind), known)} Code inside a checkpoint is never executed."
        )
    named = config.get("architectures")
    if not isinstance(named, list) or not named:
        return "AutoModel"
    if not hasattr(transformers, str(named[0])):
        raise UnsupportedError(
            f"{directory}: architecture {named[0]!r} in config.json is unknown to Transformers "
            f"{transformers.__version__}; name a task instead: {', '.join(TASKS)}."
        )
    return str(named[0])


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
