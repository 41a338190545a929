"""The words of every pass that may be worth a measurement on a target, by what the bounds ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qcompiler.backends.base import Target

GROUPS = {"int8": (128,), "int4": (32, 64), "int2": (32, 64)}
"""Formats by the bytes that they take in a file, with group sizes.  Files have no codes of 3, 5 or 6 bits, and 2-bit
codes in groups of 16 take 4."""
PACKED = {"int3": (32, 64)}
"""The same where the target's files have codes of 3 bits."""
LEVELS = "nf4"
"""Loses less than int4 in no more bytes, on targets that store its codes as they are."""
BY_BITS = (
    "q6_k", "q5_k", "int4:group=32", "int4:group=64", "int4:group=128", "q3_k", "int3:group=64:symmetric=true",
    "int3:group=128:symmetric=true", "q2_k", "int2:group=32:symmetric=true", "int2:group=64:symmetric=true",
)  # fmt: skip
"""Formats by bits a weight as they pack: none of them has another with less loss in as few bits
(``benchmarks/auto_formats.py``)."""
LEVELS_BY_BITS = "nf4:double_quantized=true"
"""In place of int4 in groups of 128, so too."""


@dataclass(frozen=True)
class Wanted:
    """What decides which choices are looked at.

    Attributes:
        has_data: whether ranges and Gram matrices can be had.
        small: whether bytes or bits count: few bits, in the file alone too.
        bits: whether bits a weight are bounded: then formats count as they pack, whatever the file's container takes,
            and activations stay in float unless speed is asked for too, or nothing else is for a node (Conv).
        fast: whether time counts.
    """

    has_data: bool
    small: bool = True
    bits: bool = False
    fast: bool = True


def candidate_words(target: Target, wanted: Wanted) -> Iterator[str]:
    """The words of every pass that may be worth a measurement, the most usual first."""
    if wanted.has_data:
        yield "int8_static"
    yield "int8_dynamic"
    yield "int8_dynamic:granularity=token"
    if wanted.small and target.widens_codes and wanted.has_data:
        yield from (f"int8_static:weights=int{bits}" for bits in (6, 5, 4, 3))
    if wanted.small and target.widens_codes:
        yield "int8_dynamic:weights=int4"
    solver = "gptq:sequential=false" if wanted.has_data else "mse"
    for words in _by_bits(target) if wanted.bits else _by_bytes(target, wanted):
        yield f"{words}:solver={solver}"


def _by_bits(target: Target) -> Iterator[str]:
    for words in BY_BITS:
        yield LEVELS_BY_BITS if words == "int4:group=128" and target.stores_tables else words


def _by_bytes(target: Target, wanted: Wanted) -> Iterator[str]:
    for name, sizes in (GROUPS | (PACKED if getattr(target, "packed", False) else {})).items():
        if wanted.small or name not in ("int3", "int2"):
            yield from (f"{name}:group={size}" for size in (sizes if wanted.small else sizes[:1]))
        if name == "int4" and target.stores_tables:
            yield LEVELS
