"""Sums of products of uint8 and int8, four at a time, by the instructions that a variant may use.

A step takes 64 bytes of weights (16 channels, 4 neighbours along K each) and 4 activations in every channel's place.
All variants are exact in int32; the AVX2 variant multiplies in 16 bits because ``vpmaddubsw`` saturates.
"""

from __future__ import annotations

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.vectors import LANES, Expr, T, intrinsic, joined, let, part

DEPTH = 4
"""Products added up by one step in every lane."""

STEP = LANES * DEPTH
"""Bytes of weights that one step takes."""


def accumulator_lanes(variant: Variant) -> int:
    """Lanes of int32 that hold the sums of 16 channels while they grow."""
    return 2 * LANES if variant is Variant.AVX2 else LANES


def dot_product(variant: Variant, sums: Expr, unsigned: Expr, signed: Expr) -> Expr:
    """``sums`` plus the products of one step.

    Args:
        sums: int32, ``accumulator_lanes``.
        unsigned: uint8 x 64.
        signed: int8 x 64.
    """
    match variant.vectors:
        case Variant.AVX512_VNNI:
            return intrinsic("llvm.x86.avx512.vpdpbusd.512", "int32x16", sums, unsigned, signed)
        case Variant.AVX_VNNI:
            return _halves(sums, unsigned, signed)
        case Variant.AVX2:
            return _quarters(sums, unsigned, signed)
        case Variant.PLAIN:
            return _plain(sums, unsigned, signed)


def total(variant: Variant, sums: Expr) -> Expr:
    """int32 x 16: one sum a channel."""
    if variant is not Variant.AVX2:
        return sums
    pairs = let(sums)
    return T.Shuffle([pairs], list(range(0, 2 * LANES, 2))) + T.Shuffle([pairs], list(range(1, 2 * LANES, 2)))


def four_everywhere(codes: Expr) -> Expr:
    """Four neighbouring codes (int8 or uint8 x 4) in every channel's place: x 64."""
    name = str(codes.ty.dtype).removesuffix("x4")
    return T.reinterpret(f"{name}x{STEP}", T.broadcast(T.reinterpret("int32", codes), LANES))


def _halves(sums: Expr, unsigned: Expr, signed: Expr) -> Expr:
    name, half, size = "llvm.x86.avx512.vpdpbusd.256", LANES // 2, STEP // 2
    return joined(
        [
            intrinsic(
                name,
                "int32x8",
                part(sums, half * index, half),
                part(unsigned, size * index, size),
                part(signed, size * index, size),
            )
            for index in range(2)
        ],
        LANES,
    )


def _quarters(sums: Expr, unsigned: Expr, signed: Expr) -> Expr:
    size = STEP // 4
    products = [
        intrinsic(
            "llvm.x86.avx2.pmadd.wd",
            "int32x8",
            T.cast(part(unsigned, size * index, size), "int16x16"),
            T.cast(part(signed, size * index, size), "int16x16"),
        )
        for index in range(4)
    ]
    return sums + joined(products, 2 * LANES)


def _plain(sums: Expr, unsigned: Expr, signed: Expr) -> Expr:
    for index in range(DEPTH):
        left, right = (
            T.cast(part(side, index, LANES, DEPTH), f"int32x{LANES}") for side in (unsigned, signed)
        )
        sums = sums + left * right
    return sums
