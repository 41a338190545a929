"""What weights from codebooks cost a language model, beside other formats of the same matrices.

    python -m benchmarks.codebooks

Only matrices that ``aqlm`` takes are quantized (32,768 weights or more), all others stay float.
"""

from __future__ import annotations

import math
import sys

import onnx_ir as ir

from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler.graph.weighted import weighted_nodes
from qcompiler.models.catalog import PYDOC_LM

LEAST_WEIGHTS = 32768
PASSES = (
    "int4",
    "gptq",
    "nf4",
    "squeezellm",
    "int3:solver=gptq",
    "squeezellm:bits=3",
    "int2:solver=gptq:group=32",
    "int2:solver=gptq:group=128",
    "aqlm",
    "aqlm:sweeps=0",
    "aqlm:books=1",
)


def measure(place: Place) -> list[Row]:
    """A row for each pass: perplexity of the graph as written."""
    import qcompiler

    views = list(weighted_nodes(ir.load(PYDOC_LM.onnx)))
    left = [
        view.name
        for view in views
        if view.node.op_type != "MatMul" or math.prod(view.weight_shape) < LEAST_WEIGHTS
    ]
    rows = [Row(name="float32", scores=Scores(own={"perplexity": PYDOC_LM.float_metric}).rounded())]
    for passes in PASSES:
        made = qcompiler.compile(
            PYDOC_LM.onnx,
            passes,
            target="onnx",
            calibration=PYDOC_LM.calibration,
            exclude=left,
            output=place.scratch / "model.onnx",
            options=qcompiler.CompileOptions(verify="none"),
        )
        scores = Scores(own={"perplexity": PYDOC_LM.evaluate(made.path)}).rounded()
        rows.append(Row(name=passes, scores=scores))
        print(passes, scores.own, file=sys.stderr, flush=True)
    return rows


QUESTION = Question(
    name="codebooks",
    title="Codebooks beside other formats",
    data="ten matrices of the repository's language model, perplexity",
    measure=measure,
    needs_assets=False,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
