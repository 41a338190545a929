"""Narrow codes: the nodes give back the int8 codes, take the bytes they say, and are folded when a session is made."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.graph.narrow_codes import NARROW, NarrowCodes, narrow_codes, narrow_of, store_narrow
from qcompiler.graph.qdq import add_initializer
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.numerics.formats.base import Search
from qcompiler.numerics.formats.progressive import WIDTHS, Progressive
from tests.passes.graphs import graph, normal


@dataclass(frozen=True)
class Packed:
    """int8 codes as a weight of two axes is stored, and the same narrow."""

    wide: npt.NDArray[np.int8]
    narrow: NarrowCodes


def view_of(shape: tuple[int, int], *, transposed: bool) -> WeightedNode:
    rows, columns = shape
    stored = (columns, rows) if transposed else shape
    header = '<ir_version: 10, opset_import: ["" : 21]> net'
    body = f"{{ y = Gemm <transB = {int(transposed)}> (x, w) }}"
    text = f"{header} (float[N, {rows}] x) => (float[N, {columns}] y) {body}"
    view = weighted(graph(text, {"w": normal(*stored)}).graph[0])
    assert view is not None
    return view


def packed(bits: int, group: int | None, shape: tuple[int, int], *, transposed: bool) -> Packed:
    fmt, view = Progressive(bits, group), view_of(shape, transposed=transposed)
    matrix = view.matrix()
    grid = fmt.fit(matrix, search=Search.MSE)
    codes = fmt.encode(matrix, grid)
    wide = fmt.wide_codes(codes, grid)
    return Packed(np.ascontiguousarray(wide.T if transposed else wide), narrow_codes(view, fmt, codes, grid))


def reading(item: Packed) -> ir.Model:
    """A model whose output is the codes in float."""
    owner = ir.Graph([], [], nodes=[], opset_imports={"": 21}, name="net")
    codes = add_initializer(owner, "w_quantized", item.wide)
    codes.meta[NARROW] = item.narrow
    owner.append(ir.node("Cast", [codes], {"to": int(ir.DataType.FLOAT)}, name="read"))
    output = owner[-1].outputs[0]
    output.name, output.type = "y", ir.TensorType(ir.DataType.FLOAT)
    owner.outputs.append(output)
    return ir.Model(owner, ir_version=10)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("bits", "group", "shape"),
    list(itertools.product(WIDTHS, (16, None), ((64, 8), (27, 7), (33, 5)))),
)
def test_the_nodes_give_back_the_codes(
    bits: int, group: int | None, shape: tuple[int, int], transposed: bool
) -> None:
    item = packed(bits, group, shape, transposed=transposed)
    model = reading(item)
    assert store_narrow(model) == ["w_quantized"]
    assert not any(value.dtype == ir.DataType.FLOAT for value in model.graph.initializers.values())
    found = open_model(model, session_options(threads=1, optimize=False)).run({})["y"]
    np.testing.assert_array_equal(found, item.wide)


@pytest.mark.parametrize("bits", WIDTHS)
def test_they_take_the_bytes_of_their_bits(bits: int) -> None:
    item = packed(bits, 32, (64, 16), transposed=True)
    per_weight = 8 * item.narrow.nbytes / item.wide.size
    assert per_weight == Progressive(bits, 32).bits_per_weight(64, 16) - 32 / 64  # its scales are elsewhere
    model = reading(item)
    store_narrow(model)
    constants = [value.const_value for value in model.graph.initializers.values()]
    small = 100  # shapes, shifts and masks
    assert 0 <= sum(constant.nbytes for constant in constants if constant) - item.narrow.nbytes < small


def test_what_makes_the_codes_still_says_so_and_is_not_stored_again() -> None:
    model = reading(packed(4, 16, (64, 8), transposed=False))
    store_narrow(model)
    codes = model.graph[-1].inputs[0]
    assert codes is not None
    assert codes.name == "w_quantized"
    assert narrow_of(codes) is not None
    assert store_narrow(model) == []


def test_wide_constants_stay_as_they_are() -> None:
    model = reading(packed(4, 16, (64, 8), transposed=False))
    model.graph.initializers["w_quantized"].meta.clear()
    assert store_narrow(model) == []
    assert len(model.graph) == 1
