"""Small graphs with a residual stream."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

WIDTH = 8
Array = npt.NDArray[np.generic]

BLOCK = """
    norm_{i} = LayerNormalization <axis = -1> (h_{i}, gain_{i})
    q_{i} = MatMul(norm_{i}, wq_{i})
    k_{i} = MatMul(norm_{i}, wk_{i})
    both_{i} = Mul(q_{i}, k_{i})
    masked_{i} = Add(both_{i}, mask)
    o_{i} = MatMul(masked_{i}, wo_{i})
    h_{j} = Add(h_{i}, o_{i})
"""


def residual_model(blocks: int = 3) -> ir.Model:
    """Embedding, ``blocks`` of (norm, q and k, o, residual add), and a head; each with a present.* of its own."""
    rng = np.random.default_rng(0)
    body = "mask = Cast <to = 1> (tokens_mask) h_0 = Gather(table, ids)"
    body += "".join(BLOCK.format(i=i, j=i + 1) for i in range(blocks))
    body += f"logits = MatMul(h_{blocks}, head)"
    outputs = ", ".join(f"float[B, T, {WIDTH}] k_{i}" for i in range(blocks))
    text = (
        f'<ir_version: 10, opset_import: ["" : 21]> net (int64[B, T] ids, int64[B, T, 1] tokens_mask) '
        f"=> (float[B, T, 5] logits, {outputs}) {{ {body} }}"
    )
    constants = {"table": rng.normal(size=(11, WIDTH)), "head": rng.normal(size=(WIDTH, 5))}
    for i in range(blocks):
        constants |= {f"w{kind}_{i}": rng.normal(size=(WIDTH, WIDTH)) / 2 for kind in "qko"}
        constants[f"gain_{i}"] = np.ones(WIDTH)
    proto = onnx.parser.parse_model(text)
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    model = ir.from_proto(proto)
    for node in model.graph:
        node.name = f"{node.op_type}_{node.outputs[0].name}"
    ShapeInferencePass()(model)
    return model


def feeds(count: int = 4) -> list[dict[str, Array]]:
    """Of different batch sizes and lengths."""
    rng = np.random.default_rng(1)
    shapes = [(1 + index % 3, 2 + index) for index in range(count)]
    return [
        {"ids": rng.integers(0, 11, shape), "tokens_mask": rng.integers(0, 2, (*shape, 1))}
        for shape in shapes
    ]
