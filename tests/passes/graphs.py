"""Small graphs with random weights for the tests of the passes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

Arrays = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]


def graph(text: str, constants: Arrays) -> ir.Model:
    """A model from ONNX text whose undefined names are the given constants."""
    model = ir.from_onnx_text(
        text, initializers=[ir.tensor(array, name=name) for name, array in constants.items()]
    )
    for index, node in enumerate(model.graph.all_nodes()):
        node.name = node.name or f"{node.op_type}_{index}"
    ShapeInferencePass()(model)
    return model


def normal(
    *shape: int, seed: int = 0, scale: float = 1.0
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def convolutions() -> ir.Model:
    """Conv, Relu, a residual Add, pooling and Gemm: what a small residual network is made of."""
    return graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 8, 8, 8] x) => (float[N, 4] y)
        {
            first = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            active = Relu (first)
            second = Conv <pads = [1, 1, 1, 1]> (active, w2, b2)
            sum = Add (second, active)
            active2 = Relu (sum)
            third = Conv (active2, w3)
            pooled = GlobalAveragePool (third)
            flat = Flatten (pooled)
            y = Gemm <transB = 1> (flat, w4, b4)
        }
        """,
        {
            "w1": normal(8, 8, 3, 3, seed=1, scale=0.2),
            "b1": normal(8, seed=2),
            "w2": normal(8, 8, 3, 3, seed=3, scale=0.2),
            "b2": normal(8, seed=4),
            "w3": normal(8, 8, 1, 1, seed=5, scale=0.4),
            "w4": normal(4, 8, seed=6),
            "b4": normal(4, seed=7),
        },
    )


def perceptron() -> ir.Model:
    """MatMul, bias, Relu, MatMul, bias on ``[N, T, 16]``, and a MatMul of two activations."""
    return graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, T, 16] x) => (float[N, T, 16] y, float[N, T, T] scores)
        {
            up = MatMul (x, w1)
            biased = Add (up, b1)
            active = Relu (biased)
            down = MatMul (active, w2)
            y = Add (down, b2)
            turned = Transpose <perm = [0, 2, 1]> (y)
            scores = MatMul (y, turned)
        }
        """,
        {
            "w1": normal(16, 32, seed=1, scale=0.3),
            "b1": normal(32, seed=2),
            "w2": normal(32, 16, seed=3, scale=0.3),
            "b2": normal(16, seed=4),
        },
    )
