"""3-bit codes in 3 bits: the nodes give the kernel's bytes, which compute what they did; what does not fit is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qcompiler
from qcompiler.backends.onnxruntime.packed_blocks import BLOCKS, fits_three_bits, pack_blocks
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.graph.qdq import add_initializer
from tests.passes.graphs import graph, normal

Bytes = npt.NDArray[np.uint8]


def blocks_of(low: int, shape: tuple[int, ...], seed: int = 0) -> Bytes:
    """Bytes of two codes in ``low .. low + 7`` each, both ends among them."""
    codes = np.random.default_rng(seed).integers(low, low + 8, (2, *shape)).astype(np.uint8)
    codes.reshape(2, -1)[:, 0] = low, low + 7
    return np.asarray(codes[0] | (codes[1] << np.uint8(4)), np.uint8)


def reading(blocks: Bytes) -> ir.Model:
    """A model whose output is the bytes in float."""
    owner = ir.Graph([], [], nodes=[], opset_imports={"": 18}, name="net")
    value = add_initializer(owner, "w_blocks", blocks)
    value.meta[BLOCKS] = True
    owner.append(ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name="read"))
    output = owner[-1].outputs[0]
    output.name, output.type = "y", ir.TensorType(ir.DataType.FLOAT)
    owner.outputs.append(output)
    return ir.Model(owner, ir_version=10)


@given(st.integers(0, 8), st.sampled_from([(1, 1, 8), (3, 2, 16), (5, 4)]), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_nodes_give_back_the_bytes(low: int, shape: tuple[int, ...], seed: int) -> None:
    blocks = blocks_of(low, shape, seed)
    model = reading(blocks)
    assert pack_blocks(model) == ["w_blocks"]
    planes = [
        value.const_value
        for name, value in model.graph.initializers.items()
        if name in ("packed0_two", "packed0_one")
    ]
    assert sum(plane.nbytes for plane in planes if plane is not None) * 4 == blocks.size * 3
    found = open_model(model, session_options(threads=1, optimize=False)).run({})["y"]
    np.testing.assert_array_equal(found, blocks)


@pytest.mark.parametrize(
    "blocks", [np.full((1, 1, 8), 0x80, np.uint8), np.zeros((1, 1, 6), np.uint8), np.zeros((0,), np.uint8)]
)
def test_what_does_not_fit_stays_as_it_is(blocks: Bytes) -> None:
    assert not fits_three_bits(blocks)
    assert pack_blocks(reading(blocks)) == []


def product() -> ir.Model:
    return graph(
        '<ir_version: 10, opset_import: ["" : 21]> net (float[N, 256] x) => (float[N, 320] y) '
        "{ h = MatMul (x, w) r = Relu (h) y = MatMul (r, v) }",
        {"w": normal(256, 256, scale=0.1), "v": normal(256, 320, seed=1, scale=0.1)},
    )


@pytest.mark.parametrize("words", ["int3", "int3:symmetric=true"])
@pytest.mark.parametrize("target", ["ort-cpu:size_first=true", "ort-cpu:prefill_rows=8"])
def test_packed_files_are_smaller_and_compute_the_same(words: str, target: str, tmp_path: Path) -> None:
    options = qcompiler.CompileOptions(verify="numerics")
    plain, packed = (
        qcompiler.compile(product(), words, target=name, output=tmp_path / str(index), options=options)
        for index, name in enumerate((target, f"{target}:packed=true"))
    )
    weights = 256 * 256 + 256 * 320
    nodes = 3000  # bytes that they take
    saved = plain.path.stat().st_size - packed.path.stat().st_size
    assert weights / 8 - nodes < saved < weights / 8
    assert [item.kernel for item in packed.kernels] == [item.kernel for item in plain.kernels]
    assert all(item.integer for item in packed.kernels)
    assert packed.legalized.fusions["3-bit codes packed"] == 2
    for rows in (1, 20):
        x = normal(rows, 256, seed=rows)
        first, second = (
            item.target.session(item.path).run({"x": x})["y"] for item in (plain, packed)
        )  # the same kernels read the same bytes
        np.testing.assert_array_equal(first, second)


def test_it_is_said_where_there_is_nothing_to_pack(tmp_path: Path) -> None:
    options = qcompiler.CompileOptions(verify="none")
    for words in ("int4", "int8_dynamic"):
        result = qcompiler.compile(
            product(), words, target="ort-cpu:packed=true", output=tmp_path / words, options=options
        )
        assert "packed" in result.legalized.without_effect
