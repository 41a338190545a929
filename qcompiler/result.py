"""What a compile gives back."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from qcompiler.backends.base import LegalizeReport, NodeKernel, Session, Target
from qcompiler.package.deployed import deployed_files
from qcompiler.package.manifest import Manifest
from qcompiler.package.side_files import read_side_files
from qcompiler.package.write import publish, staged
from qcompiler.pipeline.base import PassReport

if TYPE_CHECKING:
    from qcompiler.data.feeds import Feed
    from qcompiler.request import CompileOptions
    from qcompiler.verify.speed import SpeedCheck
    from qcompiler.verify.verify import Verification


@dataclass(frozen=True)
class Origin:
    """What a compile started from and went through; a report looks at it again, and nothing writes it anywhere.

    Attributes:
        model: the float model, as it was given.
        feeds: what the result was verified on.
        note: where these came from.
        options: of the compile.
        dialect: the model between passes and target: what the result means, in standard operators.
    """

    model: str | Path | onnx.ModelProto | ir.Model
    feeds: Iterable[Feed]
    note: str
    options: CompileOptions
    dialect: ir.Model


@dataclass(frozen=True)
class CompileResult:
    """A compiled model and everything found out about it.

    Attributes:
        path: the compiled model file; its weights may lie in ``path`` + ".data" beside it.
        model: the deployed graph, as written to ``path``.
        target: the target it was compiled for.
        manifest: what decides its bytes, node by node.
        passes: what each pass did with each node.
        legalized: how the target lowered it.
        kernels: which kernel runs each quantized node, read back from the runtime.
        verification: the three comparisons, None where verification was turned off.
        speed: measured against the float model, None where not asked for.
        warnings: what the user should know: reverted nodes, weak data, weights no kernel reads.
        origin: what it was made of; None for a result that was not just made.
    """

    path: Path
    model: ir.Model = field(repr=False)
    target: Target
    manifest: Manifest = field(repr=False)
    passes: tuple[PassReport, ...] = field(repr=False)
    legalized: LegalizeReport = field(repr=False)
    kernels: tuple[NodeKernel, ...] = field(repr=False)
    verification: Verification | None = field(repr=False)
    speed: SpeedCheck | None
    warnings: tuple[str, ...]
    origin: Origin | None = field(default=None, repr=False)

    @property
    def manifest_path(self) -> Path:
        return manifest_path(self.path)

    def session(self, *, threads: int = 1) -> Session:
        """Open the compiled model on its target."""
        return self.target.session(self.path, threads=threads)

    def report(self, path: str | Path) -> Path:
        """Write everything about the result as one HTML file that opens offline; return where it is.

        The float and the compiled model are run again for it, on what the result was verified on.

        Raises:
            UnsupportedError: the extra ``report`` is not installed.
            OutputError: the file cannot be written.
        """
        from qcompiler.report.html.write import report_result

        return report_result(self, Path(path))

    def _repr_html_(self) -> str:
        """The summary, for notebooks."""
        from qcompiler.report.notebook import result_html

        return result_html(self)

    def save(self, folder: str | Path) -> CompileResult:
        """Copy the compiled files into ``folder`` and return the result that points there."""
        destination = Path(folder)
        side_files = read_side_files(self.path, destination / self.path.name)
        with staged(destination) as stage:
            for path in result_files(self.path):
                shutil.copy2(path, stage / path.name)
            side_files.write(stage)
            publish(stage, destination)
        return dataclasses.replace(self, path=destination / self.path.name)


def manifest_path(model: Path) -> Path:
    """``model.qc.onnx`` -> ``model.qc.manifest.json``."""
    return model.with_suffix(".manifest.json")


def result_files(model: Path) -> list[Path]:
    """The files of a compiled model that exist: graph or index, weights, libraries, manifest."""
    companions = [model.with_name(name) for name in deployed_files(model)]
    candidates = [model, model.with_name(f"{model.name}.data"), *companions, manifest_path(model)]
    return [path for path in candidates if path.exists()]
