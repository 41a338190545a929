"""Made-up facts of a compile and of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from qcompiler.auto.alternatives import Alternative
from qcompiler.auto.facts import Bounds, Group, Totals
from qcompiler.auto.front import Front
from qcompiler.auto.judge import Judged
from qcompiler.auto.outcome import SearchResult
from qcompiler.report.facts import CompileFacts, Configured, Hint
from qcompiler.report.search_facts import SearchFacts, search_facts

FLOAT = Totals(4e6, 2.0, 0.0)
INT8 = Judged(0.9, 0.1, Totals(1e6, 1.0, 0.02))


class Published:
    path = Path("out/<b>.qc.onnx")


def compiled(*warnings: str) -> CompileFacts:
    """A compile without outputs or nodes."""
    return CompileFacts(
        model="model.onnx",
        path="out/model.qc.onnx",
        manifest="out/model.qc.manifest.json",
        target=Configured("ort-cpu", {}),
        pipeline=(),
        size_before_bytes=4_000_000,
        size_after_bytes=800_000,
        parameters=1_000_000,
        requested_bits=4,
        achieved_bits=6.2,
        quantized_bits=4.6,
        quantized_share=0.9,
        copy_bytes=0,
        speed=None,
        untimed="",
        samples=8,
        held_out="held out",
        outputs=(),
        worst=(),
        passes=(),
        fusions={},
        kernels=(),
        not_integer=(),
        left_in_float=(),
        reverted=(),
        warnings=warnings,
        findings=(Hint("the embedding stays float", "qcompile model.onnx --passes int4"),),
        hints=(),
    )


def result(front: Front | None = None) -> SearchResult:
    """Three groups of four nodes."""
    return SearchResult(
        result=cast(Any, Published()),
        recipe=Path("out/model.recipe.yaml"),
        assignment={"a": "int4", "b": "int8"},
        groups=(
            Group("a", ("a",), "Conv", 10),
            Group("b", ("b", "c"), "MatMul", 20),
            Group("d", ("d",), "Gemm", 5),
        ),
        predicted=Totals(800_000, 0.9, 0.3),
        measured=Totals(800_000, 0.95, 0.008),
        float_model=FLOAT,
        metric="top1",
        surrogate=0.28,
        value=0.912,
        float_value=0.92,
        bits=5.25,
        uniform={"int8": INT8},
        considered=("int8: surrogate 0.1",),
        tried=3,
        front=front,
        notes=("--prefer size: the smallest model within the bounds.",),
        seconds=90.0,
        reasons={"d": "no choice was better within the bounds of the search"},
        alternatives={
            "d": (
                Alternative("int8", -3_000.0, 0.012, 0.0071),
                Alternative("int4:solver=gptq", -4_000.0, 0.0001, 0.2),
            )
        },
    )


def found(bounds: Bounds | None = None, front: Front | None = None) -> SearchFacts:
    """What is shown of it."""
    hint = Hint("the same bytes without searching", "qcompile model.onnx --recipe out/model.recipe.yaml")
    return search_facts(result(front), compiled(), bounds or Bounds(max_drop=0.01), hints=(hint,))
