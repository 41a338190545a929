from __future__ import annotations

import numpy as np
import pytest

from qcompiler.errors import OptionError
from qcompiler.numerics.formats.affine import Affine
from qcompiler.numerics.formats.catalog import NAMES, format_of
from qcompiler.numerics.formats.mixed import Role, gets_more_bits, q4_k_m
from qcompiler.numerics.formats.table import Table


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_a_format_of_that_name(name: str) -> None:
    fmt = format_of(name)
    assert fmt.name == name
    weights = np.random.default_rng(0).standard_normal((96, 5)).astype(np.float32)
    grid = fmt.fit(weights)
    codes = fmt.encode(weights, grid)
    assert codes.max() < 2**fmt.code_bits
    assert len(fmt.levels) > int(codes.max())
    # levels, scale and offset say the same as decode
    scale = np.repeat(grid.scale, fmt.group or 96, axis=0)[:96]
    offset = 0 if grid.offset is None else np.repeat(grid.offset, fmt.group or 96, axis=0)[:96]
    np.testing.assert_array_equal(fmt.levels[codes] * scale - offset, fmt.decode(codes, grid))


def test_defaults_and_wishes() -> None:
    assert format_of("int8") == Affine(8, None, symmetric=True)
    assert format_of("int4") == Affine(4, 32, symmetric=False)
    assert format_of("int4", group=0, symmetric=True) == Affine(4, None, symmetric=True)
    assert format_of("nf4", group=128, double_quantized=True) == Table("nf4", 128, double_quantized=True)


@pytest.mark.parametrize(
    ("name", "group", "symmetric", "double_quantized", "problem"),
    [
        ("int5", None, None, False, "not known.*int"),
        ("int4", 512, None, False, "16 to 256"),
        ("int4", 8, None, False, "16 to 256"),
        ("int4", None, None, True, "nf4 and fp4"),
        ("q4_k", 64, None, False, "groups of 32"),
        ("q4_k", None, True, False, "minimum"),
        ("mxfp4", 16, None, False, "groups of 32"),
        ("ternary", None, False, False, "no zero point"),
        ("fp8", None, False, False, "no zero point"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(
    name: str, group: int | None, symmetric: bool | None, double_quantized: bool, problem: str
) -> None:
    with pytest.raises(OptionError, match=problem):
        format_of(name, group=group, symmetric=symmetric, double_quantized=double_quantized)


def test_q4_k_m_gives_half_of_the_costly_tensors_more_bits() -> None:
    layers = 32
    more = [layer for layer in range(layers) if gets_more_bits(layer, layers)]
    assert more == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert q4_k_m(Role.ATTN_V, 0, layers) == q4_k_m(Role.FFN_DOWN, 6, layers) == "q6_k"
    assert q4_k_m(Role.FFN_DOWN, 4, layers) == q4_k_m(Role.OTHER, 0, layers) == "q4_k"
    assert q4_k_m(Role.OUTPUT, None, layers) == "q6_k"
    assert q4_k_m(Role.EMBEDDING, None, layers) == "q4_k"
    with pytest.raises(OptionError, match="layer 32"):
        q4_k_m(Role.OTHER, 32, layers)
