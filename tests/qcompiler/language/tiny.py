"""A language model of one layer with 64 words, with its cache kept in three ways, and its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir

Kind = Literal["grouped", "concatenated", "none"]

VOCABULARY, WIDTH, HEAD = 64, 32, 16
CONTEXT = 48

_CACHE_IN = "float[B,2,P,16] past_key, float[B,2,P,16] past_value"
_CACHE_OUT = ", float[B,2,S,16] present_key, float[B,2,S,16] present_value"

_GROUPED = """
  length = ReduceSum <keepdims=0> (attention_mask, axis1)
  before = Sub (length, one)
  seqlens = Cast <to=6> (before)
  mask_shape = Shape (attention_mask)
  total64 = Gather (mask_shape, one)
  total = Cast <to=6> (total64)
  attended, present_key, present_value = com.microsoft.GroupQueryAttention
    <num_heads=4, kv_num_heads=2, do_rotary=1> (q, k, v, past_key, past_value, seqlens, total, cos, sin)
"""


def save_tiny(path: Path, kind: Kind) -> Path:
    """Write the model; the same weights whatever the cache is."""
    text = _grouped() if kind == "grouped" else _plain(cached=kind == "concatenated")
    model = ir.from_onnx_text(text)
    weights = _weights()
    for node in model.graph:
        for value in node.inputs:
            if value is not None and value.name in weights and not value.is_initializer():
                value.const_value = ir.tensor(weights[value.name], name=value.name)
                model.graph.register_initializer(value)
    for value in (*model.graph.inputs, *model.graph.outputs):
        name = str(value.name).replace("past_", "past_key_values.0.").replace("present_", "present.0.")
        value.name = name
    ir.save(model, path)
    return path


def _grouped() -> str:
    return _model("int64[B,S] attention_mask, " + _CACHE_IN, _CACHE_OUT, _GROUPED)


def _plain(*, cached: bool) -> str:
    """Attention in elementary operators; the past's length is read from its shape."""
    join = (
        "present_key = Concat <axis=2> (past_key, new_key)\n  present_value = Concat <axis=2> (past_value, new_value)"
        if cached
        else "present_key = Identity (new_key)\n  present_value = Identity (new_value)"
    )
    body = f"""
  kv_shape = Constant <value = int64[4] {{0, 0, 2, 16}}> ()
  k4 = Reshape (k, kv_shape)
  v4 = Reshape (v, kv_shape)
  new_key = Transpose <perm=[0, 2, 1, 3]> (k4)
  new_value = Transpose <perm=[0, 2, 1, 3]> (v4)
  {join}
  q_shape = Constant <value = int64[4] {{0, 0, 2, 32}}> ()
  q4 = Reshape (q, q_shape)
  queries4 = Transpose <perm=[0, 2, 1, 3]> (q4)
  halves = Constant <value = int64[2] {{16, 16}}> ()
  queries, rest = Split <axis=3> (queries4, halves)
  turned = Transpose <perm=[0, 1, 3, 2]> (present_key)
  scores = MatMul (queries, turned)
  score_shape = Shape (scores)
  two = Constant <value = int64 {{2}}> ()
  three = Constant <value = int64 {{3}}> ()
  new_count = Gather (score_shape, two)
  all_count = Gather (score_shape, three)
  zero = Constant <value = int64 {{0}}> ()
  past_count = Sub (all_count, new_count)
  columns = Range (zero, all_count, one)
  counted = Range (zero, new_count, one)
  moved = Add (counted, past_count)
  rows = Unsqueeze (moved, axis1)
  seen = LessOrEqual (columns, rows)
  low = Constant <value = float {{-1000000.0}}> ()
  masked = Where (seen, scores, low)
  weights = Softmax <axis=-1> (masked)
  mixed = MatMul (weights, present_value)
  wide = Concat <axis=3> (mixed, mixed)
  back = Transpose <perm=[0, 2, 1, 3]> (wide)
  flat = Constant <value = int64[3] {{0, 0, 64}}> ()
  attended = Reshape (back, flat)
"""
    return _model(_CACHE_IN, _CACHE_OUT, body) if cached else _model("", "", body)


def _model(inputs: str, outputs: str, body: str) -> str:
    taken = f"int64[B,T] input_ids{', ' + inputs if inputs else ''}"
    return f"""<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
tiny ({taken}) => (float[B,T,64] logits{outputs})
<float[64,32] table, float[32,64] wq, float[32,32] wk, float[32,32] wv, float[64,32] wo, float[32,64] head,
 float[64,8] cos, float[64,8] sin> {{
  one = Constant <value = int64 {{1}}> ()
  axis1 = Constant <value = int64[1] {{1}}> ()
  x = Gather (table, input_ids)
  q = MatMul (x, wq)
  k = MatMul (x, wk)
  v = MatMul (x, wv)
  {body}
  o = MatMul (attended, wo)
  y = Add (x, o)
  logits = MatMul (y, head)
}}"""


def _weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {
        "table": (64, 32),
        "wq": (32, 64),
        "wk": (32, 32),
        "wv": (32, 32),
        "wo": (64, 32),
        "head": (32, 64),
    }
    made = {name: generator.normal(size=shape) * 0.3 for name, shape in shapes.items()}
    angles = np.arange(64)[:, None] / 100 ** (np.arange(8) / 8)
    made |= {"cos": np.cos(angles), "sin": np.sin(angles)}
    return {name: array.astype(np.float32) for name, array in made.items()}


def save_tokenizer(folder: Path) -> Path:
    """Byte-level BPE without merges over 62 bytes, so that other characters are unknown; and two special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    characters = "Ġ" + "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + "Ċ.,!?" + "âĤ¬"
    vocabulary = {"<s>": 0, "</s>": 1, **{piece: index + 2 for index, piece in enumerate(characters)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def save_folder(folder: Path, kind: Kind = "grouped") -> Path:
    """A language-model folder as ``qcompile export`` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tiny(folder / "model.onnx", kind)
    save_tokenizer(folder)
    files: dict[str, object] = {
        "config.json": {"max_position_embeddings": CONTEXT, "vocab_size": VOCABULARY},
        "generation_config.json": {"eos_token_id": [1]},
        "genai_config.json": {"model": {"decoder": {"filename": "model.onnx"}, "context_length": CONTEXT}},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder
