"""Builds and pipelines as far as checks and findings look at them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import onnx_ir as ir

from qcompiler.backends.base import LegalizeReport, Lowering, NodeKernel, NodeKey, Target
from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.build import Build
from qcompiler.pipeline.base import NodeDecision, Pass, PassReport
from qcompiler.pipeline.run import Pipeline
from qcompiler.verify.speed import SpeedCheck


def made(
    folder: Path = Path("stage"),
    quantized: tuple[str, ...] = (),
    *,
    stored_only: bool = False,
    reverted: tuple[str, ...] = (),
    mended: tuple[str, ...] = (),
    kernels: tuple[NodeKernel, ...] = (),
    lowered: tuple[Lowering, ...] = (),
) -> Build:
    """A build in which ``quantized`` nodes are quantized, less what is ``reverted``."""
    left = [name for name in quantized if name not in reverted]
    report = PassReport(
        "int8",
        tuple(NodeDecision(name, "MatMul", "quantized", "int8", stored_only=stored_only) for name in left),
    )
    nothing = cast(ir.Model, None)
    legalized = LegalizeReport(lowered)
    return Build(folder / "m.onnx", nothing, nothing, (report,), legalized, kernels, mended, reverted)


def keys(passes: Iterable[PassReport]) -> list[NodeKey]:
    return [NodeKey(item.node, item.op_type, ()) for report in passes for item in report.nodes]


@dataclass
class StandInPipeline:
    """Only what is read of a pipeline."""

    passes: tuple[Pass, ...] = ()
    reference: ir.Model = field(default_factory=lambda: ir.Model(ir.Graph([], [], nodes=[]), ir_version=10))
    target: Target = field(default_factory=OrtCpu)

    def tell(self, stage: str) -> None:
        """Nobody follows the progress."""

    def as_pipeline(self) -> Pipeline:
        return cast(Pipeline, self)


def timing(ratio: float, spread: float = 0.01) -> SpeedCheck:
    return SpeedCheck(ratio, ratio - spread, ratio + spread, 10.0, 10.0 / ratio)
