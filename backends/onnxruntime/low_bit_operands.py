"""Constants of low-bit kernels in the graph: each form of a weight is made once, however many nodes read it."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.backends.onnxruntime.codebook_weight import makes_codebook_weight, read_codebook
from qcompiler.backends.onnxruntime.half_scales import in_half
from qcompiler.backends.onnxruntime.low_bit_forms import Blocks, exact_blocks, grid_blocks, int8_columns
from qcompiler.backends.onnxruntime.low_bit_weight import LowBitWeight, read_low_bit
from qcompiler.backends.onnxruntime.packed_blocks import BLOCKS, fits_three_bits
from qcompiler.graph.qdq import add_initializer, graph_of


@dataclass(frozen=True)
class BlockOperands:
    """What MatMulNBits reads.

    Attributes:
        minimum: ``[G, N]``, what the kernel leaves out, or None.
        size_bytes: of codes, scales and zero points in the file.
    """

    data: ir.Value
    scales: ir.Value
    zero_points: ir.Value | None
    minimum: ir.Value | None
    bits: int
    block: int
    rows: int
    outputs: int
    size_bytes: int

    @property
    def is_padded(self) -> bool:
        """Whether the last block is filled up."""
        return self.rows % self.block != 0


@dataclass(frozen=True)
class ColumnOperands:
    """What DynamicQuantizeMatMul reads: int8 ``[K, N]`` and scales ``[N]``."""

    codes: ir.Value
    scale: ir.Value
    size_bytes: int


@dataclass
class LowBitOperands:
    """Makes and remembers the forms of every weight of a model.

    Attributes:
        largest_code: of int8 columns: 127, or 63 where the instruction set saturates.
        packed: whether 4-bit blocks of 3-bit codes are to take 3 bits in the file.
    """

    opset_imports: dict[str, int]
    largest_code: int
    packed: bool = False
    _blocks: dict[tuple[ir.Node, int, bool], BlockOperands | None] = field(default_factory=dict)
    _columns: dict[tuple[ir.Node, int], ColumnOperands] = field(default_factory=dict)
    _last: tuple[ir.Node, int, LowBitWeight | str] | None = None

    def weight(self, node: ir.Node, k_axis: int) -> LowBitWeight | str:
        """The weight as codes; only the one read last is held."""
        if self._last is None or self._last[0] is not node or self._last[1] != k_axis:
            self._last = None
            self._last = node, k_axis, self._read(node, k_axis)
        return self._last[2]

    def _read(self, node: ir.Node, k_axis: int) -> LowBitWeight | str:
        if makes_codebook_weight(node):
            return read_codebook(node, k_axis)
        return read_low_bit(node, k_axis, self.opset_imports)

    def blocks(self, node: ir.Node, k_axis: int, *, exact: bool) -> BlockOperands | None:
        """The weight in blocks: its own codes, None where no kernel reads them; or on a grid of int8."""
        key = node, k_axis, exact
        if key not in self._blocks:
            weight = self.weight(node, k_axis)
            if isinstance(weight, str):
                raise AssertionError(f"{node.name}: {weight}")
            made = exact_blocks(weight) if exact else grid_blocks(weight)
            self._blocks[key] = None if made is None else self._stored(node, made, weight.outputs)
        return self._blocks[key]

    def _stored(self, node: ir.Node, made: Blocks, outputs: int) -> BlockOperands:
        name, holder = _name_of(node), _holder(node)
        data = add_initializer(holder, f"{name}_blocks", made.data)
        scales = in_half(add_initializer(holder, f"{name}_block_scales", made.scales))
        points = minimum = None
        size_bytes = made.data.nbytes + made.scales.nbytes // 2
        if self.packed and made.bits == 4 and fits_three_bits(made.data):
            data.meta[BLOCKS] = True
            size_bytes -= made.data.nbytes // 4
        if made.zero_points is not None:
            points = add_initializer(holder, f"{name}_block_zero_points", made.zero_points)
            size_bytes += made.zero_points.nbytes
        if made.minimum is not None:
            minimum = add_initializer(holder, f"{name}_block_minimum", made.minimum.T.copy())
            size_bytes += made.minimum.nbytes
        return BlockOperands(
            data, scales, points, minimum, made.bits, made.block, made.rows, outputs, size_bytes
        )

    def has_columns(self, node: ir.Node, k_axis: int) -> bool:
        """Whether the int8 columns of a weight are in the graph already."""
        return (node, k_axis) in self._columns

    def columns(self, node: ir.Node, k_axis: int) -> ColumnOperands:
        """The weight as int8 columns."""
        key = node, k_axis
        if key not in self._columns:
            weight = self.weight(node, k_axis)
            if isinstance(weight, str):
                raise AssertionError(f"{node.name}: {weight}")
            codes, scale = int8_columns(weight, self.largest_code)
            name, holder = _name_of(node), _holder(node)
            self._columns[key] = ColumnOperands(
                add_initializer(holder, f"{name}_columns", codes),
                in_half(add_initializer(holder, f"{name}_column_scale", scale)),
                codes.nbytes + scale.nbytes // 2,
            )
        return self._columns[key]


def _name_of(node: ir.Node) -> str:
    return str(node.outputs[0].name).removesuffix("_dequantized").removesuffix("_looked_up")


def _holder(node: ir.Node) -> ir.Graph:
    codes = node.inputs[0]
    if codes is None:
        raise AssertionError(f"{node.name} has no codes")
    return graph_of(codes)
