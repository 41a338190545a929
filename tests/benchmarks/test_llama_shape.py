"""The model of Llama's shape computes what an obvious Llama computes, and the command writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from benchmarks import llama_shape
from benchmarks.contender import Cost
from benchmarks.llama_graph import EPSILON, ROTARY_BASE, Shape, write
from benchmarks.llama_shape import PROCESSOR, Case, main, projection, save_windows
from benchmarks.results_file import Row, Scores

TINY = Shape(layers=2, hidden=64, inner=176, heads=4, kv_heads=2, vocabulary=101, context=32)
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(TINY, tmp_path_factory.mktemp("llama") / "model.onnx")


def run(path: Path, ids: np.ndarray, past: Arrays) -> Arrays:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    length = ids.shape[1] + next(iter(past.values())).shape[2]
    feeds = {"input_ids": ids, "attention_mask": np.ones((len(ids), length), np.int64), **past}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def empty_cache(batch: int) -> Arrays:
    nothing = np.zeros((batch, TINY.kv_heads, 0, TINY.head_size), np.float32)
    return {
        f"past_key_values.{layer}.{part}": nothing
        for layer in range(TINY.layers)
        for part in ("key", "value")
    }


def norm(x: np.ndarray) -> np.ndarray:
    scale = 1 / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + EPSILON)
    return np.asarray(x * scale)


def rotated(x: np.ndarray) -> np.ndarray:
    """``[T, size]``: the two halves of a head are real and imaginary parts, turned by position times frequency."""
    half = x.shape[1] // 2
    turns = np.arange(len(x))[:, None] * ROTARY_BASE ** (-np.arange(half) / half)
    turned = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * turns)
    return np.concatenate([turned.real, turned.imag], axis=1)


def attention(x: np.ndarray, weights: Arrays, name: str) -> np.ndarray:
    q, k, v = (x @ weights[f"{name}.{part}_proj.weight"] for part in "qkv")
    size, heads = TINY.head_size, []
    for head in range(TINY.heads):
        shared = head * TINY.kv_heads // TINY.heads
        mine, theirs = slice(head * size, (head + 1) * size), slice(shared * size, (shared + 1) * size)
        scores = rotated(q[:, mine]) @ rotated(k[:, theirs]).T / np.sqrt(size)
        scores[np.triu_indices(len(x), 1)] = -np.inf
        weighting = np.exp(scores - scores.max(axis=1, keepdims=True))
        heads.append(weighting / weighting.sum(axis=1, keepdims=True) @ v[:, theirs])
    return np.concatenate(heads, axis=1) @ weights[f"{name}.o_proj.weight"]


def reference(path: Path, ids: np.ndarray) -> np.ndarray:
    """Logits ``[T, V]`` in float64."""
    initializers = ir.load(path).graph.initializers.values()
    weights = {
        str(v.name): v.const_value.numpy().astype(np.float64)
        for v in initializers
        if v.const_value is not None
    }
    stream = weights["model.embed_tokens.weight"][ids]
    for layer in range(TINY.layers):
        name = f"model.layers.{layer}"
        stream = stream + attention(norm(stream), weights, f"{name}.attn")
        gate, up = (norm(stream) @ weights[f"{name}.mlp.{part}_proj.weight"] for part in ("gate", "up"))
        stream = stream + gate / (1 + np.exp(-gate)) * up @ weights[f"{name}.mlp.down_proj.weight"]
    return norm(stream) @ weights["lm_head.weight"]


def test_logits_are_those_of_an_obvious_llama(path: Path) -> None:
    ids = np.random.default_rng(1).integers(TINY.vocabulary, size=(2, 9))
    logits = run(path, ids, empty_cache(2))["logits"]
    expected = np.stack([reference(path, row) for row in ids])
    # float32 against float64 over sums of 176 products: some 1e-6 of the largest logit (about 20).
    assert np.abs(logits - expected).max() < 1e-4


def test_decoding_with_the_cache_gives_what_prefilling_gives(path: Path) -> None:
    ids = np.random.default_rng(2).integers(TINY.vocabulary, size=(1, 6))
    first = run(path, ids[:, :5], empty_cache(1))
    past = {
        f"past_key_values.{layer}.{part}": first[f"present.{layer}.{part}"]
        for layer in range(TINY.layers)
        for part in ("key", "value")
    }
    last = run(path, ids[:, 5:], past)["logits"][:, -1]
    whole = run(path, ids, empty_cache(1))["logits"][:, -1]
    assert np.abs(last - whole).max() < 1e-4  # the same sums in another order


def test_the_command_writes_the_same_bytes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(layers: int) -> Shape:
        return Shape(layers, 64, 176, 4, 2, 101, 32)

    small.layers = 22  # type: ignore[attr-defined]
    monkeypatch.setattr("benchmarks.llama_shape.Shape", small)
    for name in ("a", "b"):
        assert main(["make", str(tmp_path / name / "model.onnx"), "--layers", "1"]) == 0
    for file in ("model.onnx", "model.onnx.data"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_shape_has_a_billion_parameters() -> None:
    assert Shape().parameters == pytest.approx(1.1e9, rel=0.01)


def measured(processor: float) -> Row:
    return Row(name="", scores=Scores(own={PROCESSOR: processor}))


def test_a_projection_adds_what_the_second_layer_added() -> None:
    row = projection(measured(80), measured(100), layers=22)
    assert row.scores.own == {PROCESSOR: 500, f"{PROCESSOR} a layer": 20}
    assert "projection" in row.name
    assert projection(Row(name="", failure="killed"), measured(1)).failure


def test_more_memory_than_allowed_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_shape, "model_of", lambda folder, layers: folder / "model.onnx")
    for peak, failed in ((999_000_000, False), (1_001_000_000, True)):
        cost = Cost(seconds=1, peak_bytes=peak, processor_seconds=1)
        monkeypatch.setattr(llama_shape, "run_job", lambda job, timeout_seconds, cost=cost: cost)
        assert bool(llama_shape.measure(tmp_path, Case("int4", 1, 1)).failure) == failed


def test_windows_fit_the_model(path: Path, tmp_path: Path) -> None:
    windows = np.load(save_windows(tmp_path / "tokens.npz", TINY, windows=3, length=4))
    feeds = {name: windows[name] for name in windows.files}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.run(["logits"], feeds)[0].shape == (3, 4, TINY.vocabulary)
