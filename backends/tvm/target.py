"""Target ``tvm-cpu``: the whole model as native code, compiled by TVM from generated kernels."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import shutil
from collections.abc import Iterator, Sequence
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
from qcompiler.backends.tvm.cpu_features import Variant, host_features, runnable_variants
from qcompiler.backends.tvm.support import support_of
from qcompiler.backends.tvm.tune import Effort
from qcompiler.pipeline.options import option

MACHINES = ("aarch64", "riscv64", "x86_64")
"""That objects can be made for."""


@dataclass(frozen=True)
class TvmCpu(Target):
    """Native code for CPUs; one library for each set of instructions."""

    name: ClassVar[str] = "tvm-cpu"
    description: ClassVar[str] = "native code by TVM: one library for each kind of CPU, no runtime but 6 MB"
    suffix: ClassVar[str] = ".tvm"

    mtriple: str = option("", "machine that will run it, such as aarch64-linux-gnu; this one if not given")
    mcpu: str = option(
        "", "its processor, as LLVM names it (cortex-a76); any of that architecture if not given"
    )
    host_only: bool = option(False, "only the library that this CPU runs, in a fraction of the time")
    tune: Effort = option(
        Effort.NONE, "time this many tiles of every kernel on this CPU: none, quick (6), full (20)"
    )

    def available(self) -> str | None:
        if importlib.util.find_spec("tvm") is None:
            return "apache-tvm is not installed; pip install 'qcompiler[tvm]'"
        if self.mtriple and self.machine not in MACHINES:
            return (
                f"mtriple={self.mtriple} is for none of {', '.join(MACHINES)}; for example aarch64-linux-gnu"
            )
        if self.mcpu and not self.crossed:
            return "mcpu is for another machine, and needs its mtriple; for this one a library is made for each kind"
        if shutil.which("g++") is None and shutil.which("clang++") is None:
            return "libraries are linked by g++ or clang++, and neither is installed"
        return None

    @property
    def stores_tables(self) -> bool:
        return True

    @property
    def machine(self) -> str:
        """As ``uname -m`` says."""
        return self.mtriple.partition("-")[0] or platform.machine()

    @property
    def crossed(self) -> bool:
        return self.machine != platform.machine()

    def caveat(self) -> str:
        if not self.crossed:
            return ""
        here = platform.machine()
        return f"compiled for {self.machine}, verified by the same kernels without intrinsics on this {here}."

    @property
    def untimed(self) -> str:
        return "it is compiled for another machine" if self.crossed else ""

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
        from qcompiler.backends.tvm.refuse import refuse, refuse_processor

        if self.mcpu:
            refuse_processor(self.mtriple, self.mcpu)
        refuse(model)

    def legalize(self, model: ir.Model) -> LegalizeReport:
        from qcompiler.backends.tvm.legalize import legalize

        return legalize(model)

    def write(self, model: ir.Model, path: Path, *, external: bool | None) -> None:
        from qcompiler.backends.tvm.write import write_artifact

        del external  # weights always have a file of their own
        write_artifact(model, path, self)

    def session(self, path: Path, *, threads: int = 1) -> Session:
        from qcompiler.backends.tvm.session import TvmSession

        return TvmSession(path, threads=threads)

    @contextlib.contextmanager
    def variants(self, path: Path) -> Iterator[list[Path]]:
        """Indices that name one library each: those that another CPU would take, as far as this one runs them."""
        from qcompiler.backends.tvm.artifact import single_library_indices

        made = single_library_indices(path)
        try:
            yield made
        finally:
            for index in made:
                index.unlink(missing_ok=True)

    def kernels(self, path: Path, nodes: Sequence[NodeKey]) -> list[NodeKernel]:
        """Which generated kernel each node is, in the variant that this CPU runs."""
        from qcompiler.backends.tvm.loader import choose_library, read_index
        from qcompiler.backends.tvm.loader import host_features as features

        index: Any = read_index(path)
        variant = choose_library(index, features(index))["variant"]
        made: dict[str, str] = index["kernels"]
        return [
            NodeKernel(key.name, f"{made[key.name]} ({variant})", integer="Float" not in made[key.name])
            if key.name in made
            else NodeKernel(key.name, key.op_type, integer=False)
            for key in nodes
        ]

    @property
    def variants_built(self) -> list[Variant]:
        """Variants of the kernels to compile for, the fastest first."""
        if self.machine not in ("x86_64", "AMD64"):
            return [Variant.PLAIN]
        return runnable_variants(host_features())[:1] if self.host_only else list(reversed(Variant))
