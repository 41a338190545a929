"""Compiling a lowered graph for every variant and writing what comes out."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from qcompiler.backends.tvm.artifact import Library, Parameters, write_index
from qcompiler.backends.tvm.compile_kernel import target_config
from qcompiler.backends.tvm.compile_model import compile_model
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.importing.graph import Imported
from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.backends.tvm.tune import Effort

if TYPE_CHECKING:
    from qcompiler.backends.tvm.target import TvmCpu

CORES = 64
"""What loops may be split for; how many there are is known when the model runs."""

STRIPPED = ["-Wl,-S"]
"""For the linker: without what debuggers read, which is nearly half of a library."""


def write_artifact(model: ir.Model, path: Path, target: TvmCpu) -> None:
    """Write ``path``, the index, and the files it names.

    Raises:
        UnsupportedError: a node cannot be imported.
        OutputError: the disk is full.
    """
    stem = path.with_suffix("")
    libraries: list[Library] = []
    first: Imported | None = None
    parameters = Parameters(stem.with_name(f"{stem.name}.params"))
    for variant, machine, config in _wanted(target, model):
        ending = "tar" if machine != platform.machine() else "so"
        imported, executable = compile_model(
            model, variant, config, Effort.NONE if target.crossed else target.tune
        )
        qualifier = f"{machine}." if target.crossed else ""
        library = Library(f"{stem.name}.{qualifier}{variant}.{ending}", variant, machine)
        place = str(stem.with_name(library.file))
        if ending == "so":
            executable.export_library(place, options=STRIPPED)
        else:
            executable.export_library(place)
        if not libraries:
            parameters.write(imported.parameters)
            first = imported
        assert first is not None
        assert [tensor.name for tensor in imported.parameters] == [tensor.name for tensor in first.parameters]
        libraries.append(library)
    assert first is not None
    write_index(model, path, libraries, parameters, first)


TILED = ("GemmInt8", "GemmLowBit")
"""Kernels that differ where there are tiles: without them no library is made for those."""


def _wanted(target: TvmCpu, model: ir.Model) -> list[tuple[Variant, str, dict[str, Any]]]:
    """Variant, machine and TVM's description of each library; for another machine one for checks here, too."""
    if not target.crossed:
        tiled = any(node.domain == DOMAIN and node.op_type in TILED for node in model.graph)
        variants = dict.fromkeys(variant if tiled else variant.vectors for variant in target.variants_built)
        return [(variant, target.machine, target_config(variant, CORES)) for variant in variants]
    config = {"kind": "llvm", "mtriple": target.mtriple, "num-cores": CORES}
    if target.mcpu:
        config["mcpu"] = target.mcpu
    here = (Variant.PLAIN, platform.machine(), target_config(Variant.PLAIN, CORES))
    return [(Variant.PLAIN, target.machine, config), here]
