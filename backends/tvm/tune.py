"""Choosing the tile of a kernel by timing a few of them on this CPU, once.

Candidates stand in a fixed order, the best guess first; another is taken only where it is clearly faster.  The choice
is kept in a file for this processor, so the same command gives the same bytes on the same machine.
"""

from __future__ import annotations

import enum
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from qcompiler.backends.onnxruntime.measured_once import measured_once
from qcompiler.backends.tvm.cpu_features import Variant, host_features, runnable_variants

logger = logging.getLogger(__name__)

Spec = TypeVar("Spec")
Array = npt.NDArray[Any]


class Effort(enum.StrEnum):
    """How many tiles are tried for each kernel: none, 6 or 20."""

    NONE = "none"
    QUICK = "quick"
    FULL = "full"


_COUNTS = {Effort.NONE: 1, Effort.QUICK: 6, Effort.FULL: 20}

ROWS = (1, 64)
"""Of a matrix product whose rows are not known: its times are multiplied."""

_IMAGES = (1,)
_ROUNDS = 7
_ROUND_SECONDS = 2e-3

CLEARLY = 0.97
"""Of the first candidate's time that another must need at most: timings repeat to about 2 %."""


def tuned(spec: Spec, effort: Effort) -> Spec:
    """``spec`` with the tile that is fastest here; as it is where nothing can be chosen or timed."""
    candidates = candidate_tiles(spec, effort)
    if len(candidates) < 2:
        return spec
    index = measured_once(f"tvm-tile-{_digest(spec, candidates)}", lambda: fastest(spec, candidates))
    logger.debug("tile of %s: %s of %d", spec, candidates[index % len(candidates)], len(candidates))
    return replace(spec, tile=candidates[index % len(candidates)])  # type: ignore[type-var]


def candidate_tiles(spec: Any, effort: Effort) -> list[Any]:
    """Tiles to be timed, the one that is taken without timing first; none where a kernel has no choice."""
    make = _FAMILIES.get(type(spec).__name__)
    variant: Variant | None = getattr(spec, "variant", None)
    if effort is Effort.NONE or make is None or variant not in runnable_variants(host_features()):
        return []
    found: list[Any] = []
    for tile in make(spec, _COUNTS[effort]):
        if tile not in found:
            found.append(tile)
    return found[: _COUNTS[effort]]


def fastest(spec: Any, candidates: Sequence[Any], clock: Callable[[], float] = time.perf_counter) -> int:
    """Index of the tile that needs the least time, in interleaved rounds; 0 unless another is clearly faster."""
    sizes = _IMAGES if hasattr(spec, "shape") else ROWS
    runs = [_runners(replace(spec, tile=tile), sizes) for tile in candidates]
    best = np.full((len(candidates), len(sizes)), np.inf)
    for _ in range(_ROUNDS):
        for index, runners in enumerate(runs):
            for place, run in enumerate(runners):
                best[index, place] = min(best[index, place], _seconds(run, clock))
    scores = best.prod(axis=1) ** (1 / len(sizes))
    index = int(scores.argmin())
    return index if scores[index] < CLEARLY * scores[0] else 0


def _seconds(run: Callable[[], None], clock: Callable[[], float]) -> float:
    """Of the fastest call within a round."""
    least, started = np.inf, clock()
    run()
    while True:
        before = clock()
        run()
        now = clock()
        least = min(least, now - before)
        if now - started > _ROUND_SECONDS:
            return float(least)


def _runners(spec: Any, sizes: Sequence[int]) -> list[Callable[[], None]]:
    """Calls of the compiled kernel on numbers of its own, for each size of the free dimension."""
    from qcompiler.backends.tvm.compile_kernel import compile_kernel

    function = _generator(spec)(spec)
    kernel = compile_kernel(function, spec.variant)
    return [kernel.bound(*_arguments(function, size)) for size in sizes]


