"""Attention against ONNX Runtime's GroupQueryAttention and against NumPy: caches, positions, windows, masks."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.compile_kernel import aligned, compile_kernel
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.attention import Attention, attention
from qcompiler.backends.tvm.kernels.rotary import Turn
from tests.backends.tvm.kernels.running import RUNNABLE, variant_cases

pytestmark = pytest.mark.tvm

HEADS, KV_HEADS, SIZE = 4, 2, 32
HALF = 24
"""A head of one whole vector and a half, which ONNX Runtime's operator does not take."""

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
FASTEST = RUNNABLE[0]


def close(actual: Array, expected: Array) -> None:
    """Means of values of size 1, in float32 with an exponential of two units in the last place."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=3e-6)


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def tables(turned: int, length: int = 64) -> list[Floats]:
    angle = np.arange(length)[:, None] / 100.0 ** (np.arange(turned // 2) / (turned // 2))
    return [np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)]


@functools.cache
def compiled(spec: Attention) -> Kernel:
    return Kernel(spec)


class Kernel:
    """A compiled attention, called by the arrays of one step."""

    def __init__(self, spec: Attention) -> None:
        self.spec = spec
        self.kernel = compile_kernel(attention(spec), spec.variant)

    def __call__(self, new: list[Floats], *others: Array, present: list[Array] | None = None) -> list[Array]:
        shape = (*new[0].shape[:2], self.spec.heads * self.spec.turn.size)
        outputs = [aligned(np.full(shape, np.nan, np.float32)), *(aligned(one) for one in present or [])]
        self.kernel(*(aligned(array) for array in (*new, *others)), *outputs)
        return list(outputs)


def step(rows: int, past: int, batch: int = 1, seed: int = 0) -> tuple[list[Floats], list[Floats]]:
    """New queries, keys and values, and the past."""
    new = [normal(seed + i, batch, rows, heads * SIZE) for i, heads in enumerate((HEADS, KV_HEADS, KV_HEADS))]
    return new, [normal(seed + 7 + i, batch, KV_HEADS, past, SIZE) for i in range(2)]


def oracle(
    new: list[Floats],
    past: list[Array],
    last: Array,
    total: int,
    *others: tuple[str, Array],
    **attributes: Any,
) -> list[Array]:
    """ONNX Runtime's operator: output, keys, values."""
    import onnx
    import onnxruntime

    names = ["q", "k", "v", "past_key", "past_value", "last", "total"]
    slots = ["cos", "sin", "positions", "bias", "sink", "k_scale", "v_scale"]
    given = {
        **dict(zip(names, [*new, *past, last, np.array([total], np.int32)], strict=True)),
        **dict(others),
    }
    inputs = [*names, *(slot if slot in given else "" for slot in slots)]
    node = onnx.helper.make_node(
        "GroupQueryAttention", inputs, ["y", "key", "value"], domain="com.microsoft",
        num_heads=HEADS, kv_num_heads=KV_HEADS, **attributes,
    )  # fmt: skip
    info = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in given.items()
    ]
    cache = onnx.helper.np_dtype_to_tensor_dtype(past[0].dtype)
    outputs = [
        onnx.helper.make_tensor_value_info(name, cache if name != "y" else 1, None)
        for name in ("y", "key", "value")
    ]
    graph = onnx.helper.make_graph([node], "g", info, outputs)
    imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, given))


def one(value: int) -> Array:
    return np.array([value], np.int32)


def room(shape: Array, rows: int, dtype: str = "float32") -> list[Array]:
    """For the keys and values after a step."""
    fill = np.nan if dtype == "float32" else 0
    return [np.full((*shape.shape[:2], rows, SIZE), fill, dtype) for _ in range(2)]


@pytest.mark.parametrize("variant", variant_cases())
def test_a_step_behind_a_past(variant: Variant) -> None:
    past, (cos, sin) = 37, tables(SIZE)
    run = compiled(Attention(HEADS, KV_HEADS, Turn(SIZE, SIZE), variant))
    for rows in (1, 9):
        new, cache = step(rows, past)
        last, total = one(past + rows - 1), past + rows
        actual = run(new, *cache, last, one(total), cos, sin, present=room(cache[0], total))
        expected = oracle(new, cache, last, total, ("cos", cos), ("sin", sin), do_rotary=1)
        for ours, theirs in zip(actual, expected, strict=True):
            close(ours, theirs)


