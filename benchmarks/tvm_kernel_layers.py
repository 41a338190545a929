"""What stands between the products of language models: attention, norms, softmax, functions, embeddings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from benchmarks.tvm_kernel_case import Array, Call, Case, compiled, onnx_model

HEADS, KV_HEADS, HEAD = 32, 8, 64
HIDDEN = 2048
POSITIONS = 4096
STEPS = ((1, 512), (1, 4096), (128, 0))
"""New rows, and rows of the past."""

Floats = npt.NDArray[np.float32]


def layer_cases() -> list[Callable[[], Case]]:
    """Makers of the cases."""
    caches = [partial(cached_attention, codes=codes) for codes in (False, True)]
    return [*caches, encoder_attention, rms_norm, layer_norm, softmax, gelu, embedding]


def cached_attention(*, codes: bool) -> Case:
    """GroupQueryAttention of a Llama with 32 heads on 8 of keys, turned inside; a cache of float32 or int8."""
    from qcompiler.backends.tvm.kernels.attention import Attention, attention
    from qcompiler.backends.tvm.kernels.rotary import Turn

    kernel = compiled(
        lambda variant: attention(Attention(HEADS, KV_HEADS, Turn(HEAD, HEAD), variant, codes=codes))
    )
    cache = f"{'int8' if codes else 'float'}[1, {KV_HEADS}, P, {HEAD}]"
    given = {"q": _float("1, S", HEADS * HEAD), "k": _float("1, S", KV_HEADS * HEAD)}
    given |= {
        "v": given["k"],
        "past_key": cache,
        "past_value": cache,
        "last": "int32[1]",
        "total": "int32[1]",
    }
    given |= dict.fromkeys(("cos", "sin"), f"float[{POSITIONS * 2}, {HEAD // 2}]")
    scales = {name: np.array([0.03], np.float32) for name in ("ks", "vs")} if codes else {}
    attributes = f"num_heads = {HEADS}, kv_num_heads = {KV_HEADS}, do_rotary = 1"
    if codes:
        attributes += ', k_quant_type = "PER_TENSOR", v_quant_type = "PER_TENSOR", kv_cache_bit_width = 8'
    operands = ", ".join([*given, *(["", "", "", *scales] if codes else [])])
    nodes = f"y, key, value = com.microsoft.GroupQueryAttention<{attributes}>({operands})"
    model = onnx_model(
        nodes,
        given,
        {"y": given["q"], "key": cache.replace("P", "T"), "value": cache.replace("P", "T")},
        scales,
    )
    calls = {f"{rows} behind {past}": partial(_step, rows, past, codes=codes) for rows, past in STEPS}
    name = f"attention, {'int8' if codes else 'float'} cache"
    return Case(name, kernel, calls, {"GroupQueryAttention": model})


def _step(rows: int, past: int, *, codes: bool) -> Call:
    random, total = np.random.default_rng(rows), rows + past
    kind = np.int8 if codes else np.float32
    widths = {"q": HEADS * HEAD, "k": KV_HEADS * HEAD, "v": KV_HEADS * HEAD}
    inputs: dict[str, Array] = {name: _normal(random, 1, rows, width) for name, width in widths.items()}
    for name in ("past_key", "past_value"):
        # without a past the memory of a static cache is given, of which nothing is kept: an empty array has no address
        values = _normal(random, 1, KV_HEADS, past or rows, HEAD) * (30 if codes else 1)
        inputs[name] = np.clip(values, -127, 127).astype(kind)
    inputs |= {"last": np.array([total - 1], np.int32), "total": np.array([total], np.int32)}
    angle = np.arange(POSITIONS * 2)[:, None] / 1e4 ** (np.arange(HEAD // 2) / (HEAD // 2))
    inputs |= {"cos": np.cos(angle).astype(np.float32), "sin": np.sin(angle).astype(np.float32)}
    if codes:
        inputs |= {name: np.full((KV_HEADS, HEAD), 0.03, np.float32) for name in ("key_scale", "value_scale")}
    present = {name: np.empty((1, KV_HEADS, total, HEAD), kind) for name in ("key", "value")}
    return Call(inputs, {"y": np.empty((1, rows, HEADS * HEAD), np.float32), **present})


def encoder_attention() -> Case:
    """Attention of MiniLM: 12 heads of 32, a mask over the keys."""
    from qcompiler.backends.tvm.kernels.attention import Attention, attention
    from qcompiler.backends.tvm.kernels.rotary import Turn

    heads, size = 12, 32
    spec = partial(Attention, heads, heads, Turn(size, 0), cache="none", causal=False, mask=True)
    shape = _float("B, S", heads * size)
    nodes = """
        q4 = Reshape(q, split)  k4 = Reshape(k, split)  v4 = Reshape(v, split)
        qt = Transpose<perm = [0, 2, 1, 3]>(q4)
        kt = Transpose<perm = [0, 2, 3, 1]>(k4)
        vt = Transpose<perm = [0, 2, 1, 3]>(v4)
        product = MatMul(qt, kt)
        scaled = Mul(product, scale)
        scores = Add(scaled, mask)
        weights = Softmax(scores)
        mixed = MatMul(weights, vt)
        back = Transpose<perm = [0, 2, 1, 3]>(mixed)
        y = Reshape(back, joined)"""
    constants = {"split": np.array([0, 0, heads, size]), "joined": np.array([0, 0, heads * size])}
    model = onnx_model(
        nodes,
        {**dict.fromkeys("qkv", shape), "mask": "float[B, 1, 1, S]"},
        {"y": shape},
        {**constants, "scale": np.array(size**-0.5, np.float32)},
    )

    def call(batch: int, rows: int) -> Call:
        random = np.random.default_rng(rows)
        inputs = {name: _normal(random, batch, rows, heads * size) for name in "qkv"}
        inputs["mask"] = np.zeros((batch, 1, 1, rows), np.float32)
        return Call(inputs, {"y": np.empty((batch, rows, heads * size), np.float32)})

    calls = {f"{batch} x {rows}": partial(call, batch, rows) for batch, rows in ((1, 128), (8, 16))}
    kernel = compiled(lambda variant: attention(spec(variant=variant)))
    return Case("attention of an encoder", kernel, calls, {"MatMul, Softmax, MatMul": model})


def rms_norm() -> Case:
    """Sum of two matrices, normalized, both results."""
    from qcompiler.backends.tvm.kernels.norm import Norm, norm

    kernel = compiled(lambda variant: norm(Norm(HIDDEN, variant, residual=True, sum=True)))
    nodes = "y, a, b, sum = com.microsoft.SkipSimplifiedLayerNormalization<epsilon = 1e-5>(x, skip, gamma)"
    shape, gamma = _float("M", HIDDEN), f"float[{HIDDEN}]"
    model = onnx_model(nodes, {"x": shape, "skip": shape, "gamma": gamma}, {"y": shape, "sum": shape}, {})
    return Case(
        "RMS norm of a sum",
        kernel,
        _matrices(("x", "skip"), ("gamma",), ("y", "sum")),
        {"the operator": model},
    )


def layer_norm() -> Case:
    """Sum of two matrices, normalized."""
    from qcompiler.backends.tvm.kernels.norm import Norm, norm

    kernel = compiled(lambda variant: norm(Norm(HIDDEN, variant, "layer", residual=True, beta=True)))
    nodes = "y = com.microsoft.SkipLayerNormalization<epsilon = 1e-5>(x, skip, gamma, beta)"
    shape, row = _float("M", HIDDEN), f"float[{HIDDEN}]"
    model = onnx_model(nodes, {"x": shape, "skip": shape, "gamma": row, "beta": row}, {"y": shape}, {})
    return Case(
        "layer norm of a sum",
        kernel,
        _matrices(("x", "skip"), ("gamma", "beta"), ("y",)),
        {"the operator": model},
    )


def softmax() -> Case:
    """Over the last axis."""
    from qcompiler.backends.tvm.kernels.softmax import Softmax
    from qcompiler.backends.tvm.kernels.softmax import softmax as generate

    shape = _float("M", HIDDEN)
    model = onnx_model("y = Softmax(x)", {"x": shape}, {"y": shape}, {})
    kernel = compiled(lambda variant: generate(Softmax(variant)))
    return Case("softmax", kernel, _matrices(("x",), (), ("y",)), {"the operator": model})


def gelu() -> Case:
    """By the error function."""
    from qcompiler.backends.tvm.kernels.functions import Function
    from qcompiler.backends.tvm.kernels.unary import Unary, unary

    model = onnx_model("y = Gelu(x)", {"x": "float[L]"}, {"y": "float[L]"}, {})

    def call(length: int) -> Call:
        return Call({"x": _normal(np.random.default_rng(0), length)}, {"y": np.empty(length, np.float32)})

    calls = {str(length): partial(call, length) for length in (HIDDEN, 128 * HIDDEN)}
    kernel = compiled(lambda variant: unary(Unary(Function.GELU, variant)))
    return Case("gelu", kernel, calls, {"the operator": model})


def embedding() -> Case:
    """Rows of a 4-bit table in groups of 32, against GatherBlockQuantized."""
    from qcompiler.backends.tvm.kernels.gather_rows import GatherRows, gather_rows, pack
    from qcompiler.numerics.formats.packing import pack_groups

    entries, group, random = 4096, 32, np.random.default_rng(0)
    codes = random.integers(0, 16, (entries, HIDDEN)).astype(np.uint8)
    scale = random.uniform(0.01, 0.1, (entries, HIDDEN // group)).astype(np.float32)
    nodes = (
        f"y = com.microsoft.GatherBlockQuantized<gather_axis = 0, quantize_axis = 1, block_size = {group}, "
    )
    nodes += "bits = 4>(codes, ids, scale)"
    blocks = pack_groups(codes.T, 4, group, padding=8).reshape(entries, -1)
    model = onnx_model(
        nodes, {"ids": "int64[M]"}, {"y": _float("M", HIDDEN)}, {"codes": blocks, "scale": scale}
    )
    kernel = compiled(lambda variant: gather_rows(GatherRows(entries, HIDDEN, 4, group, variant, 8)))

    def call(rows: int) -> Call:
        ids = np.random.default_rng(rows).integers(0, entries, rows)
        return Call({"ids": ids}, {"y": np.empty((rows, HIDDEN), np.float32)})

    calls = {f"{rows} rows": partial(call, rows) for rows in (1, 128)}
    constants = (pack(codes, 4), scale)
    return Case("rows of a 4-bit table", kernel, calls, {"GatherBlockQuantized": model}, constants)


def _matrices(
    matrices: tuple[str, ...], rows: tuple[str, ...], outputs: tuple[str, ...]
) -> dict[str, Callable[[], Call]]:
    def call(count: int) -> Call:
        random = np.random.default_rng(count)
        inputs = {name: _normal(random, count, HIDDEN) for name in matrices}
        inputs |= {name: _normal(random, HIDDEN) for name in rows}
        return Call(inputs, {name: np.empty((count, HIDDEN), np.float32) for name in outputs})

    return {f"{count} x {HIDDEN}": partial(call, count) for count in (1, 128)}


def _normal(random: np.random.Generator, *shape: int) -> Floats:
    return random.standard_normal(shape, np.float32)


def _float(rows: str, columns: int) -> str:
    return f"float[{rows}, {columns}]"
