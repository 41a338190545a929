"""int8 codes of weights that a file holds in 3 to 6 bits, and the nodes that widen them when a session is made.

    code8 = ratio * (code - zero)

Between passes and targets the codes are a plain int8 constant, so that everything that knows int8 knows them; what the
file shall hold in their place waits at the constant.  A target writes it as its last step, in standard operators of
constants alone, which a runtime that folds constants computes once:

    Cast(uint4) [-> Mul 2**n, Add low bits -> Cast] -> Sub(zero) -> Mul(ratio) -> Reshape [-> Slice]

While a session of ONNX Runtime is made it holds what each of these nodes gives, 4 to 10 bytes a weight; then int8.

Low bits of 5 and 6 bit codes, and all of 3 bit codes, lie in planes of 1 and 2 bits in bytes, read with BitShift and
BitwiseAnd.  Code i of a plane of P codes a byte is in byte ``i % R``, R = ceil(count / P): each shift moves long rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.constant_chain import ConstantChain
from qcompiler.graph.low_bit_codes import integer_tensor
from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.graph.weighted import WeightedNode, array_of, shape_of
from qcompiler.numerics.formats.base import Codes, Grid
from qcompiler.numerics.formats.progressive import RATIO, Progressive

NARROW = "qcompiler.narrow_codes"
"""``ir.Value.meta`` key of an int8 constant: the :class:`NarrowCodes` that a file holds in its place."""

LEAST_OPSET = 21
"""Of Cast from uint4."""

PLANES = {3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2)}
"""Bits of the planes that a code is cut into, the highest first."""

_UINT8, _INT8 = ir.DataType.UINT8, ir.DataType.INT8
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class NarrowCodes:
    """What a file holds of one weight.

    Attributes:
        bits: of a code.
        planes: of ``PLANES[bits]``: uint4 codes, or bytes ``[1, R]`` of narrower ones.
        zero, ratio: of the groups, broadcasting against ``grouped``; ``ratio`` is None where all are 1.
        grouped: shape of the codes with their groups apart.
        rows: weights along the grouped axis without what fills the last group.
        axis: the grouped axis, 0 or 1, of the matrix.
        shape: of the weight.
    """

    bits: int
    planes: tuple[ir.TensorProtocol, ...]
    zero: Bytes
    ratio: Bytes | None
    grouped: tuple[int, ...]
    rows: int
    axis: int
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of planes, zero points and ratios in the file."""
        halves = self.zero.size if self.bits <= 4 else 2 * self.zero.size
        halves += 0 if self.ratio is None else self.ratio.size
        return sum(plane.nbytes for plane in self.planes) + -(-halves // 2)


def narrow_codes(view: WeightedNode, stored: Progressive, codes: Codes, grid: Grid) -> NarrowCodes:
    """Pack ``codes [K, N]`` of a weight whose output axis is its first, or the second of two."""
    rows, columns = codes.shape
    size = stored.group or rows
    groups = -(-rows // size)
    assert grid.zero_point is not None
    filled = np.repeat(grid.zero_point[-1:], groups * size, axis=0)
    filled[:rows] = codes
    apart = filled.reshape(groups, size, columns)
    zero, ratio = grid.zero_point[:, np.newaxis], np.asarray(grid.parts[RATIO], np.uint8)[:, np.newaxis]
    turned = view.output_axis == 0
    if turned:
        apart, zero, ratio = (np.ascontiguousarray(part.transpose(2, 0, 1)) for part in (apart, zero, ratio))
    return NarrowCodes(
        stored.bits,
        tuple(_plane_tensor(plane, width) for plane, width in _planes(apart, stored.bits)),
        zero,
        None if (ratio == 1).all() else ratio,
        apart.shape,
        rows,
        int(turned),
        view.weight_shape,
    )


def narrow_of(value: ir.Value | None) -> NarrowCodes | None:
    """What a file shall hold in the place of an int8 constant, if it is narrower."""
    found: NarrowCodes | None = None if value is None else value.meta.get(NARROW)
    return found


def store_narrow(model: ir.Model) -> list[str]:
    """Replace every constant that has narrow codes by the nodes that make it of them; return the constants' names.

    The result keeps the constant's name, so that the optimized graph of a runtime that folded them has it too.
    """
    found = [value for graph in model.graphs() for value in graph.initializers.values() if narrow_of(value)]
    for index, value in enumerate(found):
        _store(value, f"narrow{index}")
    return [str(value.name) for value in found]


def _store(value: ir.Value, prefix: str) -> None:
    narrow, graph, name = narrow_of(value), graph_of(value), str(value.name)
    assert narrow is not None
    made = _Widening(graph, ConstantChain(graph, prefix), narrow).insert()
    value.replace_all_uses_with(made, replace_graph_outputs=True)
    graph.initializers.pop(name)
    made.name, made.type, made.shape = name, ir.TensorType(_INT8), ir.Shape(shape_of(value))
    made.meta[NARROW] = narrow


@dataclass
class _Widening:
    """The nodes that make int8 codes of narrow ones.

    There are many: their names are short, and what lies between them has no type of its own in the file.
    """

    graph: ir.Graph
    chain: ConstantChain
    narrow: NarrowCodes

    def insert(self) -> ir.Value:
        """Put them first in the graph and return their result."""
        narrow = self.narrow
        zero, ratio = self._small("zero", narrow.zero, narrow.bits), narrow.ratio
        made = self._made("Sub", [self._joined(), zero], {}, "centred")
        if ratio is not None:
            made = self._made("Mul", [made, self._small("ratio", ratio, 4)], {}, "scaled")
        if narrow.rows != narrow.grouped[narrow.axis] * narrow.grouped[narrow.axis + 1]:
            made = self._trimmed(made)
        made = self._reshaped(made, narrow.shape, "wide")
        self.chain.insert()
        return made

    def _joined(self) -> ir.Value:
        """Codes in int8, their groups apart."""
        if self.narrow.bits == 4:
            return self._signed(self.chain.tensor("plane0", self.narrow.planes[0]), "codes")
        made: ir.Value | None = None
        for index, (tensor, width) in enumerate(
            zip(self.narrow.planes, PLANES[self.narrow.bits], strict=True)
        ):
            plane = self._plane(tensor, width, f"plane{index}")
            if made is None:
                made = plane
                continue
            step = self._shared(f"narrow_step_{width}", np.array(1 << width, np.uint8))
            raised = self._made("Mul", [made, step], {}, f"raised{index}")
            made = self._made("Add", [raised, plane], {}, f"joined{index}")
        assert made is not None
        return self._signed(made, "signed")

    def _plane(self, tensor: ir.TensorProtocol, width: int, suffix: str) -> ir.Value:
        packed = self.chain.tensor(suffix, tensor)
        if width == 4:
            return self._made("Cast", [packed], {"to": int(_UINT8)}, f"{suffix}_codes")
        places = np.arange(8 // width, dtype=np.uint8)[:, np.newaxis] * np.uint8(width)
        shifts = self._shared(f"narrow_shifts_{width}", places)
        mask = self._shared(f"narrow_mask_{width}", np.array((1 << width) - 1, np.uint8))
        spread = self._made("BitShift", [packed, shifts], {"direction": "RIGHT"}, f"{suffix}_spread")
        every = self._made("BitwiseAnd", [spread, mask], {}, f"{suffix}_bits")
        count = int(np.prod(self.narrow.grouped))
        if tensor.size * len(places) != count:
            every = self._sliced(self._reshaped(every, (-1,), f"{suffix}_flat"), 0, count, suffix)
        return self._reshaped(every, self.narrow.grouped, f"{suffix}_codes")

    def _small(self, suffix: str, array: Bytes, bits: int) -> ir.Value:
        """Zero points or ratios in int8, of uint4 where they fit."""
        if bits > 4:
            return self.chain.array(suffix, array.astype(np.int8))
        return self._signed(self.chain.tensor(suffix, integer_tensor(array, ir.DataType.UINT4)), f"{suffix}s")

    def _signed(self, value: ir.Value, suffix: str) -> ir.Value:
        return self._made("Cast", [value], {"to": int(_INT8)}, suffix)

    def _trimmed(self, value: ir.Value) -> ir.Value:
        """Without what fills the last group."""
        narrow = self.narrow
        filled = narrow.grouped[narrow.axis] * narrow.grouped[narrow.axis + 1]
        shape = (narrow.grouped[0], filled) if narrow.axis else (filled, narrow.grouped[2])
        return self._sliced(self._reshaped(value, shape, "filled"), narrow.axis, narrow.rows, "filled")

    def _sliced(self, value: ir.Value, axis: int, end: int, suffix: str) -> ir.Value:
        bounds = [
            self.chain.array(f"{suffix}_{word}", np.array([number], np.int64))
            for word, number in (("start", 0), ("end", end), ("axis", axis))
        ]
        return self._made("Slice", [value, *bounds], {}, f"{suffix}_part")

    def _reshaped(self, value: ir.Value, shape: tuple[int, ...], suffix: str) -> ir.Value:
        target = self._shared(f"narrow_shape_{'_'.join(map(str, shape))}", np.array(shape, np.int64))
        return self._made("Reshape", [value, target], {}, suffix)

    def _shared(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        """A constant that the nodes of other weights read too."""
        known = self.graph.initializers.get(name)
        same = known is not None and np.array_equal(array_of(known), array)
        return known if known is not None and same else add_initializer(self.graph, name, array)

    def _made(
        self, op: str, inputs: list[ir.Value], attributes: dict[str, int | str], suffix: str
    ) -> ir.Value:
        value = self.chain.node(op, inputs, attributes, suffix)
        value.type = None
        return value


def _planes(codes: Codes, bits: int) -> Iterator[tuple[Codes, int]]:
    """``codes`` cut into planes and their widths, the highest bits first."""
    below = bits
    for width in PLANES[bits]:
        below -= width
        yield (codes >> np.uint8(below)) & np.uint8((1 << width) - 1), width


def _plane_tensor(plane: Codes, width: int) -> ir.TensorProtocol:
    if width == 4:
        return integer_tensor(plane, ir.DataType.UINT4)
    places = 8 // width
    flat = np.zeros(-(-plane.size // places) * places, np.uint8)
    flat[: plane.size] = plane.reshape(-1)
    shifts = np.arange(places, dtype=np.uint8)[:, np.newaxis] * np.uint8(width)
    packed = np.bitwise_or.reduce(flat.reshape(places, -1) << shifts, axis=0, dtype=np.uint8)
    return ir.tensor(packed[np.newaxis])
