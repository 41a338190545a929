"""Example inputs for a Transformers model, made from its own configuration and forward signature."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.errors import ModelError, OptionError, UnsupportedError, suggest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Axes = dict[str, dict[int, str]]

_TEXT = ("input_ids", "attention_mask", "token_type_ids")
_TEXT_AXES = {0: "batch", 1: "sequence"}
_IMAGE_AXES = {0: "batch"}


def input_names(model: PreTrainedModel, wanted: Sequence[str] | None) -> list[str]:
    """Which inputs of ``forward`` the graph gets.

    Args:
        wanted: what the user asked for; None takes what a processor would feed: tokens with their mask (and
            segment ids where the model has more than one segment), or pixels.

    Raises:
        UnsupportedError: a model that needs other modalities, or an encoder and a decoder.
        OptionError: ``wanted`` names an input that ``forward`` does not take or that cannot be made here.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedError(
            f"{type(model).__name__} is an encoder with a decoder, which needs two graphs; export a single encoder "
            "or decoder checkpoint."
        )
    main = model.main_input_name
    if main not in ("input_ids", "pixel_values"):
        raise UnsupportedError(
            f"{type(model).__name__} takes {main!r}; export serves models of tokens (input_ids) or pictures "
            "(pixel_values)."
        )
    modalities = model.input_modalities
    if not isinstance(modalities, str) and len(modalities) > 1:
        raise UnsupportedError(
            f"{type(model).__name__} takes {' and '.join(modalities)} together; save and export one of its towers."
        )
    accepted = set(inspect.signature(model.forward).parameters)
    possible = [name for name in (*_TEXT, "pixel_values") if name in accepted]
    if wanted is not None:
        for name in wanted:
            if name not in possible:
                raise OptionError(f"{type(model).__name__} has no input {name!r}.{suggest(name, possible)}")
        return [name for name in possible if name in wanted]
    if main == "pixel_values":
        return ["pixel_values"]
    segments = getattr(model.config, "type_vocab_size", 0) or 0
    return [name for name in possible if name in _TEXT and (name != "token_type_ids" or segments > 1)]


def dynamic_axes(names: Sequence[str]) -> Axes:
    """Axis numbers and names that stay free in the graph: batch everywhere, sequence for tokens."""
    return {name: dict(_IMAGE_AXES if name == "pixel_values" else _TEXT_AXES) for name in names}


def sample_inputs(
    model: PreTrainedModel,
    names: Sequence[str],
    *,
    image_size: tuple[int, int],
    batch: int,
    length: int,
    seed: int,
) -> dict[str, torch.Tensor]:
    """Random tokens or pixels; the second row of a mask hides its last quarter, as padding does.

    Returns:
        ``input_ids``, ``attention_mask``, ``token_type_ids``: int64 ``[batch, length]``;
        ``pixel_values``: float32 ``[batch, channels, height, width]`` with zero mean and unit variance.
    """
    import torch

    config = model.config.get_text_config() if "input_ids" in names else model.config
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, length)
    made: dict[str, torch.Tensor] = {}
    for name in names:
        if name == "pixel_values":
            channels = getattr(config, "num_channels", 3)
            made[name] = torch.randn((batch, channels, *image_size), generator=generator)
        elif name == "attention_mask":
            made[name] = torch.ones(shape, dtype=torch.int64)
            made[name][1:2, length - length // 4 :] = 0
        else:
            made[name] = _tokens(name, config, shape, generator)
    return made


def _tokens(name: str, config: object, shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Random ids that a model can embed: the padding id, which some models treat apart, is left out."""
    import torch

    count = int(getattr(config, "vocab_size" if name == "input_ids" else "type_vocab_size"))
    ids = torch.randint(0, count, shape, generator=generator)
    padding = getattr(config, "pad_token_id", None)
    if name == "input_ids" and padding is not None and count > 1:
        ids[ids == padding] = (padding + 1) % count
    return ids


def longest(model: PreTrainedModel) -> int:
    """Tokens the model surely takes; a large number where its configuration names no limit.

    Models of the RoBERTa family count positions from ``pad_token_id + 1``, so that much is left free.
    """
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    return int(limit) - (getattr(config, "pad_token_id", None) or 0) - 1 if limit else 1 << 20


def image_size(model: PreTrainedModel, directory: Path) -> tuple[int, int]:
    """Height and width in pixels: from ``preprocessor_config.json``, else the model's own configuration.

    Raises:
        UnsupportedError: neither states a size.
    """
    for candidate in (_processor_size(directory), getattr(model.config, "image_size", None)):
        if isinstance(candidate, int):
            return candidate, candidate
        if isinstance(candidate, list | tuple) and len(candidate) == 2:
            return int(candidate[0]), int(candidate[1])
    raise UnsupportedError(
        f"{directory}: neither preprocessor_config.json nor config.json states the picture size; pass it (picture)."
    )


def _processor_size(directory: Path) -> tuple[int, int] | None:
    path = directory / "preprocessor_config.json"
    if not path.is_file():
        return None
    try:
        processor = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable as JSON ({error}); copy the checkpoint again.") from error
    crop = processor.get("crop_size") if processor.get("do_center_crop") else None
    size = crop or processor.get("size")
    if isinstance(size, int):
        return size, size
    if not isinstance(size, dict):
        return None
    edge = size.get("shortest_edge")
    height, width = size.get("height", edge), size.get("width", edge)
    return (int(height), int(width)) if height and width else None