def _arguments(function: Any, size: int) -> list[Array]:
    """Arrays of the shapes of a PrimFunc's parameters; floats near 1, and small integers."""
    from tvm import tirx

    from qcompiler.backends.tvm.compile_kernel import aligned

    random, arrays = np.random.default_rng(0), []
    for parameter in function.params:
        shape = [int(dim.value) if isinstance(dim, tirx.IntImm) else size for dim in parameter.shape]
        kind = np.dtype(str(parameter.dtype))
        if kind.kind == "f":
            arrays.append(aligned(random.uniform(0.5, 1.5, shape).astype(kind)))
        else:
            arrays.append(aligned(random.integers(0, 16, shape).astype(kind)))
    return arrays


def _digest(spec: object, candidates: Sequence[object]) -> str:
    text = "\n".join([repr(spec), *map(repr, candidates), version("apache-tvm")])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _generator(spec: Any) -> Callable[[Any], Any]:
    """The function that makes a PrimFunc of a description: it stands beside it, named like its module."""
    import importlib

    module = importlib.import_module(type(spec).__module__)
    function: Callable[[Any], Any] = getattr(module, type(spec).__module__.rpartition(".")[2])
    return function


def _products(spec: Any, count: int) -> list[Any]:
    """Tiles of matrix products: as many sums as fit the registers, in other proportions."""
    import importlib

    from qcompiler.backends.tvm.kernels.tiling import Tile

    first = importlib.import_module(type(spec).__module__).TILES[spec.variant]
    wide = spec.variant.vectors is Variant.AVX512_VNNI
    shapes = _WIDE if wide else _NARROW
    return [first, *(Tile(rows, blocks) for rows, blocks in shapes)][:count]


_WIDE = (
    (6, 4), (4, 4), (8, 3), (12, 2), (5, 5), (8, 2), (4, 6), (14, 1), (3, 4), (2, 8), (9, 2), (6, 3), (10, 2), (7, 3),
    (3, 6), (4, 5), (2, 4), (1, 8),
)  # fmt: skip
_NARROW = ((2, 1), (2, 2), (1, 2), (3, 1), (1, 4), (4, 1), (3, 2), (1, 1), (1, 3))
"""Rows and blocks."""


def _convolutions(spec: Any, count: int) -> list[Any]:
    """The tiles with the fewest estimated cycles, and the first of them in other bands."""
    from qcompiler.backends.tvm.kernels.conv_float import ConvFloat
    from qcompiler.backends.tvm.kernels.conv_tiling import candidate_tiles as estimated

    found = estimated(spec.shape, spec.variant, codes=not isinstance(spec, ConvFloat), count=count)
    first = found[0]
    bands = [replace(first, band=band) for band in _bands(first.band, first.view(spec.shape).out_height)]
    half = max(1, count - len(bands))
    return [first, *bands, *found[1:half]]


def _depthwise(spec: Any, count: int) -> list[Any]:
    from qcompiler.backends.tvm.kernels.depthwise import choose_tile

    first = choose_tile(spec.shape, spec.variant, item_bytes=1 if spec.codes else 4)
    bands = [replace(first, band=band) for band in _bands(first.band, spec.shape.out_height)]
    pixels = [
        replace(first, pixels=p) for p in (7, 8, 4, 14, 6, 2, 10, 12, 3, 1) if p <= spec.shape.out_width
    ]
    return [first, *bands, *pixels][:count]


def _bands(band: int, height: int) -> list[int]:
    """Half and double, and all rows."""
    return [other for other in (max(1, band // 2), min(height, band * 2), height) if other != band]


_FAMILIES: Mapping[str, Callable[[Any, int], list[Any]]] = {
    "GemmInt8": _products,
    "GemmLowBit": _products,
    "FloatGemm": _products,
    "ConvInt8": _convolutions,
    "ConvFloat": _convolutions,
    "Depthwise": _depthwise,
}
