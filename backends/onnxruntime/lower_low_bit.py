"""MatMul and Gemm by weights of few bits, lowered to the kernels that ONNX Runtime has for them.

Which form a product takes:

1. ``exact``: MatMulNBits with float activations, and nothing else.
2. ``size_first``, or a weight so small that an If costs more than it gains: MatMulNBits, activations int8 per block.
3. A weight whose codes MatMulNBits cannot say (tables, codebooks, groups that 16 does not divide) or can say only in 8
   bits for 5 or fewer: DynamicQuantizeMatMul of int8 columns, as fast as 8-bit MatMulNBits for one row and twice as
   fast for many.
4. A number of rows that is known: the form that is faster for it.
5. Otherwise both, behind an If on the number of rows, which products of one input share: docs/decisions/0008.

Kernels other than those of 1 quantize activations, which the dialect does not say: ``Lowering.rounding_db`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.backends.onnxruntime.codebook_weight import makes_codebook_weight
from qcompiler.backends.onnxruntime.low_bit_kernels import MICROSOFT, KernelNodes, branch, either
from qcompiler.backends.onnxruntime.low_bit_operands import LowBitOperands
from qcompiler.backends.onnxruntime.low_bit_product import LowBitProduct, low_bit_product
from qcompiler.backends.onnxruntime.low_bit_weight import LowBitWeight, makes_low_bit_weight
from qcompiler.backends.onnxruntime.merge_branches import merge_branches
from qcompiler.graph.qdq import graph_of

SMALL_WEIGHTS = 1 << 16
"""Weights of a product that the If (2 us) would slow down: it takes about that long itself."""

BLOCK_ROUNDING_DB = 30.0
"""MatMulNBits at level 4 rounds activations to int8 per block: 43-48 dB, 33 dB where one channel is 30 times larger
than the rest. Swapped halves of a byte, another zero point or another group's scale leave less than 20 dB."""

COLUMN_ROUNDING_DB = 25.0
"""DynamicQuantizeMatMul rounds each row to uint8 and each column of the weight to int8: 35-40 dB for normal values, and
less by about the ratio of the largest channel to a usual one."""


@dataclass(frozen=True)
class LowBitOptions:
    """What the target's user chose.

    Attributes:
        prefill_rows: rows from which the int8 product is taken; asked for at the first product that needs to know.
        largest_code: of int8 columns.
        packed: whether 4-bit blocks of 3-bit codes take 3 bits in the file.
        smallest: weights of the smallest product that gets an If.
    """

    exact: bool
    size_first: bool
    per_token: bool
    largest_code: int
    prefill_rows: Callable[[], int]
    packed: bool = False
    smallest: int = SMALL_WEIGHTS


def lower_low_bit(model: ir.Model, operands: LowBitOperands, options: LowBitOptions) -> list[Lowering]:
    """Rewrite every product by a weight of few bits in place; say what became of each, and why."""
    lowering = _Products(model, operands, options)
    views = (
        low_bit_product(node, _makes_weight) for node in list(model.graph.all_nodes())
    )  # each as those before have left it
    done = [lowering.lower(product) for product in views if product is not None]
    merge_branches(lowering.choices)
    if any(item.kernel for item in done):
        model.graph.opset_imports.setdefault(MICROSOFT, 1)
    return done


def _makes_weight(node: ir.Node | None) -> bool:
    return makes_low_bit_weight(node) or makes_codebook_weight(node)


