"""A table of 16 bytes, looked up 64 times at once."""

from __future__ import annotations

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.vectors import Buffer, Expr, T, intrinsic, joined, let, load, part, store

TABLE = 16
LOOK_UPS = 64


def look_up(variant: Variant, table: Buffer, codes: Expr) -> Expr:
    """uint8 x 64: ``table[codes]``.

    Args:
        table: uint8 ``[64]``: 16 entries, four times over, because each 16 bytes of a register look into their own.
        codes: uint8 x 64, all below 16.
    """
    match variant.vectors:
        case Variant.AVX512_VNNI:
            return intrinsic("llvm.x86.avx512.pshuf.b.512", "uint8x64", load(table, [0], LOOK_UPS), codes)
        case Variant.AVX2 | Variant.AVX_VNNI:
            whole, half = let(codes), LOOK_UPS // 2
            levels = load(table, [0], half)
            halves = [
                intrinsic("llvm.x86.avx2.pshuf.b", "uint8x32", levels, part(whole, half * index, half))
                for index in range(2)
            ]
            return joined(halves, LOOK_UPS)
        case Variant.PLAIN:
            return _one_by_one(table, codes)


def _one_by_one(table: Buffer, codes: Expr) -> Expr:
    places = T.alloc_buffer((LOOK_UPS,), "uint8")
    levels = T.alloc_buffer((LOOK_UPS,), "uint8")
    store(places, [0], codes, LOOK_UPS)
    with T.serial(0, LOOK_UPS) as lane:
        T.buffer_store(levels, table[T.cast(places[lane], "int32")], [lane])
    return let(load(levels, [0], LOOK_UPS))
