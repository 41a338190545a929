"""The words of every pass that may be worth a measurement on a target, by what the bounds ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qcompiler.backends.base import Target

GROUPS = {"int8": (128,), "int4": (32, 64, 128), "int3": (32, 64, 128), "int2": (16, 32, 64)}
"""Group sizes of weight-only formats that are worth a measurement."""


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
    for name, sizes in GROUPS.items():
        in_full = not getattr(target, "packed", False)
        if not wanted.bits and ((name == "int3" and in_full) or (name == "int2" and not wanted.small)):
            continue  # 3 bits take 4 in most files
        for size in sizes if wanted.bits else sizes[:2] if wanted.small else sizes[:1]:
            yield f"{name}:group={size}:solver={solver}"
