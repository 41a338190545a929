"""Formats by their names, and why some requests make no sense."""

from __future__ import annotations

from collections.abc import Mapping

from qcompiler.errors import OptionError, suggest
from qcompiler.numerics.formats.affine import Affine
from qcompiler.numerics.formats.base import Format
from qcompiler.numerics.formats.k_quants import LAYOUTS, KQuant, Q8Zero
from qcompiler.numerics.formats.microscaling import MxFp4, NvFp4
from qcompiler.numerics.formats.table import TABLES, Float8, Table
from qcompiler.numerics.formats.ternary import Ternary

INTEGERS = ("int8", "int4", "int3", "int2")
GROUPED_DEFAULT = {
    "int8": None,
    "int4": 32,
    "int3": 32,
    "int2": 32,
    "nf4": 64,
    "fp4": 64,
    "fp8": None,
    "ternary": None,
}
"""Group sizes where none is asked for; None is per channel."""
FIXED_GROUP = {
    "mxfp4": 32,
    "nvfp4": 16,
    **{name: layout.sub_block for name, layout in LAYOUTS.items()},
    "q8_0": 32,
}
NAMES = (*GROUPED_DEFAULT, *FIXED_GROUP)
SMALLEST_GROUP, LARGEST_GROUP = 16, 256
OF_FIXED_GROUP: Mapping[str, Format] = {"mxfp4": MxFp4(), "nvfp4": NvFp4(), "q8_0": Q8Zero()}
PER_CHANNEL = 0
"""``group`` that asks for one scale per column."""


def format_of(
    name: str, *, group: int | None = None, symmetric: bool | None = None, double_quantized: bool = False
) -> Format:
    """The format that a user's words name.

    Args:
        name: one of ``NAMES``.
        group: weights along K that share a scale, 16 to 256; 0 for per channel; None for what the format is
            usually used with.
        symmetric: without zero point; None for what the format is usually used with (int8 symmetric, fewer bits
            with zero point).
        double_quantized: scales in 8 bits (nf4 and fp4).

    Raises:
        OptionError: the name is not known or the request makes no sense, with the reason.
    """
    if name not in NAMES:
        raise OptionError(f"format {name!r} is not known.{suggest(name, NAMES)}")
    if double_quantized and name not in TABLES:
        raise OptionError(f"{name}: double quantization of scales is for nf4 and fp4; leave it out")
    if name in INTEGERS:
        wanted = name == "int8" if symmetric is None else symmetric
        return Affine(int(name.removeprefix("int")), _group(name, group), wanted)
    _refuse_symmetry(name, symmetric)
    if name in FIXED_GROUP:
        _refuse_group(name, group, FIXED_GROUP[name])
        return KQuant(name) if name in LAYOUTS else OF_FIXED_GROUP[name]
    if name in TABLES:
        return Table(name, _group(name, group), double_quantized)
    return Float8(_group(name, group)) if name == "fp8" else Ternary(_group(name, group))


def _group(name: str, group: int | None) -> int | None:
    if group is None:
        return GROUPED_DEFAULT[name]
    if group == PER_CHANNEL:
        return None
    if not SMALLEST_GROUP <= group <= LARGEST_GROUP:
        raise OptionError(
            f"{name}: groups are of {SMALLEST_GROUP} to {LARGEST_GROUP} weights, or 0 for per channel; got {group}"
        )
    return group


def _refuse_symmetry(name: str, symmetric: bool | None) -> None:
    minimum = name in LAYOUTS and LAYOUTS[name].minimum
    if symmetric is True and minimum:
        raise OptionError(f"{name} is defined with a minimum for every sub-block; leave out symmetric=true")
    if symmetric is False and not minimum:
        raise OptionError(f"{name} has no zero point: its levels lie around zero; leave out symmetric=false")


def _refuse_group(name: str, group: int | None, fixed: int) -> None:
    if group not in (None, fixed):
        raise OptionError(f"{name} is defined with groups of {fixed}; leave out group={group}")
