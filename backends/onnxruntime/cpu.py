"""Target ``ort-cpu``: ONNX Runtime's CPU provider, as a stock session runs it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
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
from qcompiler.numerics.formats.base import Format
from qcompiler.pipeline.options import option


@dataclass(frozen=True)
class OrtCpu(Target):
    """ONNX Runtime on the CPU; number formats follow the instruction set."""

    name: ClassVar[str] = "ort-cpu"
    description: ClassVar[str] = "ONNX Runtime, CPU provider: uint8 x int8 on x86, int8 x int8 on arm64"

    isa: Isa = option(Isa.HOST, "instruction set of the machine that will run the model")
    fuse: bool = option(True, "merge and fuse float nodes around quantized ones where measured faster")
    exact: bool = option(False, "low-bit weights: keep activations in float, at about a third of the speed")
    size_first: bool = option(
        False, "low-bit weights: no int8 copy for many rows, which are then up to 3x slower"
    )
    prefill_rows: int | None = option(
        None,
        "rows (tokens) from which the int8 copy is used; measured once on this machine if not given",
        minimum=1,
    )
    per_token: bool = option(True, "activations of the int8 copy: one scale a row instead of one a tensor")

    packed: bool = option(
        False, "3-bit codes take 3 bits in the file, not 4: slower to open, with more memory meanwhile"
    )

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

    @property
    def widens_codes(self) -> bool:
        return True

    def support(self, node: ir.Node) -> Support:
        return support_of(node)

    def refuses(self, stored: Format) -> str:
        levels, group = stored.levels, stored.group
        integers = np.array_equal(levels, np.arange(len(levels)) + levels[0])
        if group is None or group % 16 == 0 or not integers:
            return ""
        return (
            f"ort-cpu has kernels for groups of a multiple of 16, and {stored.name} has groups of {group}; "
            "use group=16, 32, 64 or 128"
        )

    def legalize(self, model: ir.Model) -> LegalizeReport:
        from qcompiler.backends.onnxruntime.legalize import legalize
        from qcompiler.backends.onnxruntime.lower_low_bit import LowBitOptions

        used: list[int] = []

        def prefill_rows() -> int:
            used.append(self._prefill_rows())
            return used[-1]

        options = LowBitOptions(
            self.exact, self.size_first, self.per_token, self.weight.largest_code, prefill_rows, self.packed
        )
        report = legalize(model, fuse=self.fuse, low_bit=options)
        return dataclasses.replace(
            report,
            measured={"prefill_rows": used[0]} if used else {},
            without_effect=self._without_effect(report),
        )

    def _without_effect(self, report: LegalizeReport) -> tuple[str, ...]:
        from qcompiler.backends.onnxruntime.legalize import PACKED

        idle = () if _has_products(report) else self._low_bit_options()
        return (*idle, "packed") if self.packed and not report.fusions.get(PACKED) else idle

    def _low_bit_options(self) -> tuple[str, ...]:
        """Options of products by weights of few bits that are not at their default."""
        names = ("exact", "size_first", "prefill_rows", "per_token")
        return tuple(name for name in names if getattr(self, name) != getattr(OrtCpu(), name))

    def _prefill_rows(self) -> int:
        from qcompiler.backends.onnxruntime.prefill_rows import USUAL_ROWS, measured_prefill_rows

        if self.prefill_rows is not None:
            return self.prefill_rows
        return USUAL_ROWS if self.caveat() else measured_prefill_rows()

    def mend(self, model: ir.Model, path: Path) -> list[str]:
        from qcompiler.backends.onnxruntime.legalize import mend

        return mend(model, path)

    def session(self, path: Path, *, threads: int = 1) -> Session:
        from qcompiler.backends.onnxruntime.session import open_file, session_options

        return open_file(path, session_options(threads=threads, keep_int8=True))

    @contextlib.contextmanager
    def variants(self, path: Path) -> Iterator[list[Path]]:
        from qcompiler.backends.onnxruntime.variants import forced_branches

        with forced_branches(path) as paths:
            yield paths

    def kernels(self, path: Path, nodes: Sequence[NodeKey]) -> list[NodeKernel]:
        from qcompiler.backends.onnxruntime.kernels import read_kernels

        return read_kernels(path, nodes)


def _has_products(report: LegalizeReport) -> bool:
    """Whether a product by a weight of few bits was lowered: all its kernels are made of these two."""
    return any(
        "MatMulNBits" in item.kernel or item.reason.endswith("int8 columns") for item in report.lowered
    )
