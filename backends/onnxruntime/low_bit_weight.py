"""Reading weights of few bits out of the dialect (:mod:`qcompiler.graph.low_bit`), one at a time.

Whatever the format, a weight is codes, one row for every output, and a grid of groups along the row:

    w[n, k] = scale[n, g] * (codes[n, k] - zero[n, g])            integers
    w[n, k] = scale[n, g] * codes[n, k] - minimum[n, g]           integers with a minimum
    w[n, k] = scale[n, g] * table[codes[n, k]]                    everything else,    g = k // group
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.onnxruntime.constant_value import constant_value
from qcompiler.graph.functions import DOMAIN
from qcompiler.graph.low_bit import FORMAT
from qcompiler.graph.low_bit_functions import MIN, TABLE
from qcompiler.graph.weighted import array_of, is_constant

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_SIGNED = {ir.DataType.INT2: 2, ir.DataType.INT4: 4, ir.DataType.INT8: 8}
_UNSIGNED = {ir.DataType.UINT2: 2, ir.DataType.UINT4: 4, ir.DataType.UINT8: 8}
_SMALL = frozenset(
    {
        ir.DataType.INT2,
        ir.DataType.UINT2,
        ir.DataType.INT4,
        ir.DataType.UINT4,
        ir.DataType.FLOAT8E4M3FN,
    }
)


@dataclass(frozen=True)
class LowBitWeight:
    """One weight as codes.

    Attributes:
        codes: ``[N, K]``, below ``2**bits``.
        bits: 2, 4 or 8: the fewest that hold every code.
        scale: ``[N, G]``, or ``[N, 1]`` where all of a row shares one.
        group: weights of a row that share a scale.
        zero_point: ``[N, G]`` codes of zero, or None for ``2**(bits - 1)``; without meaning beside table or minimum.
        minimum: ``[N, G]``, what is subtracted.
        table: ``[L]``, what the codes stand for.
    """

    codes: Bytes
    bits: int
    scale: Floats
    group: int
    zero_point: Bytes | None = None
    minimum: Floats | None = None
    table: Floats | None = None

    @property
    def outputs(self) -> int:
        return int(self.codes.shape[0])

    @property
    def rows(self) -> int:
        """K: weights of one output."""
        return int(self.codes.shape[1])

    @property
    def middle(self) -> int:
        """The code of zero where none is stored."""
        return 1 << (self.bits - 1)

    def values(self, outputs: slice) -> Floats:
        """The float32 weights ``[n, K]`` of some outputs."""
        codes = self.codes[outputs]
        levels = self.table[codes] if self.table is not None else codes.astype(np.float32)
        if self.table is None and self.minimum is None:
            self._in_groups(np.subtract, levels, self._zeros(outputs))
        self._in_groups(np.multiply, levels, self.scale[outputs])
        if self.minimum is not None:
            self._in_groups(np.subtract, levels, self.minimum[outputs])
        return levels

    def _zeros(self, outputs: slice) -> Floats:
        if self.zero_point is None:
            return np.full((1, 1), self.middle, np.float32)
        return self.zero_point[outputs].astype(np.float32)

    def _in_groups(self, operator: np.ufunc, levels: Floats, grid: Floats) -> None:
        """``levels [n, K] = operator(levels, grid [n, G])`` in place, every group with its own number."""
        whole = self.rows // self.group if grid.shape[1] > 1 else 0
        head = levels[:, : whole * self.group].reshape(len(levels), whole, -1) if whole else None
        if head is not None:  # a view: the copy that indexing makes would take longer than the arithmetic
            operator(head, grid[:, :whole, None], out=head)
        rest = levels[:, whole * self.group :]
        if rest.size:
            operator(rest, grid[:, -1:], out=rest)


def makes_low_bit_weight(node: ir.Node | None) -> bool:
    """Whether a node makes a weight of few bits out of constant codes."""
    if node is None or not node.inputs or not is_constant(node.inputs[0]) or node.inputs[0] is None:
        return False
    if node.domain == DOMAIN:
        return node.op_type in (TABLE, MIN)
    if node.domain or node.op_type != "DequantizeLinear":
        return False
    return (
        node.inputs[0].dtype in _SMALL or _integer(node, "block_size", 0) > 0 or FORMAT in node.metadata_props
    )


def read_low_bit(node: ir.Node, k_axis: int, opset_imports: dict[str, int]) -> LowBitWeight | str:
    """The weight that ``node`` makes, or why it has no such form.

    Args:
        node: one that :func:`makes_low_bit_weight`.
        k_axis: axis of the stored weight along which a product sums (1 for a table of rows).
        opset_imports: of the model.
    """
    codes_value = node.inputs[0]
    rest = [None if value is None else constant_value(value, opset_imports) for value in node.inputs[1:]]
    if codes_value is None or not rest or any(array is None for array in rest):
        return "its scales are not constant"
    stored = array_of(codes_value)
    if stored.ndim != 2:
        return "its codes are not a matrix"
    operands = [np.asarray(array) for array in rest]
    scale = operands[1 if node.op_type == TABLE else 0]
    if scale.ndim == 2 and _integer(node, "axis", 1) % 2 != k_axis:
        return "its groups do not run along the axis that is summed over"
    if scale.ndim == 1 and _integer(node, "axis", 1) % 2 == k_axis:
        return "its scales belong to what is summed over"
    rows = stored.shape[k_axis]
    group = _integer(node, "block_size", 0) if scale.ndim == 2 else rows
    codes, bits, shift = _codes(stored if k_axis else stored.T, codes_value.dtype)
    per_output = _PerOutput(stored.shape[1 - k_axis], k_axis)
    common = {"codes": codes, "bits": bits, "group": min(group, rows)}
    if codes_value.dtype == ir.DataType.FLOAT8E4M3FN:
        return LowBitWeight(**common, scale=per_output(scale), table=_float8_table())
    if node.op_type == TABLE:
        return LowBitWeight(**common, scale=per_output(scale), table=operands[0].astype(np.float32))
    if node.op_type == MIN:
        return LowBitWeight(**common, scale=per_output(scale), minimum=per_output(operands[1]))
    zero = per_output.integers(operands[1].astype(np.int16) + shift) if len(operands) > 1 else None
    if zero is None and shift == 0:
        zero = np.zeros(per_output(scale).shape, np.uint8)
    return _narrowest(LowBitWeight(**common, scale=per_output(scale), zero_point=zero))


@dataclass(frozen=True)
class _PerOutput:
    """Lays scales out as ``[N, G]``."""

    outputs: int
    k_axis: int

    def __call__(self, array: npt.NDArray[np.generic]) -> Floats:
        if array.ndim == 2:
            shaped = array if self.k_axis else array.T
        else:
            shaped = np.broadcast_to(array.reshape(-1, 1), (self.outputs, 1))
        return np.ascontiguousarray(shaped, dtype=np.float32)

    def integers(self, array: npt.NDArray[np.generic]) -> Bytes:
        return self(array).astype(np.uint8)


def _codes(stored: npt.NDArray[np.generic], dtype: ir.DataType | None) -> tuple[Bytes, int, int]:
    """Unsigned codes ``[N, K]``, their bits, and what was added to make them unsigned."""
    if dtype == ir.DataType.FLOAT8E4M3FN:
        return np.ascontiguousarray(stored).view(np.uint8), 8, 0
    if dtype in _SIGNED:
        bits = _SIGNED[dtype]
        shift = 1 << (bits - 1)
        signed = np.ascontiguousarray(stored).astype(np.int8, copy=False)
        return (signed.view(np.uint8) + np.uint8(shift)).astype(np.uint8, copy=False), bits, shift
    bits = _UNSIGNED.get(dtype, 8) if dtype is not None else 8
    return np.ascontiguousarray(stored).astype(np.uint8, copy=False), bits, 0


def _narrowest(weight: LowBitWeight) -> LowBitWeight:
    """2-bit codes in a 4-bit container (opsets before 25 have no smaller one) counted as what they are."""
    if weight.bits != 4:
        return weight
    if weight.zero_point is None:
        low, high = weight.middle - 2, weight.middle + 1
    else:
        low, high = 0, 3
        if weight.zero_point.max(initial=0) > high:
            return weight
    if weight.codes.min(initial=high) < low or weight.codes.max(initial=low) > high:
        return weight
    codes = weight.codes - np.uint8(low)
    return LowBitWeight(codes, 2, weight.scale, weight.group, weight.zero_point)


def _float8_table() -> Floats:
    table: Floats = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    table[np.isnan(table)] = 0.0
    return table


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())
