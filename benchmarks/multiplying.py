"""How fast this CPU multiplies int8 at best: a generated kernel that only multiplies, in registers.

No product of matrices on vectors can be faster: it has to load, to scale and to write as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.measure.latency import Runner

TURNS = 1 << 16
SUMS = 16
"""That grow at the same time: more than two multipliers keep waiting for."""


def macs(threads: int) -> int:
    """Multiplications and additions of one call."""
    from qcompiler.backends.tvm.kernels.dot_product import STEP

    return TURNS * SUMS * STEP * threads


def multiplier(variant: Variant, threads: int, name: str = "multiplier") -> Any:
    """``(weights uint8 [64], codes int8 [64], sums int32 [threads, 16, lanes])``: adds their products up many times."""
    from qcompiler.backends.tvm.kernels.dot_product import STEP, accumulator_lanes, dot_product
    from qcompiler.backends.tvm.kernels.vectors import Register, T, build, let, load, parameter, store

    lanes = accumulator_lanes(variant)

    def body() -> None:
        weights, codes = parameter("weights", (STEP,), "uint8"), parameter("codes", (STEP,), "int8")
        result = parameter("sums", (threads, SUMS, lanes), "int32")
        with T.parallel(0, threads) as thread:
            unsigned, signed = let(load(weights, [0], STEP)), let(load(codes, [0], STEP))
            sums = [Register("int32", lanes) for _ in range(SUMS)]
            for register in sums:
                register.clear(T.int32(0))
            with T.serial(0, TURNS):
                for register in sums:
                    register.set(dot_product(variant, register.value, unsigned, signed))
            for index, register in enumerate(sums):
                store(result, [thread, index, 0], register.value, lanes)

    return build(name, body)


def multiplying(threads: int) -> Runner:
    """A call that multiplies ``macs(threads)`` times by the fastest vectors of this CPU."""
    from qcompiler.backends.tvm.compile_kernel import aligned, compile_kernel
    from qcompiler.backends.tvm.cpu_features import host_features, runnable_variants
    from qcompiler.backends.tvm.kernels.dot_product import STEP, accumulator_lanes

    variant = runnable_variants(host_features())[0].vectors
    sums = np.zeros((threads, SUMS, accumulator_lanes(variant)), np.int32)
    kernel = compile_kernel(multiplier(variant, threads), variant, threads)
    return kernel.bound(aligned(np.ones(STEP, np.uint8)), aligned(np.ones(STEP, np.int8)), aligned(sums))
