"""Target ``tvm-cuda``: the whole model as one library with device code for NVIDIA GPUs, compiled without one."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

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
from qcompiler.backends.tvm_cuda.loader import capability
from qcompiler.backends.tvm_cuda.nvrtc import PACKAGE, find_library
from qcompiler.backends.tvm_cuda.support import support_of
from qcompiler.pipeline.options import option


@dataclass(frozen=True)
class TvmCuda(Target):
    """Device code for NVIDIA GPUs; compiling needs no GPU, running does."""

    name: ClassVar[str] = "tvm-cuda"
    description: ClassVar[str] = (
        "one library with code for NVIDIA GPUs by TVM; compiled without one, run with one"
    )
    suffix: ClassVar[str] = ".tvm"

    arch: str = option(
        "sm_80", "the oldest GPU architecture that must run it: sm_75, sm_80, sm_86, sm_90, ..."
    )

    def available(self) -> str | None:
        if importlib.util.find_spec("tvm") is None:
            return "apache-tvm is not installed; pip install 'qcompiler[cuda]'"
        if find_library() is None:
            return f"NVRTC, which compiles CUDA, is not installed; pip install {PACKAGE} (no GPU needed)"
        if shutil.which("g++") is None and shutil.which("clang++") is None:
            return "libraries are linked by g++ or clang++, and neither is installed"
        return None

    @property
    def missing_gpu(self) -> str:
        """Why nothing can run here; "" where it can."""
        found = capability()
        if isinstance(found, str):
            return found
        least = int(self.arch.removeprefix("sm_")) if self.arch.removeprefix("sm_").isdigit() else 0
        return "" if found >= least else f"its GPU is sm_{found}, older than {self.arch}"

    def caveat(self) -> str:
        if not (missing := self.missing_gpu):
            return ""
        return (
            f"the device code ({self.arch}) was compiled but did not run: {missing}. What it is made of was verified "
            "on this CPU instead; its speed is not known, so that it may be slower than float."
        )

    @property
    def untimed(self) -> str:
        return "no GPU ran it" if self.missing_gpu else ""

    @property
    def profiled(self) -> bool:
        return False

    @property
    def stores_half(self) -> bool:
        return False

    @property
    def activation(self) -> ActivationFormat:
        return ActivationFormat(ir.DataType.UINT8, symmetric=False)

    @property
    def weight(self) -> WeightFormat:
        return WeightFormat(bits=8)

    def support(self, node: ir.Node) -> Support:
        return support_of(node)

    def require_importable(self, model: ir.Model) -> None:
        from qcompiler.backends.onnxruntime.fusions import fuse_all
        from qcompiler.backends.tvm_cuda.compile_model import imported_for_device
        from qcompiler.backends.tvm_cuda.nvrtc import require_architecture

        require_architecture(self.arch)
        trial = model.clone()
        fuse_all(trial)
        imported_for_device(trial)

    def legalize(self, model: ir.Model) -> LegalizeReport:
        from qcompiler.backends.tvm_cuda.legalize import legalize

        return legalize(model)

    def write(self, model: ir.Model, path: Path, *, external: bool | None) -> None:
        from qcompiler.backends.tvm_cuda.write import write_artifact

        del external  # weights always have a file of their own
        write_artifact(model, path, self)

    def session(self, path: Path, *, threads: int = 1) -> Session:
        """On the GPU.

        Raises:
            ModelError: there is none, or a file is missing or damaged.
        """
        from qcompiler.backends.tvm.session import TvmSession

        return TvmSession(path, threads=threads)

    def checking_session(self, path: Path, *, threads: int = 1) -> Session:
        """On the GPU, or where there is none the same definitions on this CPU."""
        from qcompiler.backends.tvm.session import TvmSession

        return TvmSession(path, threads=threads, on_host=bool(self.missing_gpu))

    def kernels(self, path: Path, nodes: Sequence[NodeKey]) -> list[NodeKernel]:
        """Which definition each node is."""
        from qcompiler.backends.tvm.loader import read_index

        index: Any = read_index(path)
        made: dict[str, str] = index["kernels"]
        return [
            NodeKernel(
                key.name,
                f"{made[key.name]} ({index['device']['arch']})",
                integer=made[key.name] != "CudaFloat",
            )
            if key.name in made
            else NodeKernel(key.name, key.op_type, integer=False)
            for key in nodes
        ]