@dataclass
class _Products:
    model: ir.Model
    operands: LowBitOperands
    options: LowBitOptions
    choices: list[ir.Node] = field(default_factory=list)
    """Every If that was made."""
    _conditions: dict[tuple[ir.Value, ir.Graph], ir.Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        level = 0 if self.options.exact else 4
        self.kernels = KernelNodes(self.model.graph, level, self.options.per_token)

    def lower(self, product: LowBitProduct) -> Lowering:
        name = str(product.node.name)
        weight = self.operands.weight(product.maker, product.k_axis)
        if product.reason or isinstance(weight, str):
            return Lowering(name, "", product.reason or str(weight))
        form = self._form(product, weight)
        if form == "blocks":
            return self._blocks(product, weight)
        if form == "columns":
            return self._columns(product, weight)
        return self._both(product, weight)

    def _form(self, product: LowBitProduct, weight: LowBitWeight) -> str:
        exact = self.operands.blocks(product.maker, product.k_axis, exact=True)
        rows = product.static_rows
        if self.options.exact:
            return "blocks"
        if exact is None or _wasteful(exact.bits, weight) or not _has_rank(product, exact.minimum):
            return "columns"
        if self.options.size_first or weight.codes.size < self.options.smallest:
            return "blocks"
        if rows is None:
            return "both"
        return "blocks" if rows < self.options.prefill_rows() else "columns"

    def _blocks(self, product: LowBitProduct, weight: LowBitWeight) -> Lowering:
        stored = self.operands.blocks(product.maker, product.k_axis, exact=True)
        grid = "" if stored is not None else ", on a grid of int8"
        stored = stored or self.operands.blocks(product.maker, product.k_axis, exact=False)
        assert stored is not None
        nodes = self.kernels.decode(product.activation, stored, product.bias, str(product.node.name))
        product.replace_by(nodes)
        reason = f"{_bits(stored.size_bytes, weight)} bits a weight, block {stored.block}{grid}"
        rounding = None if self.options.exact and not grid else BLOCK_ROUNDING_DB
        return Lowering(str(product.node.name), "MatMulNBits", reason, rounding_db=rounding)

    def _columns(self, product: LowBitProduct, weight: LowBitWeight) -> Lowering:
        stored = self.operands.columns(product.maker, product.k_axis)
        name = str(product.node.name)
        product.replace_by(self.kernels.prefill(product.activation, stored, product.bias, name))
        reason = f"{_bits(stored.size_bytes, weight)} bits a weight, as int8 columns"
        return Lowering(name, "DynamicQuantizeMatMul", reason, rounding_db=COLUMN_ROUNDING_DB)

    def _both(self, product: LowBitProduct, weight: LowBitWeight) -> Lowering:
        blocks = self.operands.blocks(product.maker, product.k_axis, exact=True)
        new = not self.operands.has_columns(product.maker, product.k_axis)
        columns = self.operands.columns(product.maker, product.k_axis)
        assert blocks is not None
        name, x = str(product.node.name), product.activation
        output = product.last.outputs[0].name
        decode = branch(self.kernels.decode(x, blocks, product.bias, f"{name}_decode"), f"{output}_decode")
        prefill = branch(
            self.kernels.prefill(x, columns, product.bias, f"{name}_prefill"), f"{output}_prefill"
        )
        self.choices.append(either(self._few_rows(product), decode, prefill, name))
        product.replace_by(self.choices[-1:])
        rows = self.options.prefill_rows()
        reason = (
            f"{_bits(blocks.size_bytes, weight)} bits a weight below {rows} rows, "
            f"{_bits(columns.size_bytes, weight)} more for int8 from there on"
        )
        return Lowering(
            name,
            "If(MatMulNBits, DynamicQuantizeMatMul)",
            reason,
            rounding_db=COLUMN_ROUNDING_DB,
            copy_bytes=columns.size_bytes if new else 0,
        )

    def _few_rows(self, product: LowBitProduct) -> ir.Value:
        """One condition for all products of an activation in a graph."""
        graph = graph_of(product.node.outputs[0])
        key = product.activation, graph
        if key not in self._conditions:
            nodes = self.kernels.few_rows(product.activation, self.options.prefill_rows(), product.k)
            graph.insert_before(product.node, nodes)
            self._conditions[key] = nodes[-1].outputs[0]
        return self._conditions[key]


def _wasteful(bits: int, weight: LowBitWeight) -> bool:
    """Whether 8-bit blocks hold codes of 5 bits or fewer: int8 columns lose less than those have lost already."""
    return bits == 8 and int(weight.codes.max(initial=0)) < 32


def _has_rank(product: LowBitProduct, minimum: ir.Value | None) -> bool:
    return minimum is None or product.activation.shape is not None


def _bits(size_bytes: int, weight: LowBitWeight) -> str:
    return f"{8 * size_bytes / max(weight.codes.size, 1):.2f}"
