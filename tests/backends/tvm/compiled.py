"""A small network, compiled once for several tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

import qcompiler

WIDTH, INNER, CLASSES = 64, 96, 10
Array = npt.NDArray[Any]


def network() -> ir.Model:
    """x ``[N, 64]`` -> Gelu(x W1 + b1) W2 + b2 -> + x -> ReLU -> ``[N, 10]``."""
    generator = np.random.default_rng(0)

    def constant(name: str, *shape: int) -> ir.Value:
        array = generator.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[0]))
        return ir.Value(
            name=name,
            const_value=ir.tensor(array, name=name),
            shape=ir.Shape(shape),
            type=ir.TensorType(ir.DataType.FLOAT),
        )

    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["": 21]>
        mlp (float[N, {WIDTH}] x, float[{WIDTH}, {INNER}] w1, float[{INNER}] b1, float[{INNER}, {WIDTH}] w2,
             float[{WIDTH}] b2, float[{WIDTH}, {CLASSES}] w3) => (float[N, {CLASSES}] y) {{
            [first] m1 = MatMul(x, w1)
            a1 = Add(m1, b1)
            g = Gelu(a1)
            [second] m2 = MatMul(g, w2)
            a2 = Add(m2, b2)
            r = Add(a2, x)
            c = Relu(r)
            [third] y = MatMul(c, w3)
        }}"""
    )
    shapes = {
        "w1": (WIDTH, INNER),
        "b1": (INNER,),
        "w2": (INNER, WIDTH),
        "b2": (WIDTH,),
        "w3": (WIDTH, CLASSES),
    }
    for value in list(model.graph.inputs[1:]):
        assert value.name is not None
        filled = constant(value.name, *shapes[value.name])
        value.const_value = filled.const_value
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


def data(rows: int, seed: int = 0) -> dict[str, Array]:
    return {"x": np.random.default_rng(seed).standard_normal((rows, WIDTH), np.float32)}


def compiled(folder: Path, passes: str, target: str) -> qcompiler.CompileResult:
    """The network with ``passes``, calibrated on normal numbers and verified."""
    feeds = [data(8, seed) for seed in range(8)]
    return qcompiler.compile(network(), passes, calibration=feeds, target=target, output=folder)


def copied(folder: Path, passes: str, target: str) -> qcompiler.CompileResult:
    """What ``compiled`` gives, compiled once for all tests of a process that ask for it."""
    return _once(passes, target)[1].save(folder)


@functools.cache
def _once(passes: str, target: str) -> tuple[tempfile.TemporaryDirectory[str], qcompiler.CompileResult]:
    folder = tempfile.TemporaryDirectory()
    return folder, compiled(Path(folder.name), passes, target)
