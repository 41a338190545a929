"""``genai_config.json``: what ``onnxruntime-genai`` wants to know of a language-model folder.

Names and meaning: https://onnxruntime.ai/docs/genai/reference/config.html
"""

from __future__ import annotations

from collections.abc import Mapping

Config = Mapping[str, object]

FILE = "genai_config.json"

UNLIMITED = 2048
"""Context length written where a configuration names none."""

_TYPES = frozenset(
    {
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gptoss",
        "granite",
        "llama",
        "mistral",
        "nemotron",
        "olmo",
        "phi",
        "phi3",
        "phimoe",
        "qwen2",
        "qwen3",
        "smollm3",
    }
)
"""Text decoders that onnxruntime-genai 0.18 knows by name; what it does with them is the same."""

_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")


def genai_config(
    config: Config, generation: Config, *, filename: str, kv_heads: int, head_size: int, layers: int
) -> dict[str, object]:
    """The contents of ``genai_config.json``.

    Args:
        config, generation: parsed ``config.json`` and ``generation_config.json`` (may be empty).
        filename: the model's file in the folder.
        kv_heads, head_size, layers: of the cache.
    """
    ends = _ids(generation.get("eos_token_id")) or _ids(config.get("eos_token_id"))
    padding = _ids(generation.get("pad_token_id")) or _ids(config.get("pad_token_id"))
    starts = _ids(generation.get("bos_token_id")) or _ids(config.get("bos_token_id"))
    length = context_length(config)
    end: object = ends if len(ends) > 1 else (ends[0] if ends else -1)
    return {
        "model": {
            "type": model_type(config),
            "bos_token_id": starts[0] if starts else (ends[0] if ends else 0),
            "eos_token_id": end,
            "pad_token_id": padding[0] if padding else (ends[0] if ends else 0),
            "context_length": length,
            "vocab_size": _number(config, "vocab_size"),
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": filename,
                "head_size": head_size,
                "hidden_size": _number(config, "hidden_size", "n_embd", "d_model"),
                "num_attention_heads": _number(config, "num_attention_heads", "n_head", "n_heads"),
                "num_key_value_heads": kv_heads,
                "num_hidden_layers": layers,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": _search(generation, length),
    }


def _search(generation: Config, length: int) -> dict[str, object]:
    return {
        "diversity_penalty": 0.0,
        "do_sample": bool(generation.get("do_sample") or False),
        "early_stopping": True,
        "length_penalty": 1.0,
        "max_length": length,
        "min_length": 0,
        "no_repeat_ngram_size": 0,
        "num_beams": 1,
        "num_return_sequences": 1,
        "past_present_share_buffer": False,
        "repetition_penalty": _given(generation, "repetition_penalty", 1.0),
        "temperature": _given(generation, "temperature", 1.0),
        "top_k": int(_given(generation, "top_k", 50)),
        "top_p": _given(generation, "top_p", 1.0),
    }


def context_length(config: Config) -> int:
    """Tokens that a text may have, ``UNLIMITED`` where the configuration does not say."""
    return _number(config, *_LENGTHS) or UNLIMITED


def _given(config: Config, name: str, default: float) -> float:
    value = config.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def _number(config: Config, *names: str) -> int:
    """The first of ``names`` that holds a number, in the configuration or its text part; 0 when none does."""
    text = config.get("text_config")
    for place in (config, text if isinstance(text, dict) else {}):
        for name in names:
            value = place.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return 0


def _ids(value: object) -> list[int]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, int) and not isinstance(item, bool)]


def model_type(config: Config) -> str:
    """What onnxruntime-genai calls the architecture: its own name, or any decoder."""
    kind = str(config.get("model_type")).replace("gpt_oss", "gptoss")
    return kind if kind in _TYPES else "decoder"
