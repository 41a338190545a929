"""What is done to a product's sums before they are written: bias, function, residual, quantization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.kernels.functions import Function, apply
from qcompiler.backends.tvm.kernels.quantize import to_uint8
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    T,
    load,
    load_part,
    parameter,
    store,
    store_part,
)


@dataclass(frozen=True)
class Epilogue:
    """``y = function(value + bias[n]) + residual[m, n]``, as float32 or quantized to uint8.

    Parameters that it adds, in this order: ``bias`` float32 ``[N/16, 16]``; ``residual`` float32 ``[M, N]``;
    ``y_scale`` float32 ``[1]`` and ``y_zero`` int32 ``[1]``; ``y`` float32 or uint8 ``[M, N]``.
    """

    bias: bool = False
    function: Function = Function.NONE
    residual: bool = False
    codes_out: bool = False


PLAIN_RESULT = Epilogue()
"""Float32, nothing added."""


class Writer:
    """The parameters of an epilogue, and the statements that use them."""

    def __init__(self, epilogue: Epilogue, rows: Expr, channels: int) -> None:
        self._function = epilogue.function
        blocks, shape = -(-channels // LANES), (rows, channels)
        self._bias: Buffer = parameter("bias", (blocks, LANES), "float32") if epilogue.bias else None
        self._residual: Buffer = parameter("residual", shape, "float32") if epilogue.residual else None
        self._scale: Buffer = parameter("y_scale", (1,), "float32") if epilogue.codes_out else None
        self._zero: Buffer = parameter("y_zero", (1,), "int32") if epilogue.codes_out else None
        self._result = parameter("y", shape, "uint8" if epilogue.codes_out else "float32")

    def write_tile(self, row: Expr, block: Expr, values: list[list[Expr]], valid: list[int]) -> None:
        """Finish and store rows of neighbouring blocks.

        Long functions are emitted once, in a loop over the results, which wait on the stack: emitted for every
        result of every tile they would be most of the program, and compiling it would take minutes.
        """
        if self._function in (Function.NONE, Function.RELU):
            for i, results in enumerate(values):
                for j, value in enumerate(results):
                    self.write(row + i, block + j, value, valid[j])
            return
        rows, blocks = len(values), len(valid)
        waiting = T.alloc_buffer((rows, blocks, LANES), "float32")
        for i, results in enumerate(values):
            for j, value in enumerate(results):
                store(waiting, [i, j, 0], value)
        with T.serial(0, rows) as i:
            if set(valid) == {LANES}:
                with T.serial(0, blocks) as j:
                    self.write(row + i, block + j, load(waiting, [i, j, 0]), LANES)
            else:
                for j, lanes in enumerate(valid):
                    self.write(row + i, block + j, load(waiting, [i, j, 0]), lanes)

    def write(self, row: Expr, block: Expr, value: Expr, valid: int) -> None:
        """Finish and store 16 channels of a row, of which ``valid`` exist."""
        if self._bias is not None:
            value = value + load(self._bias, [block, 0])
        value, place = apply(self._function, value), [row, block * LANES]
        if self._residual is not None:
            value = value + load_part(self._residual, place, valid)
        if self._scale is not None:
            value = to_uint8(value, self._scale[0], self._zero[0])
        store_part(self._result, place, value, valid)


def pack_channels(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``[N]`` to ``[N/16, 16]``, missing channels 0."""
    return np.pad(values, (0, -len(values) % LANES)).reshape(-1, LANES).astype(np.float32)
