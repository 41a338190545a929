"""Products on tiles: as the product on vectors to the last bit, and as NumPy; on CPUs without tiles by an emulator."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.compile_kernel import PASS_CONFIG, aligned, compile_kernel, target_config
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels import gemm_low_bit as low_bit
from qcompiler.backends.tvm.kernels.epilogue import Epilogue, pack_channels
from qcompiler.backends.tvm.kernels.functions import Function
from qcompiler.backends.tvm.kernels.gemm_int8 import GemmInt8, gemm_int8, pack
from qcompiler.backends.tvm.lower_tir import registered
from tests.backends.tvm.kernels.running import Runner
from tests.backends.tvm.kernels.tile_emulator import REAL, Emulator, build_emulator, emulated, needs_tiles

pytestmark = pytest.mark.tvm

TILES, VECTORS = Variant.AMX_INT8, Variant.AMX_INT8.vectors
ROWS = (3, 8, 15, 16, 17, 33, 48, 50)
"""On vectors; a tile of fewer rows; one; two that overlap; two by two and a part; two by two and one; overlapping."""

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return None if REAL else build_emulator(tmp_path_factory.mktemp("tiles"))


@pytest.fixture
def emulator(library: ctypes.CDLL | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator | None]:
    if library is None:
        yield None
        return
    with emulated(library, monkeypatch) as found:
        yield found
        found.check()


def packed(depth: int, channels: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], list[Array]]:
    random = np.random.default_rng(depth)
    codes = random.integers(-128, 128, (depth, channels)).astype(np.int8)
    scale = random.uniform(1e-3, 1e-2, channels).astype(np.float32)
    found = pack(codes, scale)
    return codes, scale, [found.weight, found.scale, found.total]


@needs_tiles
@pytest.mark.parametrize(
    ("depth", "channels"),
    [
        pytest.param(128, 48, id="whole tiles, a pair and one block"),
        pytest.param(148, 41, id="steps and channels left over"),
        pytest.param(37, 5, id="no tile along K"),
    ],
)
def test_sums_are_exact(depth: int, channels: int, emulator: Emulator | None) -> None:
    codes, scale, constants = packed(depth, channels)
    run = Runner(gemm_int8(GemmInt8(channels, depth, TILES, "codes")), TILES)
    x_scale, x_zero = np.array([0.02], np.float32), np.array([131], np.int32)
    for rows in ROWS:
        x = np.random.default_rng(rows).integers(0, 256, (rows, depth)).astype(np.uint8)
        actual = run(x, x_scale, x_zero, *constants, shape=(rows, channels))
        exact = (x.astype(np.int64) - 131) @ codes.astype(np.int64)
        # an exact integer, multiplied by two float32 scales
        np.testing.assert_allclose(actual, exact * (np.float32(0.02) * scale), rtol=3e-7)
    if emulator is not None:
        assert (emulator.count("tdpbusd") > 0) == (depth >= 64)


@needs_tiles
@pytest.mark.parametrize(
    ("activation", "function"),
    [("dynamic", Function.NONE), ("rows", Function.RELU), ("static", Function.SILU)],
)
def test_everything_around_the_sums_is_as_on_vectors(
    activation: Any, function: Function, emulator: Emulator | None
) -> None:
    del emulator
    rows, depth, channels = 19, 148, 41
    _, _, constants = packed(depth, channels)
    random = np.random.default_rng(1)
    x, residual = (
        random.normal(0, 2, shape).astype(np.float32) for shape in ((rows, depth), (rows, channels))
    )
    bias = pack_channels(random.normal(0, 1, channels).astype(np.float32))
    given = [np.array([0.02], np.float32), np.array([100], np.int32)] if activation == "static" else []
    found = [
        Runner(
            gemm_int8(GemmInt8(channels, depth, variant, activation, Epilogue(True, function, True))), variant
        )(x, *given, *constants, bias, residual, shape=(rows, channels))
        for variant in (TILES, VECTORS)
    ]
    # the same operations in the same order, but for which multiply and add LLVM contracts
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-6)


@needs_tiles
def test_codes_out(emulator: Emulator | None) -> None:
    del emulator
    rows, depth, channels = 33, 64, 32
    _, _, constants = packed(depth, channels)
    x = np.random.default_rng(2).integers(0, 256, (rows, depth)).astype(np.uint8)
    scales: list[Array] = [np.array([0.02], np.float32), np.array([3], np.int32)]
    given: list[Array] = [x, *scales, *constants, np.array([0.11], np.float32), np.array([140], np.int32)]
    found = [
        Runner(gemm_int8(GemmInt8(channels, depth, variant, "codes", Epilogue(codes_out=True))), variant)(
            *given, shape=(rows, channels), dtype="uint8"
        )
        for variant in (TILES, VECTORS)
    ]
    np.testing.assert_array_equal(found[0], found[1])


@needs_tiles
@pytest.mark.parametrize(
    ("bits", "group", "depth", "extra"),
    [
        pytest.param(4, 128, 256, "offset", id="two tiles a group"),
        pytest.param(4, 32, 83, "table", id="tiles of half the depth, part of a group"),
        pytest.param(8, 96, 96, "minimum", id="tiles of 48"),
        pytest.param(2, 16, 48, "offset", id="tiles of 16"),
    ],
)
def test_few_bits_are_as_on_vectors(
    bits: int, group: int, depth: int, extra: str, emulator: Emulator | None
) -> None:
    channels, groups, random = 41, -(-depth // group), np.random.default_rng(bits)
    codes = random.integers(0, 1 << bits, (depth, channels)).astype(np.uint8)
    scale, minimum = random.uniform(0.01, 0.1, (2, groups, channels)).astype(np.float32)
    constants: list[Array] = [low_bit.pack(codes, bits, group), low_bit.pack_groups(scale)]
    constants += [low_bit.pack_groups(minimum)] if extra == "minimum" else []
    constants += [low_bit.pack_table(np.arange(0, 32, 2).astype(np.uint8))] if extra == "table" else []
    runs = [
        Runner(
            low_bit.gemm_low_bit(
                low_bit.GemmLowBit(
                    channels,
                    depth,
                    bits,
                    group,
                    variant,
                    7,
                    table=extra == "table",
                    minimum=extra == "minimum",
                )
            ),
            variant,
        )
        for variant in (TILES, VECTORS)
    ]
    for rows in (5, 16, 20, 50):
        x = random.normal(0.2, 1.0, (rows, depth)).astype(np.float32)
        found = [run(x, *constants, shape=(rows, channels)) for run in runs]
        # exact sums in a group; only multiply-adds of floats may be contracted differently
        np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=2e-6 * np.abs(found[1]).max())
    if emulator is not None:
        assert emulator.count("tdpbsud") > 0


@needs_tiles
def test_every_thread_configures_its_tiles(emulator: Emulator | None) -> None:
    rows, depth, channels, pairs = 16, 64, 256, 8
    codes, _, constants = packed(depth, channels)
    kernel = compile_kernel(gemm_int8(GemmInt8(channels, depth, TILES, "codes")), TILES, cores=2)
    x = np.random.default_rng(3).integers(0, 256, (rows, depth)).astype(np.uint8)
    scales: list[Array] = [np.array([1], np.float32), np.array([0], np.int32)]
    result = aligned(np.zeros((rows, channels), np.float32))
    given: list[Array] = [x, *scales, constants[0], np.ones_like(constants[1]), constants[2]]
    kernel(*(aligned(array) for array in given), result)
    np.testing.assert_array_equal(result, x.astype(np.int64) @ codes)
    if emulator is not None:
        assert emulator.count("ldtilecfg") == pairs
        assert emulator.count("tdpbusd") == 2 * pairs


def assembly(function: Any) -> list[tuple[str, str]]:
    """Instructions and operands of the code for a real CPU."""
    import tvm

    with tvm.transform.PassContext(config=PASS_CONFIG):
        target = tvm.target.Target(target_config(TILES))
        text = tvm.compile(function, target, tir_pipeline=registered()).mod.inspect_source("asm")
    return re.findall(r"^\t([a-z]\w+)\t?([^\n]*)$", text, re.MULTILINE)


def test_compiled_code_multiplies_activations_by_weights_into_four_tiles() -> None:
    found = assembly(gemm_int8(GemmInt8(64, 256, TILES, "codes")))
    names = [name for name, _ in found if "tile" in name or name.startswith("tdp")]
    assert names[0] == "ldtilecfg"
    assert names[-1] == "tilerelease"
    products = {operands for name, operands in found if name == "tdpbusd"}
    # the last is the sum, then the activations (uint8), first the weights (int8)
    pairs = [("0", "4", "6"), ("1", "4", "7"), ("2", "5", "6"), ("3", "5", "7")]
    assert products == {f"%tmm{weight}, %tmm{codes}, %tmm{sums}" for sums, codes, weight in pairs}
    loaded = {operands[-1] for name, operands in found if name == "tileloadd"}
    assert loaded == set("4567")
    stored = {operands.split(",")[0] for name, operands in found if name == "tilestored"}
    assert stored == {"%tmm0", "%tmm1", "%tmm2", "%tmm3"}
    assert "vpdpbusd" in {name for name, _ in found}  # few rows
