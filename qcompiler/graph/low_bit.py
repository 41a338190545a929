"""Putting weights of few bits into the graph: the dialect that every target reads.

| codes | node | w |
|---|---|---|
| integers, float8 | ``DequantizeLinear(codes, scale, zero_point?) {axis, block_size}`` | scale (codes - zero_point) |
| indices of levels | ``qcompiler::DequantizeTable(codes, table, scale) {axis, block_size}`` | scale table[codes] |
| integers with an offset | ``qcompiler::DequantizeMin(codes, scale, min) {axis, block_size}`` | scale codes - min |

A weight stored ``[K, N]`` has its groups along axis 0, one stored ``[N, K]`` (transposed, or a table of rows) along
axis 1.  A convolution's codes are ``[M, K]`` with a Reshape behind them.  One scale a column is 1-D and has no
``block_size``.  Scales are float32 that float16 holds exactly where the format says so; targets store them in half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import UnsupportedError
from qcompiler.graph.constant_chain import ConstantChain
from qcompiler.graph.functions import DOMAIN
from qcompiler.graph.low_bit_codes import Container, code_tensor, container_of, integer_tensor
from qcompiler.graph.low_bit_functions import MIN, TABLE, require_function
from qcompiler.graph.low_bit_scales import laid_out, min_value, scale_value
from qcompiler.graph.qdq import FLOAT_WEIGHT, graph_of
from qcompiler.graph.weighted import WeightedNode
from qcompiler.numerics.formats.base import Codes, Format, Grid

FORMAT = "qcompiler.format"
"""Metadata key of the node that makes a weight of its codes: the format's name."""

BITS = "qcompiler.bits"
"""Bits a weight, with scales, zero points and padding, as the format packs them."""

CODE_BITS = "qcompiler.code_bits"
"""Bits of a code alone, as the format packs it; its tensor may be wider."""

Order = npt.NDArray[np.int64]


def low_bit_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes that make weights of codes, and those before them that make their scales."""
    found: dict[ir.Node, None] = {}
    waiting = [node for node in model.graph.all_nodes() if FORMAT in node.metadata_props]
    while waiting:
        node = waiting.pop()
        found[node] = None
        waiting += [
            made for value in node.inputs if value is not None and (made := value.producer()) is not None
        ]
    return list(found)


def low_bit_totals(model: ir.Model) -> tuple[int, float]:
    """How many weights of a model are stored in low-bit formats, and the bits that these take in all."""
    weights, bits = 0, 0.0
    for node in model.graph.all_nodes():
        shape = node.outputs[0].shape if BITS in node.metadata_props else None
        if shape is not None:
            size = math.prod(shape.numpy())
            weights, bits = weights + size, bits + size * float(node.metadata_props[BITS])
    return weights, bits


@dataclass(frozen=True)
class StoredWeight:
    """What was put into the graph.

    Attributes:
        value: the dequantized weight, laid out as the float one.
        bits: bits a weight, with scales, zero points and padding, as the format packs them.
        container_bits: bits a code takes in the file.
    """

    value: ir.Value
    bits: float
    container_bits: int


def store_low_bit(
    model: ir.Model,
    view: WeightedNode,
    stored: Format,
    codes: Codes,
    grid: Grid,
    *,
    tied: Sequence[WeightedNode] = (),
    order: Order | None = None,
) -> StoredWeight:
    """Let ``view``, and the ``tied`` nodes that read the same weight, read it from ``codes [K, N]`` and ``grid``.

    Args:
        model: gets the functions that it needs.
        view: MatMul, Gemm, Gather or Conv.
        stored: the format.
        codes: indices of the format's levels.
        grid: scales and offsets of the groups of ``codes``.
        tied: others whose groups run along the same axis of the same weight.
        order: row i of ``codes`` is row ``order[i]`` of the weight; the caller gathers the activation likewise.

    Raises:
        UnsupportedError: the weight, and so its scale, holds NaN or infinity.
    """
    if not np.isfinite(grid.scale).all():
        raise UnsupportedError(
            f"{view.weight.name!r} holds NaN or infinity, which no code stands for; "
            f"leave it in float with --exclude {view.name!r}."
        )
    container = container_of(stored, model.graph.opset_imports[""])
    value = _dequantized(model, view, stored, container, codes, grid)
    value.meta[FLOAT_WEIGHT] = view.weight.const_value if order is None else _reordered(view, order)
    for reader in (view, *tied):
        node, index = reader.weight_reader
        node.replace_input_with(index, value)
    return StoredWeight(value, stored.bits_per_weight(*codes.shape), container.bits)


def _dequantized(
    model: ir.Model, view: WeightedNode, stored: Format, container: Container, codes: Codes, grid: Grid
) -> ir.Value:
    """The weight's value, made of codes by nodes that are in the graph."""
    chain = ConstantChain(graph_of(view.weight), str(view.weight.name))
    shape = view.weight_shape
    axis = 1 if view.output_axis == 0 else 0
    laid = codes.T if axis else codes
    name, domain = _operator(container, grid)
    if domain:
        require_function(model, name)
    flat = not domain and grid.scale.shape[0] == 1
    operands = _operands(chain, stored, container, laid, grid, axis=axis, flat=flat)
    attributes = {"axis": 1 - axis} if flat else {"axis": axis, "block_size": stored.group or codes.shape[0]}
    value = chain.node(name, operands, attributes, "dequantized", laid.shape, domain=domain)
    _describe(value.producer(), stored, codes)
    if len(shape) > 2:
        target = chain.array("shape", np.array(shape, np.int64))
        value = chain.node("Reshape", [value, target], {}, "reshaped", shape)
    chain.insert()
    return value


def _operator(container: Container, grid: Grid) -> tuple[str, str]:
    """Name and domain of what turns the codes into weights."""
    if container.table is not None:
        return TABLE, DOMAIN
    return (MIN, DOMAIN) if grid.offset is not None and grid.zero_point is None else ("DequantizeLinear", "")


def _operands(
    chain: ConstantChain,
    stored: Format,
    container: Container,
    codes: Codes,
    grid: Grid,
    *,
    axis: int,
    flat: bool,
) -> list[ir.Value]:
    operands = [chain.tensor("quantized", code_tensor(codes, stored, container))]
    if container.table is not None:
        operands.append(chain.array("table", container.table))
    operands.append(scale_value(chain, stored, grid, axis, flat=flat))
    if grid.zero_point is not None:
        zero = grid.zero_point.reshape(-1) if flat else laid_out(grid.zero_point, axis)
        operands.append(chain.tensor("zero_point", integer_tensor(zero, container.dtype)))
    elif grid.offset is not None:
        operands.append(min_value(chain, stored, grid, axis))
    return operands


def _describe(node: ir.Node | None, stored: Format, codes: Codes) -> None:
    assert node is not None
    bits = f"{stored.bits_per_weight(*codes.shape):.4f}"
    node.metadata_props.update({FORMAT: stored.name, BITS: bits, CODE_BITS: str(stored.code_bits)})


def _reordered(view: WeightedNode, order: Order) -> ir.TensorProtocol:
    """The float weight with its rows as the codes have them, made when it is asked for."""
    tensor, axis = view.weight.const_value, view.input_axis
    assert tensor is not None
    assert axis is not None
    return ir.LazyTensor(
        lambda: ir.tensor(np.take(tensor.numpy(), order, axis=axis)),
        dtype=tensor.dtype,
        shape=ir.Shape(list(view.weight_shape)),
    )
