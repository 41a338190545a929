"""Products with constant weights of 2048 x 2048: int8, 4 bits in groups, codebooks, float."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.tvm_kernel_case import Array, Call, Case, compiled, onnx_model
from qcompiler.backends.tvm.cpu_features import Variant

SIZE = 2048
GROUP = 128
ROWS = (1, 4, 16, 128, 512)
NF4 = np.array([-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127])
"""QLoRA's levels (arXiv 2305.14314) times 127, rounded."""

Floats = npt.NDArray[np.float32]


def product_cases() -> list[Callable[[], Case]]:
    """Makers of the cases: each holds tens of megabytes."""
    return [int8_static, partial(four_bits, "int4"), partial(four_bits, "nf4"), channels, vectors, float32]


def int8_static() -> Case:
    """int8 weights, activations by fixed scale and zero point, against QDQ."""
    from qcompiler.backends.tvm.kernels.gemm_int8 import GemmInt8, gemm_int8, pack

    random = np.random.default_rng(0)
    codes = random.integers(-127, 128, (SIZE, SIZE)).astype(np.int8)
    scale = random.uniform(1e-4, 1e-3, SIZE).astype(np.float32)
    found = pack(codes, scale)
    step, zero = np.float32(8 / 255), 128
    nodes = """
        q = QuantizeLinear(x, step, zero)
        d = DequantizeLinear(q, step, zero)
        w = DequantizeLinear<axis = 1>(codes, scale)
        y = MatMul(d, w)"""
    model = _model(
        nodes, {"step": np.array(step), "zero": np.array(zero, np.uint8), "codes": codes, "scale": scale}
    )
    arrays = (np.array([step]), np.array([zero], np.int32), found.weight, found.scale, found.total)
    kernel = compiled(lambda variant: gemm_int8(GemmInt8(SIZE, SIZE, variant, "static")), tiles=True)
    return Case("int8 static", kernel, _calls(codes * scale), {"QDQ U8S8": model}, arrays, SIZE * SIZE)


def four_bits(name: str) -> Case:
    """4-bit weights in groups, against MatMulNBits on the same codes and against float32."""
    from qcompiler.backends.tvm.kernels.gemm_low_bit import (
        GemmLowBit,
        gemm_low_bit,
        pack,
        pack_groups,
        pack_table,
    )
    from qcompiler.numerics.formats.packing import pack_groups as pack_nbits

    codes, scale = _codes(), _uniform(SIZE // GROUP, SIZE)
    levels = np.arange(-8, 8) if name == "int4" else NF4
    offset = -int(levels.min())
    weight = (levels[codes] * np.repeat(scale, GROUP, axis=0)).astype(np.float32)
    models = {"float32": _model("y = MatMul(x, w)", {"w": weight})}
    if name == "int4":
        nodes = f"y = com.microsoft.MatMulNBits<K = {SIZE}, N = {SIZE}, bits = 4, block_size = {GROUP}, "
        nodes += "accuracy_level = 4>(x, codes, scale)"
        blocks = pack_nbits(codes, 4, GROUP, padding=8)
        models["MatMulNBits level 4"] = _model(
            nodes, {"codes": blocks, "scale": np.ascontiguousarray(scale.T)}
        )
    table = name != "int4"
    arrays: list[Array] = [pack(codes, 4, GROUP), pack_groups(scale)]
    arrays += [pack_table((levels + offset).astype(np.uint8))] if table else []
    kernel = compiled(
        lambda variant: gemm_low_bit(GemmLowBit(SIZE, SIZE, 4, GROUP, variant, offset, table)), tiles=True
    )
    return Case(f"{name}, groups of {GROUP}", kernel, _calls(weight), models, tuple(arrays), SIZE * SIZE)


def channels() -> Case:
    """16 float values a channel, as SqueezeLLM has them, exact."""
    from qcompiler.backends.tvm.kernels.codebook_channels import CodebookChannels, codebook_channels, pack

    codes, table = _codes(), _uniform(SIZE, 16)
    weight = table[np.arange(SIZE), codes]
    kernel = compiled(lambda variant: codebook_channels(CodebookChannels(SIZE, SIZE, variant)))
    return _against_float("16 values a channel", kernel, weight, pack(codes, table))


def vectors() -> Case:
    """256 vectors of 8, as AQLM has them; by tables of 16 bits where there is AVX-512, else exact."""
    from qcompiler.backends.tvm.kernels.codebook_vectors import CodebookVectors, codebook_vectors, pack

    random = np.random.default_rng(0)
    length, entries = 8, 256
    codes = random.integers(0, entries, (1, SIZE // length, SIZE)).astype(np.uint8)
    book, scale = random.normal(0, 1, (1, entries, length)).astype(np.float32), _uniform(1, SIZE)[0]
    weight = book[0][codes[0]].transpose(0, 2, 1).reshape(SIZE, SIZE) * scale

    def spec(variant: Variant) -> CodebookVectors:
        return CodebookVectors(SIZE, SIZE, length, entries, variant)

    kernel = compiled(lambda variant: codebook_vectors(spec(variant)))
    return _against_float("256 vectors of 8", kernel, weight, pack(spec(Variant.PLAIN), codes, book, scale))


def float32() -> Case:
    """Weights that are not quantized."""
    from qcompiler.backends.tvm.kernels.float_gemm import FloatGemm, float_gemm, pack

    weight = np.random.default_rng(0).normal(0, 1, (SIZE, SIZE)).astype(np.float32)
    kernel = compiled(lambda variant: float_gemm(FloatGemm(SIZE, SIZE, variant)))
    return _against_float("float32", kernel, weight, (pack(weight),))


def _against_float(name: str, kernel: Any, weight: Floats, arrays: Iterable[Array]) -> Case:
    models = {"float32": _model("y = MatMul(x, w)", {"w": weight})}
    return Case(name, kernel, _calls(weight), models, tuple(arrays))


def _codes() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 16, (SIZE, SIZE)).astype(np.uint8)


def _uniform(*shape: int) -> Floats:
    return np.random.default_rng(1).uniform(1e-3, 1e-2, shape).astype(np.float32)


def _calls(weight: Floats) -> Mapping[str, Callable[[], Call]]:
    """By the number of rows."""
    return {f"{rows} x {SIZE}": partial(_call, weight, rows) for rows in ROWS}


def _call(weight: Floats, rows: int) -> Call:
    x = np.random.default_rng(rows).standard_normal((rows, SIZE), np.float32)
    return Call({"x": x}, {"y": np.empty((rows, SIZE), np.float32)}, x @ weight)


def _model(nodes: str, constants: Mapping[str, Array]) -> bytes:
    shape = f"float[M, {SIZE}]"
    return onnx_model(nodes, {"x": shape}, {"y": shape}, constants)