def test_prompts_of_different_lengths() -> None:
    rows = 21
    run = compiled(Attention(HEADS, KV_HEADS, Turn(SIZE, 0), FASTEST))
    new, cache = step(rows, 1, batch=2)
    last = np.array([rows - 1, 12], np.int32)
    actual = run(new, *cache, last, one(rows), present=room(cache[0], rows))
    expected = oracle(new, [past[:, :, :0] for past in cache], last, rows)
    for row, length in enumerate(last + 1):
        close(actual[0][row, :length], expected[0][row, :length])
        close(actual[1][row, :, :length], expected[1][row, :, :length])


def test_steps_behind_pasts_of_different_lengths() -> None:
    past, (cos, sin) = 20, tables(SIZE)
    run = compiled(Attention(HEADS, KV_HEADS, Turn(SIZE, SIZE, interleaved=True), FASTEST))
    new, cache = step(1, past, batch=2)
    last = np.array([past, 11], np.int32)
    actual = run(new, *cache, last, one(past + 1), cos, sin, present=room(cache[0], past + 1))
    turn = {"do_rotary": 1, "rotary_interleaved": 1}
    expected = oracle(new, cache, last, past + 1, ("cos", cos), ("sin", sin), **turn)
    close(actual[0], expected[0])
    for row, length in enumerate(last + 1):
        close(actual[1][row, :, :length], expected[1][row, :, :length])
        assert not actual[1][row, :, length:].any()


@pytest.mark.parametrize("rows", [1, 30])
def test_window_and_soft_cap(rows: int) -> None:
    past = 23
    run = compiled(Attention(HEADS, KV_HEADS, Turn(SIZE, 0), FASTEST, window=18, softcap=2.0, scale=0.5))
    new, cache = step(rows, past)
    last, total = one(past + rows - 1), past + rows
    actual = run(new, *cache, last, one(total), present=room(cache[0], total))
    attributes = {"local_window_size": 18, "softcap": 2.0, "scale": 0.5}
    close(actual[0], oracle(new, cache, last, total, **attributes)[0])


@pytest.mark.parametrize("variant", sorted({FASTEST, Variant.PLAIN}))
def test_cache_of_codes(variant: Variant) -> None:
    past, scale = 18, np.float32(0.03)
    run = compiled(Attention(HEADS, KV_HEADS, Turn(SIZE, 0), variant, codes=True))
    for rows in (1, 11):
        new, floats = step(rows, past)
        cache: list[Array] = [np.clip(np.rint(x / scale), -128, 127).astype(np.int8) for x in floats]
        last, total = one(past + rows - 1), past + rows
        scales = [np.full((KV_HEADS, SIZE), scale)] * 2
        actual = run(new, *cache, last, one(total), *scales, present=room(cache[0], total, "int8"))
        codes = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
        both = [("k_scale", np.array([scale])), ("v_scale", np.array([scale]))]
        expected = oracle(new, cache, last, total, *both, **codes)
        np.testing.assert_array_equal(actual[1], expected[1])
        np.testing.assert_array_equal(actual[2], expected[2])
        close(actual[0], expected[0])
        close(actual[0], reference(new[0], *(code * scale for code in actual[1:]), causal=True))


