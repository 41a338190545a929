"""What rounding activations costs a language model: one row of perplexities for every way to run the same codes.

    python -m benchmarks.low_bit_activations MODEL.onnx IDS.npz [--rows 24]

MODEL takes ``input_ids [B, T]`` and returns ``logits``; IDS holds ``input_ids [n, T]`` and perhaps ``lengths [n]``.
Weights of MatMul and Gemm are rounded to nearest; embeddings and what is tied to them stay in float.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir

from benchmarks.perplexity import perplexity_of
from qcompiler.backends.onnxruntime.legalize import legalize
from qcompiler.backends.onnxruntime.lower_low_bit import LowBitOptions
from qcompiler.graph.low_bit import store_low_bit
from qcompiler.graph.weighted import weighted_nodes
from qcompiler.load import load_model
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.prepare import prepare

FORMATS = (("int4", 32), ("int8", 128), ("nf4", 64))
WAYS = {
    "float activations": LowBitOptions(True, False, True, 127, lambda: 2),
    "MatMulNBits, level 4": LowBitOptions(False, True, True, 127, lambda: 2),
    "int8 columns per row": LowBitOptions(False, False, True, 127, lambda: 2, smallest=0),
    "int8 columns per tensor": LowBitOptions(False, False, False, 127, lambda: 2, smallest=0),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("ids", type=Path)
    parser.add_argument("--rows", type=int, default=24)
    given = parser.parse_args()
    arrays = np.load(given.ids)
    ids = arrays["input_ids"][: given.rows]
    lengths = arrays["lengths"][: given.rows] if "lengths" in arrays else None
    print(f"float32: {perplexity_of(given.model, ids, lengths):.4f}\n")
    print(f"| format | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
    for name, group in FORMATS:
        dialect = _quantized(given.model, name, group)
        cells = []
        for way in WAYS.values():
            model = dialect.clone()
            legalize(model, fuse=True, low_bit=way)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                ir.save(model, path)
                cells.append(f"{perplexity_of(path, ids, lengths):.4f}")
        print(f"| {name}, groups of {group} | {' | '.join(cells)} |", flush=True)


def _quantized(path: Path, name: str, group: int) -> ir.Model:
    model = load_model(path)
    prepare(model, opset=21)
    stored = format_of(name, group=group)
    for view in list(weighted_nodes(model)):
        if view.node.op_type in ("MatMul", "Gemm") and not view.is_tied:
            grid = stored.fit(view.matrix())
            store_low_bit(model, view, stored, stored.encode(view.matrix(), grid), grid)
    return model


if __name__ == "__main__":
    main()
