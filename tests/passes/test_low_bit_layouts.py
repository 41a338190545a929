"""Every layout of a weight in few bits, compiled: the file computes with what the codes stand for, or says why not.

The reference decodes codes one by one, puts them into the float model by hand, and lets the runtime multiply.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.backends.onnxruntime.session import open_file, open_model, session_options
from qcompiler.graph.low_bit import StoredWeight, store_low_bit
from qcompiler.graph.weighted import WeightedNode
from qcompiler.low_bit import write
from qcompiler.numerics.formats.base import Codes, Format, Grid
from qcompiler.numerics.gptq import Order
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.registry import pass_class, pass_table
from tests.passes.graphs import graph, normal

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Feed = dict[str, np.ndarray[tuple[int, ...], np.dtype[Any]]]
OPTIONS = qcompiler.CompileOptions(verify="none")

LAYOUTS = {
    "several groups, the last short": ("(float[R, 72] x)", "y = MatMul (x, w)", (72, 8)),
    "one output": ("(float[R, 72] x)", "y = MatMul (x, w)", (72, 1)),
    "one input": ("(float[R, 1] x)", "y = MatMul (x, w)", (1, 8)),
    "less than a group": ("(float[R, 5] x)", "y = MatMul (x, w)", (5, 8)),
    "more than a super-block": ("(float[R, 300] x)", "y = MatMul (x, w)", (300, 5)),
    "a super-block": ("(float[R, 256] x)", "y = MatMul (x, w)", (256, 16)),
    "Gemm": ("(float[R, 72] x)", "y = Gemm (x, w, b)", (72, 8)),
    "Gemm transB": ("(float[R, 72] x)", "y = Gemm <transB = 1> (x, w, b)", (8, 72)),
    "table": ("(int64[R] ids)", "y = Gather (w, ids)", (50, 40)),
    "tied table": ("(int64[R] ids)", "e = Gather (w, ids)  y = Gemm <transB = 1> (e, w)", (50, 72)),
    "shared": ("(float[R, 40] x)", "a = MatMul (x, w)  r = Relu (a)  y = MatMul (r, w)", (40, 40)),
    "Conv 1x1": ("(float[R, 40, 3, 3] x)", "y = Conv (x, w, b)", (8, 40, 1, 1)),
    "Conv 3x3": ("(float[R, 8, 5, 5] x)", "y = Conv <pads = [1, 1, 1, 1]> (x, w)", (6, 8, 3, 3)),
    "Conv of two groups": ("(float[R, 8, 5, 5] x)", "y = Conv <group = 2> (x, w)", (6, 4, 3, 3)),
    "Conv 1-D, shared": ("(float[R, 40, 9] x)", "a = Conv (x, w)  y = Conv (a, w)", (40, 40, 3)),
}
FORMATS = [name for name in pass_table() if issubclass(pass_class(name), WeightOnly) and "gpt" not in name]
VARIANTS = (
    "int8:symmetric=false",
    "int4:symmetric=true",
    "int4:group=0",
    "int2:symmetric=true",
    "nf4:group=0",
)
DOUBLE = ("nf4:double_quantized=true", "nf4:double_quantized=true:solver=hqq", "int4:solver=k_quant")
SOLVED = ("gptq", "gptaq:static_groups=false:bits=3", "q2_k:solver=gptaq", "nvfp4:solver=gptq")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("words", [*FORMATS, *VARIANTS, *DOUBLE, *SOLVED])
def test_portable_files_compute_with_what_the_codes_stand_for(
    words: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, expected = compiled(layout, words, "onnx", tmp_path, monkeypatch)
    # The same products, of weights rounded once in float32 more or less.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("words", ["int4", "int3:symmetric=true", "int8", "gptaq", "nf4", "q2_k", "fp8"])
def test_deployed_files_do_so_too(
    words: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, expected = compiled(layout, words, "ort-cpu:exact=true", tmp_path, monkeypatch)
    # Sums of up to 360 products in the order of the runtime's kernels.  Levels that are no integers, and minima of a
    # short last block, lie on a grid of 255 values: 1/254/sqrt(12) of the largest of a block, 0.6 % of a usual one.
    on_grid = words in ("nf4", "q2_k", "fp8")
    assert np.linalg.norm(found - expected) < (0.015 if on_grid else 1e-5) * np.linalg.norm(expected)


@pytest.mark.parametrize("words", ["int4", "int2", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"])
def test_rounded_activations_cost_little(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = compiled("a super-block", words, "ort-cpu:size_first=true", tmp_path, monkeypatch)
    # 1/254/sqrt(12) of the largest of a block, 2.5 to 3 times a usual value, and as much for q5_k's int8 columns.
    assert np.linalg.norm(found - expected) < 0.015 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        ("(float[72, R] x) => (float[R, 8] y) { y = Gemm <transA = 1> (x, w) }", (72, 8), "transA"),
        ("(float[R, 72] x) => (float[R, 8] y) { y = Gemm <alpha = 0.5> (x, w) }", (72, 8), "alpha"),
        ("(float[72, R] x) => (float[8, R] y) { y = MatMul (w, x) }", (8, 72), "left operand"),
        ("(float[3, R, 72] x) => (float[3, R, 8] y) { y = MatMul (x, w) }", (3, 72, 8), "3 axes"),
        ("(float[R, 72] x) => (float[R] y) { y = MatMul (x, w) }", (72,), "1 axis"),
        ("(int64[R] ids) => (float[72, R] y) { y = Gather <axis = 1> (w, ids) }", (72, 50), "along axis 1"),
        ("(float[R, 8, 5, 5] x) => (float[R, 8, 3, 3] y) { y = Conv <group = 8> (x, w) }", (8, 1, 3, 3), "depthwise"),
        ("(float[R, 8, 5, 5] x) => (float[R, 6, 7, 7] y) { y = ConvTranspose (x, w) }", (8, 6, 3, 3), "transposed"),
    ],
)  # fmt: skip
def test_what_stays_in_float_says_why(text: str, shape: tuple[int, ...], reason: str, tmp_path: Path) -> None:
    model = graph(f'<ir_version: 10, opset_import: ["" : 21]> net {text}', {"w": normal(*shape)})
    result = qcompiler.compile(model, "int4", target="onnx", output=tmp_path, options=OPTIONS)
    ((decision,),) = (report.nodes for report in result.passes)
    assert decision.action == "skipped"
    assert reason in decision.detail


def compiled(
    layout: str, words: str, target: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Array, Array]:
    """The first output of the compiled model, and of the float model with decoded weights in the place of its own."""
    inputs, body, shape = LAYOUTS[layout]
    constants = {"w": normal(*shape, scale=0.2), "b": normal(8, seed=3)}
    used = {name: array for name, array in constants.items() if f"{name})" in body or f"{name}," in body}
    text = f'<ir_version: 10, opset_import: ["" : 21]> net {inputs} => (float y) {{ {body} }}'
    model = graph(text, dict(used))
    decoded = recording(monkeypatch)
    calibration = [feed_of(model, seed) for seed in range(3)] if "gpt" in words else None
    result = qcompiler.compile(
        model, words, target=target, calibration=calibration, output=folder, options=OPTIONS
    )
    assert {item.action for report in result.passes for item in report.nodes} == {"quantized"}
    model.graph.initializers["w"].const_value = ir.tensor(decoded["w"], name="w")
    feed, exact = feed_of(model, 9), session_options(threads=1, optimize=False)
    usual = exact if target == "onnx" else session_options(threads=1)
    found, expected = open_file(result.path, usual).run(feed), open_model(model, exact).run(feed)
    return found["y"].astype(np.float32), expected["y"].astype(np.float32)


def feed_of(model: ir.Model, seed: int, rows: int = 24) -> Feed:
    value = model.graph.inputs[0]
    assert value.shape is not None
    shape = [rows, *(int(size) for size in value.shape.dims[1:] if isinstance(size, int))]
    rng = np.random.default_rng(seed)
    integers = value.dtype == ir.DataType.INT64
    return {
        str(value.name): rng.integers(0, 50, shape) if integers else rng.normal(size=shape).astype(np.float32)
    }


def recording(monkeypatch: pytest.MonkeyPatch) -> dict[str, Array]:
    """Decoded weights as they are stored, by name, one code after another."""
    decoded: dict[str, Array] = {}

    def store(
        model: ir.Model, view: WeightedNode, stored: Format, codes: Codes, grid: Grid, **given: Any
    ) -> StoredWeight:
        order: Order | None = given.get("order")
        matrix = slowly(stored, codes, grid)
        if order is not None:
            matrix[order] = matrix.copy()
        decoded[str(view.weight.name)] = laid_as(view, matrix)
        return store_low_bit(model, view, stored, codes, grid, **given)

    keep: Callable[..., StoredWeight] = store
    monkeypatch.setattr(write, "store_low_bit", keep)
    return decoded


def slowly(stored: Format, codes: Codes, grid: Grid) -> Array:
    values = np.empty(codes.shape, np.float32)
    size = stored.group or len(codes)
    for (k, n), code in np.ndenumerate(codes):
        offset = 0.0 if grid.offset is None else float(grid.offset[k // size, n])
        values[k, n] = float(grid.scale[k // size, n]) * float(stored.levels[code]) - offset
    return values


def laid_as(view: WeightedNode, matrix: Array) -> Array:
    """``[K, N]`` as the weight is stored."""
    shape = view.weight_shape
    if view.output_axis == 0:
        return np.ascontiguousarray(matrix.T).reshape(shape)
    return matrix.reshape(shape)
