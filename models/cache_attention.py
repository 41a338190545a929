"""Attention with a cache as ONNX Runtime's GroupQueryAttention, put in while Transformers is traced.

Transformers asks a registered function for its attention, after queries and keys are turned by their position.  Ours
hands queries, new keys and values, and the past to one ``com.microsoft::GroupQueryAttention``, which appends to the
cache, masks causally (also within a window), and reads each head of keys for its group of queries without copies.

Row ``b`` of a batch has ``sum(attention_mask[b])`` keys, from the start of its cache on: rows are padded on the right.
Importing this module imports torch and transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import DynamicLayer

NAME = "qcompiler_group_query"

_HARMLESS = {
    "position_ids", "cache_position", "use_cache", "output_attentions", "output_hidden_states", "is_causal",
    "position_embeddings", "past_key_values", "past_key_value", "layer_idx", "return_dict", "block_indices",
}  # fmt: skip
"""Keywords of attention functions that change nothing here, or are looked at by themselves."""


class UnfitError(Exception):
    """Why a model's attention is no GroupQueryAttention."""


@dataclass
class Lengths:
    """What GroupQueryAttention wants to know of one step.

    Attributes:
        last_key: int32 ``[B]``, index of each row's last key after the step.
        total: int32 scalar, length of the longest row after the step.
        width: the same number as a size.
    """

    last_key: torch.Tensor
    total: torch.Tensor
    width: int


class FusedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's past; ``update`` keeps the new keys and values apart for the operator to append."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, lengths: Lengths) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self.lengths = keys, values, lengths
        self.past = (keys, values)
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.new: tuple[torch.Tensor, torch.Tensor] | None = None
        self.present: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The new states as they are."""
        if self.present is not None:
            raise UnfitError("a layer's cache is written twice")
        self.new = (key_states, value_states)
        return self.new

    def get_seq_length(self) -> int:
        """Length of the past, also where it is empty."""
        length: int = self.past[0].shape[-2]
        return length


@dataclass
class _Step:
    layers: list[FusedLayer] = field(default_factory=list)


_STEP = _Step()


@contextmanager
def fused_attention(model: PreTrainedModel) -> Iterator[None]:
    """``model`` computes attention by GroupQueryAttention within; its own implementation comes back afterwards.

    Raises:
        UnfitError: the model does not take its attention from outside.
    """
    AttentionInterface.register(NAME, _attention)
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(NAME)
    except Exception as error:  # what it raises depends on the model
        raise UnfitError("its attention cannot be replaced") from error
    if model.config.get_text_config()._attn_implementation != NAME:
        raise UnfitError("its attention cannot be replaced")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        _STEP.layers = []


def begin_step(layers: list[FusedLayer]) -> None:
    """Attention of layer ``i`` reads and writes ``layers[i]`` from here on."""
    _STEP.layers = layers


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: query ``[B, heads, T, size]``, key and value ``[B, kv_heads, T, size]``.

    Returns:
        ``[B, T, heads, size]`` and no attention weights.
    """
    layer = _layer_of(module, key, value)
    _check(module, query, value, attention_mask, others)
    batch, heads, length, size = query.shape
    attributes: dict[str, Any] = {"num_heads": heads, "kv_num_heads": key.shape[1]}
    if scaling is not None:
        attributes["scale"] = float(scaling)
    if sliding_window is not None:
        attributes["local_window_size"] = int(sliding_window)
    if softcap:
        attributes["softcap"] = float(softcap)
    flat = [states.transpose(1, 2).reshape(batch, length, -1) for states in (query, key, value)]
    sinks = [None] * 4 + [s_aux] if s_aux is not None else []
    lengths = layer.lengths
    cache = (batch, key.shape[1], lengths.width, size)
    result, *present = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::GroupQueryAttention",
        (*flat, *layer.past, lengths.last_key, lengths.total, *sinks),
        attributes,
        dtypes=(query.dtype, key.dtype, value.dtype),
        shapes=((batch, length, heads * size), cache, cache),
        version=1,
    )
    layer.present = (present[0], present[1])
    return result.reshape(batch, length, heads, size), None


def _layer_of(module: torch.nn.Module, key: torch.Tensor, value: torch.Tensor) -> FusedLayer:
    index = getattr(module, "layer_idx", None)
    if not isinstance(index, int) or index >= len(_STEP.layers):
        raise UnfitError("an attention module does not say which layer's cache it has")
    layer = _STEP.layers[index]
    if layer.new is None or layer.new[0] is not key or layer.new[1] is not value:
        raise UnfitError("layers share a cache, or change keys behind it")
    return layer


def _check(
    module: torch.nn.Module,
    query: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    others: dict[str, object],
) -> None:
    if attention_mask is not None:
        raise UnfitError("it adds a bias of its own to the scores (ALiBi or another mask)")
    if not getattr(module, "is_causal", True) or others.get("is_causal") is False:
        raise UnfitError("it attends in both directions")
    if value.shape[-1] != query.shape[-1]:
        raise UnfitError("values have another size than keys")
    unknown = sorted(name for name, given in others.items() if given is not None and name not in _HARMLESS)
    if unknown:
        raise UnfitError(f"its attention takes {', '.join(unknown)}")
