"""Compiling a lowered graph for a GPU and writing what comes out.

The files are those of tvm-cpu (:mod:`qcompiler.backends.tvm.artifact`); the library of the index is the same graph for
a CPU, slow and for checks, and ``device`` names the one with device code:

model.qc.cuda.so       code of the host, and PTX
model.qc.plain.so      the same definitions for this CPU
load_cuda.py           loads and runs it on a GPU; needs load_model.py, libtvm_runtime_cuda and libcudart
"""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from qcompiler.backends.tvm.artifact import Library, Parameters, write_index
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm_cuda.compile_model import compile_for_device, compile_for_host
from qcompiler.package.manifest import file_record
from qcompiler.package.write import cannot_write

if TYPE_CHECKING:
    from qcompiler.backends.tvm_cuda.target import TvmCuda

LOADER = "load_cuda.py"


def write_artifact(model: ir.Model, path: Path, target: TvmCuda) -> None:
    """Write ``path``, the index, and the files it names.

    Raises:
        UnsupportedError: a node cannot be imported, or NVRTC refuses the code.
        OutputError: the disk is full.
    """
    stem = path.with_suffix("")
    parameters = Parameters(stem.with_name(f"{stem.name}.params"))
    imported, executable = compile_for_device(model, target.arch)
    device = f"{stem.name}.cuda.so"
    executable.export_library(str(stem.with_name(device)))
    parameters.write(imported.parameters)
    on_host, executable = compile_for_host(model)
    assert [item.name for item in on_host.parameters] == [item.name for item in imported.parameters]
    library = Library(f"{stem.name}.{Variant.PLAIN}.so", Variant.PLAIN, platform.machine())
    executable.export_library(str(stem.with_name(library.file)))
    write_index(model, path, [library], parameters, imported)
    _name_device(path, device, target.arch)


def _name_device(path: Path, library: str, arch: str) -> None:
    try:
        shutil.copyfile(Path(__file__).parent / "loader.py", path.parent / LOADER)
        index = json.loads(path.read_text(encoding="utf-8"))
        index["device"] = {"file": library, "kind": "cuda", "arch": arch}
        for name in (library, LOADER):
            record = file_record(path.parent / name)
            index["files"][name] = record.model_dump(include={"size_bytes", "sha256"})
        path.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path.name, error) from error
