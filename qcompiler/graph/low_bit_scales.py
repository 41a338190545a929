"""Scales and minima of low-bit weights as values of the graph: stored as they are, or quantized themselves.

| parts of the grid | graph |
|---|---|
| none | the scales, an initializer |
| ``scale_codes``, ``scale_step``, ``scale_mean`` | ``DequantizeLinear(codes, step, 128) {block_size: 256} + mean`` |
| ``scale_codes`` e4m3 bytes, ``tensor_scale`` | ``DequantizeLinear(codes, tensor_scale)`` |
| ``scale_codes``, ``super_scale`` | ``DequantizeLinear(codes, super_scale) {block_size: groups of a super-block}`` |
| ``exponents`` uint8 | ``Pow(2, Cast(exponents) - 127)`` |
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.constant_chain import ConstantChain
from qcompiler.graph.low_bit_codes import integer_tensor
from qcompiler.numerics.formats.base import Format, Grid
from qcompiler.numerics.formats.double import BLOCK, MIDDLE, SCALE_CODES, SCALE_MEAN, SCALE_STEP
from qcompiler.numerics.formats.k_quants import MIN_CODES, SUPER_MIN, SUPER_SCALE, KQuant

Array = npt.NDArray[np.generic]

_EXPONENT_BIAS = 127
"""Of e8m0, the type of a power of two in 8 bits (OCP Microscaling Formats 1.0)."""


def scale_value(chain: ConstantChain, stored: Format, grid: Grid, axis: int, *, flat: bool) -> ir.Value:
    """The scales ``[G, N]``, ``[N, G]`` for ``axis`` 1, or 1-D ``[N]`` where ``flat``."""
    if SCALE_STEP in grid.parts:
        return _double_quantized(chain, grid, axis)
    if SUPER_SCALE in grid.parts:
        return _super_blocks(
            chain, grid, axis, SCALE_CODES, SUPER_SCALE, "scale", flat=flat, narrow=_is_narrow(stored)
        )
    if "tensor_scale" in grid.parts:
        return _float8(chain, grid, axis)
    if "exponents" in grid.parts:
        return _powers_of_two(chain, grid, axis)
    return chain.array("scale", grid.scale.reshape(-1) if flat else laid_out(grid.scale, axis))


def min_value(chain: ConstantChain, stored: Format, grid: Grid, axis: int) -> ir.Value:
    """What is subtracted from every weight of a group, laid out as the scales."""
    if grid.offset is None:
        raise AssertionError("a grid without offset has no minimum")
    if SUPER_MIN in grid.parts:
        return _super_blocks(
            chain, grid, axis, MIN_CODES, SUPER_MIN, "min", flat=False, narrow=_is_narrow(stored)
        )
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


def _super_blocks(
    chain: ConstantChain,
    grid: Grid,
    axis: int,
    codes_name: str,
    super_name: str,
    suffix: str,
    *,
    flat: bool,
    narrow: bool,
) -> ir.Value:
    """Integers of a group times the float16 of its super-block."""
    codes, factor = (laid_out(grid.parts[name], axis) for name in (codes_name, super_name))
    supers = grid.parts[super_name].shape[0]
    groups = grid.parts[codes_name].shape[0]
    codes = codes.reshape(-1) if flat else codes
    operands = [
        chain.tensor(f"{suffix}_codes", integer_tensor(codes, ir.DataType.UINT4))
        if narrow
        else chain.array(f"{suffix}_codes", codes)
    ]
    if flat:
        operands.append(chain.array(f"super_{suffix}", factor.reshape(-1)))
        return chain.node("DequantizeLinear", operands, {"axis": 0}, suffix, (codes.size,))
    if supers == 1:
        operands.append(chain.array(f"super_{suffix}", factor.reshape(-1)))
        attributes = {"axis": 1 - axis}
    else:
        operands.append(chain.array(f"super_{suffix}", factor))
        attributes = {"axis": axis, "block_size": _groups_of_a_super_block(groups, supers)}
    return chain.node("DequantizeLinear", operands, attributes, suffix, codes.shape)


def _is_narrow(stored: Format) -> bool:
    """Whether scales and minima of groups are codes of 4 bits."""
    return isinstance(stored, KQuant) and stored.layout.scale_bits <= 4


def _groups_of_a_super_block(groups: int, supers: int) -> int:
    """8 groups of 32 or 16 of 16 make 256 weights, of which the last super-block may have fewer."""
    return next(size for size in (8, 16) if -(-groups // size) == supers)


def _float8(chain: ConstantChain, grid: Grid, axis: int) -> ir.Value:
    codes = laid_out(grid.parts["scale_codes"], axis).view(ml_dtypes.float8_e4m3fn)
    tensor_scale = grid.parts["tensor_scale"].reshape(())
    operands = [chain.array("scale_codes", codes), chain.array("tensor_scale", tensor_scale)]
    return chain.node("DequantizeLinear", operands, {}, "scale", codes.shape)


def _powers_of_two(chain: ConstantChain, grid: Grid, axis: int) -> ir.Value:
    exponents = laid_out(grid.parts["exponents"], axis)
    operand = chain.array("exponents", exponents)
    wide = chain.node("Cast", [operand], {"to": int(ir.DataType.FLOAT)}, "exponents_float", exponents.shape)
    bias = chain.array("exponent_bias", np.array(_EXPONENT_BIAS, np.float32))
    power = chain.node("Sub", [wide, bias], {}, "exponents_unbiased", exponents.shape)
    two = chain.array("two", np.array(2, np.float32))
    return chain.node("Pow", [two, power], {}, "scale", exponents.shape)
