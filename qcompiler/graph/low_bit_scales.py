"""Scales and minima of low-bit weights as values of the graph: stored as they are, or quantized themselves.

| parts of the grid | graph |
|---|---|
| none | the scales, an initializer |
| ``scale_codes``, ``scale_step``, ``scale_mean`` | ``DequantizeLinear(codes, step, 128) {block_size: 256} + mean`` |
| ``scale_codes`` e4m3 bytes, ``tensor_scale`` | ``DequantizeLinear(codes, tensor_scale)`` |
| ``exponents`` uint8 | ``Pow(2, Cast(exponents) - 127)`` |
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.constant_chain import ConstantChain
from qcompiler.numerics.formats.base import Grid
from qcompiler.numerics.formats.double import BLOCK, MIDDLE, SCALE_CODES, SCALE_MEAN, SCALE_STEP
from qcompiler.numerics.formats.table import E8M0_BIAS

Array = npt.NDArray[np.generic]


def scale_value(chain: ConstantChain, grid: Grid, axis: int, *, flat: bool) -> ir.Value:
    """The scales ``[G, N]``, ``[N, G]`` for ``axis`` 1, or 1-D ``[N]`` where ``flat``."""
    if SCALE_STEP in grid.parts:
        return _double_quantized(chain, grid, axis)
    if "tensor_scale" in grid.parts:
        return _float8(chain, grid, axis)
    if "exponents" in grid.parts:
        return _powers_of_two(chain, grid, axis)
    return chain.array("scale", grid.scale.reshape(-1) if flat else laid_out(grid.scale, axis))


def min_value(chain: ConstantChain, grid: Grid, axis: int) -> ir.Value:
    """What is subtracted from every weight of a group, laid out as the scales."""
    if grid.offset is None:
        raise AssertionError("a grid without offset has no minimum")
    return chain.array("min", laid_out(grid.offset, axis))


def laid_out(array: Array, axis: int) -> Array:
    """``[G, N]`` as it is for ``axis`` 0, as ``[N, G]`` for ``axis`` 1."""
    return np.ascontiguousarray(array.T) if axis else array


def _double_quantized(chain: ConstantChain, grid: Grid, axis: int) -> ir.Value:
    codes, step = (laid_out(grid.parts[name], axis) for name in (SCALE_CODES, SCALE_STEP))
    operands = [
        chain.array("scale_codes", codes),
        chain.array("scale_step", step),
        chain.array("scale_middle", np.full(step.shape, MIDDLE, np.uint8)),
    ]
    blocks = {"axis": 1 - axis, "block_size": BLOCK}
    spread = chain.node("DequantizeLinear", operands, blocks, "scale_spread", codes.shape)
    mean = chain.array("scale_mean", laid_out(grid.parts[SCALE_MEAN], axis))
    return chain.node("Add", [spread, mean], {}, "scale", codes.shape)


def _float8(chain: ConstantChain, grid: Grid, axis: int) -> ir.Value:
    codes = laid_out(grid.parts["scale_codes"], axis).view(ml_dtypes.float8_e4m3fn)
    tensor_scale = grid.parts["tensor_scale"].reshape(())
    operands = [chain.array("scale_codes", codes), chain.array("tensor_scale", tensor_scale)]
    return chain.node("DequantizeLinear", operands, {}, "scale", codes.shape)


def _powers_of_two(chain: ConstantChain, grid: Grid, axis: int) -> ir.Value:
    exponents = laid_out(grid.parts["exponents"], axis)
    operand = chain.array("exponents", exponents)
    wide = chain.node("Cast", [operand], {"to": int(ir.DataType.FLOAT)}, "exponents_float", exponents.shape)
    bias = chain.array("exponent_bias", np.array(E8M0_BIAS, np.float32))
    power = chain.node("Sub", [wide, bias], {}, "exponents_unbiased", exponents.shape)
    two = chain.array("two", np.array(2, np.float32))
    return chain.node("Pow", [two, power], {}, "scale", exponents.shape)
