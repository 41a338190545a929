"""Small decoders of random weights, one of each family, and a cache graph run step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

transformers: Any = pytest.importorskip("transformers", reason="the extra export is not installed")
torch: Any = pytest.importorskip("torch", reason="the extra export is not installed")

WINDOW, VOCABULARY = 6, 99
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED: dict[str, Any] = {**SMALL, "num_key_value_heads": 2}
ONE: dict[str, Any] = {"num_hidden_layers": 1}
"""Layers of families that have only one kind: tracing takes most of the time."""


def _made(
    name: str, head: str = "ForCausalLM", config: str = "Config", **settings: object
) -> Callable[[], Any]:
    return lambda: getattr(transformers, name + head)(
        getattr(transformers, (config if name in config else name + config))(**settings)
    )


FAMILIES: Mapping[str, Callable[[], Any]] = {
    "llama": _made("Llama", **GROUPED),
    "qwen2": _made("Qwen2", tie_word_embeddings=True, **{**GROUPED, **ONE}),
    "qwen3": _made("Qwen3", head_dim=16, **{**GROUPED, **ONE}),
    "mistral": _made("Mistral", sliding_window=WINDOW, **{**GROUPED, **ONE}),
    "gemma": _made("Gemma", head_dim=16, **{**SMALL, **ONE, "num_key_value_heads": 1}),
    "gemma2": _made("Gemma2", head_dim=16, sliding_window=WINDOW, **GROUPED),
    "gemma3": _made(
        "Gemma3", config="Gemma3TextConfig", head_dim=16, sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"], **GROUPED,
    ),
    "phi": _made("Phi", **{**SMALL, **ONE}),
    "phi3": _made("Phi3", **{**GROUPED, **ONE}),
    "gpt2": _made(
        "GPT2", head="LMHeadModel", vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=4, n_positions=128,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    ),
    "gpt_neox": _made("GPTNeoX", **{**SMALL, **ONE}),
    "opt": _made(
        "OPT", vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, ffn_dim=48,
        max_position_embeddings=128, word_embed_proj_dim=32, pad_token_id=0,
    ),
    "bloom": _made("Bloom", vocab_size=VOCABULARY, hidden_size=32, n_layer=1, n_head=4),
}  # fmt: skip


def build(family: str) -> Any:
    """A model whose weights are large enough that its tokens differ clearly."""
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


class Steps:
    """A cache graph in ONNX Runtime; the cache is handed on between calls."""

    def __init__(self, path: Path, batch: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.past = {
            value.name: np.zeros((batch, value.shape[1], 0, value.shape[3]), np.float32)
            for value in self.session.get_inputs()
            if value.name.startswith("past_key_values.")
        }
        self.mask = np.zeros((batch, 0), np.int64)

    def __call__(
        self, tokens: npt.NDArray[np.int64], mask: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.float32]:
        """Logits ``[B, T, V]`` of ``tokens [B, T]`` behind all that were given before."""
        self.mask = np.concatenate([self.mask, np.ones_like(tokens) if mask is None else mask], axis=1)
        names = [value.name for value in self.session.get_outputs()]
        feeds = {"input_ids": tokens, "attention_mask": self.mask, **self.past}
        outputs = dict(zip(names, self.session.run(None, feeds), strict=True))
        self.past = {name: outputs[name.replace("past_key_values", "present")] for name in self.past}
        logits: npt.NDArray[np.float32] = outputs["logits"]
        return logits

    def greedy(self, prompt: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """``count`` tokens for each row, one after another."""
        found, given = [], prompt
        for _ in range(count):
            given = self(given)[:, -1:].argmax(-1)
            found.append(given)
        return np.concatenate(found, axis=1)