def reference(
    q: Floats, keys: Array, values: Array, mask: Array | float = 0.0, *, causal: bool = False
) -> Array:
    """Float64; keys and values ``[B, kv_heads, T, size]``."""
    rows, total, size = q.shape[1], *keys.shape[2:]
    heads = q.reshape(len(q), rows, -1, size).transpose(0, 2, 1, 3).astype(np.float64)
    keys, values = (np.repeat(x.astype(np.float64), heads.shape[1] // x.shape[1], 1) for x in (keys, values))
    scores = heads @ keys.transpose(0, 1, 3, 2) / np.sqrt(size) + mask
    if causal:
        scores = np.where(np.tri(rows, total, total - rows, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ values
    return np.asarray(mixed.transpose(0, 2, 1, 3).reshape(q.shape))


def by_head(x: Floats) -> Array:
    return x.reshape(*x.shape[:2], -1, HALF).transpose(0, 2, 1, 3)


def halves(rows: int, total: int) -> list[Floats]:
    """Queries, keys and values with small heads, two batches."""
    counts = ((rows, HEADS), (total, KV_HEADS), (total, KV_HEADS))
    return [normal(i, 2, count, heads * HALF) for i, (count, heads) in enumerate(counts)]


@pytest.mark.parametrize("variant", sorted({FASTEST, Variant.PLAIN}))
@pytest.mark.parametrize("rows", [2, 13])
@pytest.mark.parametrize("shape", [(2, 1, 1), (1, HEADS, 0)], ids=["keys", "scores"])
def test_encoder_with_a_mask(variant: Variant, shape: tuple[int, int, int], rows: int) -> None:
    total = 70
    run = compiled(Attention(HEADS, KV_HEADS, Turn(HALF, 0), variant, cache="none", causal=False, mask=True))
    q, k, v = halves(rows, total)
    mask = normal(9, *shape[:2], shape[2] or rows, total)
    mask[..., 5:9] = -np.inf if shape[0] == 1 else np.finfo(np.float32).min
    close(run([q, k, v], mask)[0], reference(q, by_head(k), by_head(v), mask))


@pytest.mark.parametrize("group", [8, 13])
def test_large_groups(group: int) -> None:
    """One position of a large group is few rows, two are many."""
    run = compiled(Attention(group, 1, Turn(HALF, 0), FASTEST, cache="none"))
    for rows in (1, 2):
        q, k, v = (normal(i, 2, rows, heads * HALF) for i, heads in enumerate((group, 1, 1)))
        close(run([q, k, v])[0], reference(q, by_head(k), by_head(v), causal=True))


def test_packed_rows_and_a_row_that_sees_nothing() -> None:
    rows = 10
    spec = Attention(HEADS, KV_HEADS, Turn(HALF, 0), FASTEST, cache="none", packed=True, mask=True)
    q, k, v = halves(rows, rows)
    mask = np.zeros((1, 1, rows, rows), np.float32)
    mask[..., 4, :] = -np.inf
    actual = compiled(spec)([np.concatenate([q, k, v], -1)], mask)[0]
    mask[..., 4, :] = 0
    expected = reference(q, by_head(k), by_head(v), causal=True)
    assert not actual[:, 4].any()
    close(np.delete(actual, 4, 1), np.delete(expected, 4, 1))


def test_in_place_is_the_same_as_appended() -> None:
    past, rows = 19, 3
    new, cache = step(rows, past)
    last, total = one(past + rows - 1), one(past + rows)
    appended = compiled(Attention(HEADS, KV_HEADS, Turn(SIZE, 0), FASTEST))
    expected = appended(new, *cache, last, total, present=room(cache[0], past + rows))
    buffers = room(cache[0], 40)
    for buffer, before in zip(buffers, cache, strict=True):
        buffer[:, :, :past] = before
    run = compiled(Attention(HEADS, KV_HEADS, Turn(SIZE, 0), FASTEST, cache="in_place"))
    buffers, actual = [aligned(buffer) for buffer in buffers], aligned(np.full_like(expected[0], np.nan))
    run.kernel(*(aligned(array) for array in (*new,)), *buffers, aligned(last), aligned(total), actual)
    np.testing.assert_array_equal(actual, expected[0])
    for ours, theirs in zip(buffers, expected[1:], strict=True):
        np.testing.assert_array_equal(ours[:, :, : past + rows], theirs)
        assert np.isnan(ours[:, :, past + rows :]).all()


@pytest.mark.parametrize("last", [-5, 1000])
def test_lengths_that_do_not_fit_stay_within_the_memory(last: int) -> None:
    new, cache = step(2, 6)
    run = compiled(Attention(HEADS, KV_HEADS, Turn(SIZE, 0), FASTEST))
    actual = run(new, *cache, one(last), one(8), present=room(cache[0], 8))
    assert np.isfinite(actual[0]).all()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        attention(Attention(5, 2, Turn(SIZE, 0), Variant.PLAIN))
    with pytest.raises(ValueError, match="cache"):
        attention(Attention(4, 2, Turn(SIZE, 0), Variant.PLAIN, cache="none", codes=True))
