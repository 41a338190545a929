"""Which k-quant a tensor of a language model gets in a mix: more bits where errors cost most.

The rule of llama.cpp's Q4_K_M (``llama_tensor_get_type_impl`` and its ``use_more_bits`` in src/llama-quant.cpp, read
at commit 007dbbf3): everything in q4_k, the output head (or the embedding that serves as one) and half of the value
projections, a fused query-key-value one included, and of the FFN's down projections in q6_k.  Its exceptions are left
out: Falcon, models of eight experts (value and key projections in q8_0) and of 70B parameters (q5_k for the other half
of the value projections), and rows that are no multiple of 256, which there fall back to q5_0 and q8_0 and here end in
a short super-block.
"""

from __future__ import annotations

import enum

from qcompiler.errors import OptionError


class Role(enum.StrEnum):
    """What a weight does in a decoder."""

    ATTN_V = "attn_v"
    """Value projection, or a fused projection that contains it."""
    FFN_DOWN = "ffn_down"
    """Last projection of the feed-forward network."""
    OUTPUT = "output"
    """Output head, or the embedding that serves as one where tied."""
    EMBEDDING = "embedding"
    """Token embedding that is not the output head."""
    OTHER = "other"


def q4_k_m(role: Role, layer: int | None, layers: int) -> str:
    """Name of the format for a weight of ``role`` in ``layer`` of ``layers``: ``q4_k`` or ``q6_k``.

    Args:
        role: what the weight does.
        layer: index of its layer from 0; None outside the layers.
        layers: how many layers the model has.

    Raises:
        OptionError: ``layer`` is not one of the layers.
    """
    if layer is not None and not 0 <= layer < layers:
        raise OptionError(f"layer {layer} of a model with {layers} layers; give 0 to {layers - 1}")
    if role is Role.OUTPUT:
        return "q6_k"
    if role in (Role.ATTN_V, Role.FFN_DOWN) and layer is not None and gets_more_bits(layer, layers):
        return "q6_k"
    return "q4_k"


def gets_more_bits(layer: int, layers: int) -> bool:
    """The first and the last eighth of the layers, and every third between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
