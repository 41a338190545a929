"""Load and run a model compiled by qcompiler for tvm-cuda on an NVIDIA GPU.

    from load_cuda import CudaModel
    model = CudaModel("model.qc.tvm")
    outputs = model.run({"input_ids": ids})

Needs NumPy, tvm_ffi, libtvm_runtime, libtvm_runtime_cuda (all with apache-tvm) and libcudart.so.13 (the package
nvidia-cuda-runtime, or an installed CUDA 13); the driver compiles the code for its GPU when the model first runs.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy.typing as npt

try:
    from qcompiler.backends.tvm import loader as base
except ImportError:  # beside a model, where qcompiler is not installed
    import load_model as base  # type: ignore[import-not-found,no-redef]

Array = npt.NDArray[Any]

_CUDA, _CPU, _POOLED = 2, 1, 2
_DRIVER = ("libcuda.so.1", "nvcuda.dll")
_CUDART = "libcudart.so.13"
_LEAST = "cuDeviceGetAttribute"


class CudaModel(base.Model):
    """A loaded model, whose parameters are in the memory of a GPU; inputs and outputs are on the host."""

    def __init__(self, path: str | Path, *, threads: int | None = None, check: bool = True) -> None:
        """Load an index file and what it names; ``threads`` only has the meaning that it has for CPUs: none here.

        Raises:
            LoadError: there is no GPU, or an older one than the code is for, or a file is missing or not the one
                compiled.
        """
        place = base.index_path(Path(path)).resolve()
        index = base.read_index(place)
        if "device" not in index:
            raise base.LoadError(
                f"{place} has no device code; compile with --target tvm-cuda, or use load_model.py."
            )
        require_gpu(index["device"]["arch"])
        self._load_cuda(place.parent)
        super().__init__(place, threads=threads, check=check)
        name = index["device"]["file"]
        if check:
            base._read(place.parent / name, index["files"])
        self._device = self._ffi.device("cuda", 0)
        self._allocate = self._ffi.get_global_func("runtime.TVMTensorAllocWithScope")
        self._copy = self._ffi.get_global_func("runtime.TVMTensorCopyFromTo")
        self._library = self._open(place.parent / name)
        self._machine = self._library["vm_load_executable"]()
        self._machine["vm_initialization"](_CUDA, 0, _POOLED, _CPU, 0, _POOLED)
        self._entry = self._machine[index["entry"]]
        self._parameters = self._ffi.convert([self._moved(item, self._device) for item in self._parameters])
        self.variant = f"cuda {index['device']['arch']}"

    def call(self, tensors: Iterable[Any], *, in_place: bool = False) -> list[Any]:
        """Run on tensors of the host in the order of the inputs; tensors of the host come out."""
        moved = [self._moved(item, self._device) for item in tensors]
        host = self._ffi.device("cpu", 0)
        return [self._moved(item, host) for item in super().call(moved, in_place=in_place)]

    def _moved(self, tensor: Any, device: Any) -> Any:
        room = self._allocate(self._ffi.Shape(tensor.shape), tensor.dtype, device, None)
        if all(tensor.shape):
            self._copy(tensor, room)
            self._ffi.get_global_func("runtime.Device_StreamSync")(self._device, 0)
        return room

    def _load_cuda(self, folder: Path) -> None:
        """The runtime's library for CUDA, and NVIDIA's that it needs; what compiles is handed code that is compiled."""
        ffi, _ = base._load_runtime(folder)
        for entry in sys.path:
            found = Path(entry) / "nvidia" / "cu13" / "lib" / _CUDART
            if found.is_file():
                ctypes.CDLL(str(found), ctypes.RTLD_GLOBAL)
                break
        runtime = base._find_runtime(folder)
        library = runtime.with_name(runtime.name.replace("tvm_runtime", "tvm_runtime_cuda"))
        try:
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise base.LoadError(
                f"{library.name} cannot be loaded ({error}); pip install apache-tvm nvidia-cuda-runtime."
            ) from error
        ffi.register_global_func("tvm_callback_cuda_compile", _compiled, override=True)


def _compiled(code: str) -> bytes:
    """What the runtime takes for source is PTX, which the driver reads."""
    return str(code).encode() + b"\0"


def require_gpu(arch: str) -> None:
    """Refuse where code for ``arch`` cannot run.

    Raises:
        LoadError: there is no driver, no GPU, or none of that compute capability.
    """
    found = capability()
    if isinstance(found, str):
        raise base.LoadError(
            f"the model is compiled for NVIDIA GPUs, and {found}; compile for CPUs: --target tvm-cpu."
        )
    if found < int(arch.removeprefix("sm_")):
        raise base.LoadError(
            f"the model is compiled for {arch}, this GPU is sm_{found}; compile with arch=sm_{found}."
        )


def capability() -> int | str:
    """Of the first GPU, without the dot (80), or why there is none."""
    driver = None
    for name in _DRIVER:
        try:
            driver = ctypes.CDLL(name)
            break
        except OSError:
            continue
    if driver is None:
        return "this machine has no NVIDIA driver (libcuda.so.1)"
    count, device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "its driver finds no GPU"
    driver.cuDeviceGet(ctypes.byref(device), 0)
    for number, found in ((75, major), (76, minor)):
        driver.cuDeviceGetAttribute(ctypes.byref(found), number, device)
    return major.value * 10 + minor.value
