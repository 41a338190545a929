"""Blocks of MatMulNBits whose 4-bit codes differ by 7 at most, in 3 bits in the file, put together when it is opened.

A byte of the kernel holds two codes, ``low + 2 * (2 bits) + (1 bit)`` each.  Both parts of both codes are taken out of
planes of bytes at once, so that what is computed is as long as the bytes that come out:

    (two >> {0, 2}) & 0x33,   (one >> {0, 1, 2, 3}) & 0x11,   blocks = low * 0x11 + 2 * twos + ones

The runtime folds these nodes of constants, so the kernel reads and packs the same bytes at the same speed.  While
a session is made it holds what each of them gives, 4 bytes a weight (``python -m benchmarks.narrow_weights``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.constant_chain import ConstantChain
from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.graph.weighted import array_of, shape_of

Bytes = npt.NDArray[np.uint8]

BLOCKS = "qcompiler.blocks"
"""``ir.Value.meta`` key of a constant of 4-bit blocks that may be stored in 3 bits."""

SHARING = 4
"""Bytes of blocks that share a byte of the plane of 1 bit: their number must be a multiple of it."""


def fits_three_bits(blocks: Bytes) -> bool:
    """Whether the 4-bit codes of ``blocks``, two in a byte, differ by 7 at most."""
    if blocks.size == 0 or blocks.size % SHARING:
        return False
    low, high = _range(blocks)
    return high - low <= 7


def pack_blocks(model: ir.Model) -> list[str]:
    """Replace every marked constant that fits by the nodes that make it of 3 bits a code; return their names."""
    marked = [
        value
        for graph in model.graphs()
        for value in graph.initializers.values()
        if BLOCKS in value.meta and fits_three_bits(_bytes(value))
    ]
    for index, value in enumerate(marked):
        _pack(value, f"packed{index}")
    return [str(value.name) for value in marked]


def planes(blocks: Bytes) -> tuple[int, Bytes, Bytes]:
    """``low``, and the planes of 2 bits ``[1, 2, R]`` and of 1 bit ``[1, 1, R]`` of ``blocks`` of 4 R bytes."""
    low, _ = _range(blocks)
    flat = (blocks.reshape(-1) - np.uint8(low * 0x11)).reshape(2, 2, -1)
    twos, ones = (flat >> 1) & np.uint8(0x33), flat & np.uint8(0x11)
    two = twos[0] | (twos[1] << 2)
    one = ones[0, 0] | (ones[0, 1] << 1) | (ones[1, 0] << 2) | (ones[1, 1] << 3)
    return low, two[np.newaxis], one[np.newaxis, np.newaxis]


def _pack(value: ir.Value, prefix: str) -> None:
    graph, name, shape = graph_of(value), str(value.name), shape_of(value)
    low, two, one = planes(_bytes(value))
    chain = ConstantChain(graph, prefix)

    def shared(suffix: str, array: npt.NDArray[np.generic]) -> ir.Value:
        known = graph.initializers.get(f"packed_{suffix}")
        same = known is not None and np.array_equal(array_of(known), array)
        return known if known is not None and same else add_initializer(graph, f"packed_{suffix}", array)

    def made(op: str, left: ir.Value, right: ir.Value, suffix: str) -> ir.Value:
        attributes = {"direction": "RIGHT"} if op == "BitShift" else {}
        result = chain.node(op, [left, right], attributes, suffix)
        result.type = None
        return result

    two_shifts = shared("shifts_of_two", np.array([0, 2], np.uint8).reshape(2, 1, 1))
    one_shifts = shared("shifts_of_one", np.arange(4, dtype=np.uint8).reshape(2, 2, 1))
    twos = made("BitShift", chain.array("two", two), two_shifts, "two_spread")
    twos = made("BitwiseAnd", twos, shared("mask_of_two", np.array(0x33, np.uint8)), "twos")
    ones = made("BitShift", chain.array("one", one), one_shifts, "one_spread")
    ones = made("BitwiseAnd", ones, shared("mask_of_one", np.array(0x11, np.uint8)), "ones")
    joined = made("Add", made("Add", twos, twos, "doubled"), ones, "joined")
    if low:
        joined = made("Add", joined, shared(f"low_{low}", np.array(low * 0x11, np.uint8)), "raised")
    target = shared(f"shape_{'_'.join(map(str, shape))}", np.array(shape, np.int64))
    blocks = made("Reshape", joined, target, "blocks")
    chain.insert()
    value.replace_all_uses_with(blocks, replace_graph_outputs=True)
    graph.initializers.pop(name)
    blocks.name, blocks.type, blocks.shape = name, ir.TensorType(ir.DataType.UINT8), ir.Shape(shape)


def _bytes(value: ir.Value) -> Bytes:
    return np.asarray(array_of(value), np.uint8)


def _range(blocks: Bytes) -> tuple[int, int]:
    """Smallest and largest code."""
    halves = (blocks & np.uint8(15), blocks >> np.uint8(4))
    return min(int(half.min()) for half in halves), max(int(half.max()) for half in halves)
