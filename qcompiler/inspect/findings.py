"""What stands out in a model, in words, with what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from qcompiler.inspect.inspection import WeightInfo
from qcompiler.tensors import stored_bytes

NOTABLE_SHARE = 0.1
"""A share of the weight bytes below this is not worth a sentence."""

_QUANTIZED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}
    | {"QLinearConv", "QLinearMatMul", "DynamicQuantizeMatMul", "MatMulNBits"}
)


def find(
    operators: Mapping[str, int],
    constants: Mapping[str, ir.TensorProtocol],
    weights: Sequence[WeightInfo],
    tied: Mapping[str, tuple[str, ...]],
) -> list[str]:
    """Findings about embeddings, tied and hidden weights, and operators that need a word."""
    total = max(sum(stored_bytes(tensor) for tensor in constants.values()), 1)
    found = [*_already_quantized(operators), *_embeddings(weights, total)]
    found += [
        f"the weight {name!r} is shared by {', '.join(nodes)}: it stays tied" for name, nodes in tied.items()
    ]
    hidden = [item for item in weights if item.in_subgraph]
    if hidden:
        found.append(
            f"{len(hidden)} weights lie in subgraphs (If, Loop, Scan): int8_dynamic reaches them, int8_static does not"
        )
    known = {item.weight for item in weights}
    other = sum(stored_bytes(tensor) for name, tensor in constants.items() if name not in known)
    if other / total >= NOTABLE_SHARE:
        found.append(
            f"{_percent(other / total)} of the constant bytes belong to no operator that a pass quantizes"
        )
    if operators.get("BatchNormalization"):
        count = operators["BatchNormalization"]
        found.append(f"{count} BatchNormalization: folded into the layer before, where there is one")
    return found


def _already_quantized(operators: Mapping[str, int]) -> list[str]:
    present = sorted(_QUANTIZED & set(operators))
    return [f"already quantized ({', '.join(present)}): compile the float model instead"] if present else []


def _embeddings(weights: Sequence[WeightInfo], total: int) -> list[str]:
    tables = {item.weight: item.size_bytes for item in weights if item.op_type == "Gather"}
    return [
        f"the embedding {name!r} is {_percent(size / total)} of the bytes: int8 passes store it in 8 bits a weight, "
        "those of few bits in fewer; option embeddings=false leaves it in float"
        for name, size in tables.items()
        if size / total >= NOTABLE_SHARE
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
