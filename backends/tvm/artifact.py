"""Writing a compiled model: libraries, one file of parameters, loaders, and an index with the hash of each.

model.qc.tvm                  the index (JSON): inputs, outputs, libraries, parameters, SHA-256 of every file
model.qc.avx512_vnni.so ...   one library for each variant of the kernels, code only
model.qc.params               weights as the kernels read them, shared by all
load_model.py, load_model.h, example.cc     loaders that need libtvm_runtime and libtvm_ffi alone
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.backends.tvm.cpu_features import FLAGS, Variant
from qcompiler.backends.tvm.importing.graph import Imported
from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.backends.tvm.loader import (
    ALIGNMENT,
    FORMAT,
    LoadError,
    choose_library,
    host_features,
    read_index,
)
from qcompiler.package.manifest import file_record
from qcompiler.package.write import cannot_write

SUFFIX = ".tvm"
LOADERS = {"load_model.py": "loader.py", "load_model.h": "load_model.h", "example.cc": "example.cc"}
"""Names beside the model, and in this folder."""

SLOW_BYTES = 64 << 20
"""Of parameters: with more only the variant of this CPU is verified."""

_PACKAGES = ("qcompiler", "apache-tvm", "apache-tvm-ffi")


@dataclass(frozen=True)
class Library:
    """Code of one variant, in a file beside the index.

    Attributes:
        file: its name; ``.so`` to load, ``.tar`` of objects to link.
        machine: as ``uname -m`` says.
    """

    file: str
    variant: Variant
    machine: str


@dataclass
class Parameters:
    """The file of parameters, written tensor by tensor."""

    path: Path
    tensors: list[dict[str, Any]] = field(default_factory=list)

    def write(self, tensors: Sequence[ir.TensorProtocol]) -> None:
        """Write all, each at a multiple of the alignment.

        Raises:
            OutputError: the disk is full.
        """
        try:
            with self.path.open("wb") as stream:
                for tensor in tensors:
                    stream.write(b"\0" * (-stream.tell() % ALIGNMENT))
                    array = np.ascontiguousarray(tensor.numpy())
                    shape = [int(str(size)) for size in tensor.shape]
                    self.tensors.append({"dtype": str(array.dtype), "shape": shape, "offset": stream.tell()})
                    stream.write(array.data if array.size else b"")
                stream.write(b"\0" * (-stream.tell() % ALIGNMENT or ALIGNMENT))
        except OSError as error:
            raise cannot_write(self.path.name, error) from error


def write_index(
    model: ir.Model,
    path: Path,
    libraries: Sequence[Library],
    parameters: Parameters,
    imported: Imported,
) -> None:
    """Copy the loaders beside ``path`` and write the index.

    Args:
        model: as lowered.
        path: of the index.
        libraries: the fastest first.
        parameters: as written.
        imported: what is known of symbolic dimensions.

    Raises:
        OutputError: the disk is full.
    """
    try:
        for name, source in LOADERS.items():
            shutil.copyfile(Path(__file__).parent / source, path.parent / name)
        files = [*(item.file for item in libraries), parameters.path.name, *LOADERS]
        index = {
            "format": FORMAT,
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "entry": "main",
            "inputs": [_described(value) for value in model.graph.inputs],
            "outputs": [_described(value) for value in model.graph.outputs],
            "limits": imported.limits,
            "sums": [list(names) for names in imported.sums],
            "in_place": list(imported.in_place),
            "features": {str(feature): sorted(flags) for feature, flags in FLAGS.items()},
            "libraries": [_library(item) for item in libraries],
            "parameters": {"file": parameters.path.name, "tensors": parameters.tensors},
            "kernels": kernels_of(model),
            "metadata": dict(model.metadata_props),
            "files": {
                name: file_record(path.parent / name).model_dump(include={"size_bytes", "sha256"})
                for name in files
            },
        }
        path.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path.name, error) from error


def single_library_indices(path: Path) -> list[Path]:
    """Write an index beside ``path`` for every library but the first that this CPU can run, naming that one alone.

    None where weights are so large that kernels without intrinsics would take minutes.
    """
    index = read_index(path)
    if (path.parent / index["parameters"]["file"]).stat().st_size > SLOW_BYTES:
        return []
    features = host_features(index)
    runnable = [item for item in index["libraries"] if _runs_here(index, item, features)]
    made = []
    for item in runnable[1:]:
        made.append(path.with_name(f"{path.stem}.only-{item['variant']}{path.suffix}"))
        made[-1].write_text(json.dumps(index | {"libraries": [item]}), encoding="utf-8")
    return made


def _runs_here(index: dict[str, Any], library: dict[str, Any], features: frozenset[str]) -> bool:
    try:
        choose_library(index | {"libraries": [library]}, features)
    except LoadError:
        return False
    return True


def kernels_of(model: ir.Model) -> dict[str, str]:
    """By the names of nodes: the generated kernel that each is."""
    return {str(node.name): node.op_type for node in model.graph if node.domain == DOMAIN}


def _library(item: Library) -> Mapping[str, Any]:
    return {
        "file": item.file,
        "variant": str(item.variant),
        "machine": item.machine,
        "needs": sorted(item.variant.needs),
    }


def _described(value: ir.Value) -> Mapping[str, Any]:
    assert value.dtype is not None
    shape = (
        [] if value.shape is None else [size if isinstance(size, int) else size.value for size in value.shape]
    )
    return {"name": str(value.name), "dtype": value.dtype.numpy().name, "shape": shape}
