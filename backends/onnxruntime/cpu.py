"""Target ``ort-cpu``: ONNX Runtime's CPU provider, as a stock session runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from qcompiler.backends.base import (
    ActivationFormat,
    LegalizeReport,
    NodeKernel,
    NodeKey,
    Session,
    Support,
    Target,
    WeightFormat,
)
from qcompiler.backends.onnxruntime.isa import Isa, host_isa
from qcompiler.backends.onnxruntime.table import support_of
from qcompiler.pipeline.options import option


@dataclass(frozen=True)
class OrtCpu(Target):
    """ONNX Runtime on the CPU; number formats follow the instruction set."""

    name: ClassVar[str] = "ort-cpu"
    description: ClassVar[str] = "ONNX Runtime, CPU provider: uint8 x int8 on x86, int8 x int8 on arm64"

    isa: Isa = option(Isa.HOST, "instruction set of the machine that will run the model")
    fuse: bool = option(True, "merge and fuse float nodes around quantized ones where measured faster")

    @property
    def resolved_isa(self) -> Isa:
        return host_isa() if self.isa is Isa.HOST else self.isa

    def resolved(self) -> OrtCpu:
        return dataclasses.replace(self, isa=self.resolved_isa)

    def available(self) -> str | None:
        try:
            import onnxruntime  # noqa: F401
        except ImportError:
            return "onnxruntime is not installed; pip install onnxruntime"
        return None

    def caveat(self) -> str:
        if (self.resolved_isa is Isa.ARM64) == (host_isa() is Isa.ARM64):
            return ""
        return f"compiled for {self.resolved_isa}, verified and timed on {host_isa()}: run qcompile bench there too."

    @property
    def activation(self) -> ActivationFormat:
        if self.resolved_isa is Isa.ARM64:
            return ActivationFormat(ir.DataType.INT8, symmetric=False)
        return ActivationFormat(ir.DataType.UINT8, symmetric=False)

    @property
    def weight(self) -> WeightFormat:
        return WeightFormat(bits=7 if self.resolved_isa is Isa.AVX2 else 8)

    def support(self, node: ir.Node) -> Support:
        return support_of(node)

    def legalize(self, model: ir.Model) -> LegalizeReport:
        from qcompiler.backends.onnxruntime.legalize import legalize

        return legalize(model, fuse=self.fuse)

    def mend(self, model: ir.Model, path: Path) -> list[str]:
        from qcompiler.backends.onnxruntime.legalize import mend

        return mend(model, path)

    def session(self, path: Path, *, threads: int = 1) -> Session:
        from qcompiler.backends.onnxruntime.session import open_file, session_options

        return open_file(path, session_options(threads=threads, keep_int8=True))

    def kernels(self, path: Path, nodes: Sequence[NodeKey]) -> list[NodeKernel]:
        from qcompiler.backends.onnxruntime.kernels import read_kernels

        return read_kernels(path, nodes)
