"""How long a core takes to read weights where they lie: a generated kernel that only loads, in the order of memory.

No product of one row can be faster: it needs every weight once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.measure.latency import Runner

STREAM = 8 * 64
"""Bytes of a turn: eight vectors, or-ed into as many registers."""


def reading(arrays: Iterable[npt.NDArray[Any]]) -> Runner:
    """A call that loads every array once, one after another, up to whole turns."""
    from qcompiler.backends.tvm.compile_kernel import aligned, compile_kernel
    from qcompiler.backends.tvm.cpu_features import host_features, runnable_variants

    variant = runnable_variants(host_features())[0].vectors
    kernel, bits = compile_kernel(_reader(), variant), aligned(np.zeros((8, 16), np.int32))
    parts = [array.reshape(-1).view(np.int32)[: array.nbytes // STREAM * (STREAM // 4)] for array in arrays]
    calls = [kernel.bound(part.reshape(-1, 8, 16), bits) for part in parts if part.size]

    def run() -> None:
        for call in calls:
            call()

    return run


def _reader() -> Any:
    """values int32 [M, 8, 16] -> bits int32 [8, 16]: which bits are set anywhere."""
    from qcompiler.backends.tvm.kernels.vectors import (
        Register,
        T,
        build,
        load,
        parameter,
        rows_parameter,
        store,
    )

    def body() -> None:
        turns = rows_parameter()
        values, bits = parameter("values", (turns, 8, 16), "int32"), parameter("bits", (8, 16), "int32")
        registers = [Register("int32") for _ in range(8)]
        for register in registers:
            register.clear(T.int32(0))
        with T.serial(0, turns) as turn:
            for index, register in enumerate(registers):
                register.set(T.bitwise_or(register.value, load(values, [turn, index, 0])))
        for index, register in enumerate(registers):
            store(bits, [index, 0], register.value)

    return build("reader", body)
