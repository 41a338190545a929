"""Load and run a model compiled by qcompiler for tvm-cpu: needs NumPy, tvm_ffi and libtvm_runtime, nothing else.

    from load_model import Model
    model = Model("model.qc.tvm")
    outputs = model.run({"input_ids": ids})

The library is chosen by what this CPU can do; ``QCOMPILER_CPU_FEATURES`` (a list such as ``avx2``, or nothing) leaves
features out.  Every file is refused whose SHA-256 is not the one in the index.  ``libtvm_runtime`` is looked for in
``QCOMPILER_TVM_RUNTIME`` (a file or a folder), beside the model, and where the package apache-tvm is installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MASK, RUNTIME = "QCOMPILER_CPU_FEATURES", "QCOMPILER_TVM_RUNTIME"
FORMAT = 1
ALIGNMENT = 64
_CPU, _FAST_CORES, _POOLED = 1, 1, 2
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
_TILES, _REQUEST_TILES = "amx_tile", (158, 0x1023, 18)
SPINS = 20_000
"""Looks for work before idle threads sleep, some ms: threads that sleep between kernels double the time of a model."""

_SET_THREADS = "_ZN3tvm7runtime9threading17SetMaxConcurrencyEi"
_RESET_THREADS = "_ZN3tvm7runtime9threading15ResetThreadPoolEv"
_NAMES = ("libtvm_runtime.so", "libtvm_runtime.dylib", "tvm_runtime.dll")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class LoadError(RuntimeError):
    """The model cannot be loaded or run here; the message says why and what to do."""


class Model:
    """A loaded model.

    Attributes:
        inputs, outputs: ``{"name", "dtype", "shape"}`` each; symbolic dimensions are names.
        variant: of the kernels that this CPU runs.
        in_place: outputs that may be the memory of the caches they follow.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None, check: bool = True) -> None:
        """Load an index file and what it names.

        Args:
            path: the ``.tvm`` file, or the only one in a folder.
            threads: of parallel loops; all cores by default.
            check: compare the SHA-256 of every file that is used.

        Raises:
            LoadError: a file is missing or not the one compiled, or no library fits this machine.
        """
        place = index_path(Path(path)).resolve()
        self._index, folder = read_index(place), place.parent
        chosen = choose_library(self._index, host_features(self._index))
        self.inputs: list[dict[str, Any]] = self._index["inputs"]
        self.outputs: list[dict[str, Any]] = self._index["outputs"]
        self.variant, self.in_place = str(chosen["variant"]), list[str](self._index.get("in_place", []))
        parameters, known = self._index["parameters"], self._index["files"] if check else {}
        if chosen["file"] in known:  # not what was linked of objects afterwards
            _read(folder / chosen["file"], known)
        self._threads = threads or os.cpu_count() or 1
        self._ffi, self._runtime = _load_runtime(folder)
        if not (folder / chosen["file"]).is_file():
            raise LoadError(f"{folder / chosen['file']} is missing; link the objects in the .tar beside it.")
        self._library = self._open(folder / chosen["file"])
        self._machine = self._library["vm_load_executable"]()
        self._machine["vm_initialization"](_CPU, 0, _POOLED)
        memory = _read(folder / parameters["file"], known)
        weights = [self._ffi.from_dlpack(_view(memory, item)) for item in parameters["tensors"]]
        self._parameters = self._ffi.convert(weights)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; keys are names of inputs and outputs.

        Raises:
            LoadError: an array is missing or does not fit.
        """
        found = self.call([self.tensor(item, feeds) for item in self.inputs])
        return {
            item["name"]: np.from_dlpack(result) for item, result in zip(self.outputs, found, strict=True)
        }

    def call(self, tensors: Iterable[Any], *, in_place: bool = False) -> list[Any]:
        """Run on tensors in the order of the inputs; in place, new keys and values go where the past has room."""
        given, entry = list(tensors), self._index["entry"] + ("_in_place" if in_place else "")
        self._check_sizes(given, in_place=in_place)
        try:
            with _Threads.lock:  # registers of the machine and the pool of threads are shared
                self._use_threads()
                found = self._machine[entry](*given, self._parameters)
        except Exception as error:  # errors of compiled code share no base class but this one
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise LoadError(f"the model refuses its inputs: {reason}") from error
        return [found] if isinstance(found, self._ffi.Tensor) else list(found)

    def tensor(self, item: Mapping[str, Any], feeds: Mapping[str, Array]) -> Any:
        """The tensor of an input, without a copy where its memory fits.

        Raises:
            LoadError: it is missing, or of another type, rank or size.
        """
        name = item["name"]
        if name not in feeds:
            names = [given["name"] for given in self.inputs]
            raise LoadError(f"no array for the input {name!r}; give one for each of {names}.")
        array = np.asarray(feeds[name])
        seen, wanted = list(array.shape), item["shape"]
        wrong = any(isinstance(dim, int) and dim != size for size, dim in zip(seen, wanted, strict=False))
        if wrong or len(seen) != len(wanted) or str(array.dtype) != item["dtype"]:
            raise LoadError(f"input {name!r} is {array.dtype} {seen}, expected {item['dtype']} {wanted}.")
        for size, dim in zip(seen, wanted, strict=True):
            if size > (most := self._index["limits"].get(dim, size)):
                raise LoadError(f"{dim} of {name!r} is {size}, at most {most}; give less.")
        if not array.size:  # NumPy's strides of such are none that the runtime takes
            allocate = self._ffi.get_global_func("runtime.TVMTensorAllocWithScope")
            shape = self._ffi.Shape(array.shape)
            return allocate(shape, self._ffi.dtype(item["dtype"]), self._ffi.device("cpu", 0), None)
        return self._ffi.from_dlpack(aligned(array))

    def _check_sizes(self, tensors: list[Any], *, in_place: bool) -> None:
        """Sizes that inputs share, lengths that add up, as past and new tokens to all: kernels rely on it."""
        sizes: dict[str, int] = {}
        for item, tensor in zip(self.inputs, tensors, strict=True):
            for dim, size in zip(item["shape"], tensor.shape, strict=True):
                if isinstance(dim, str) and sizes.setdefault(dim, int(size)) != size:
                    raise LoadError(f"{dim} of {item['name']!r} is {size}, expected {sizes[dim]} as before.")
        for total, past, new in self._index["sums"]:
            seen, most, expected = sizes[total], sizes[past], sizes[past] + sizes[new]
            if in_place and not sizes[new] <= seen <= most:
                raise LoadError(f"{total} is {seen}, expected {sizes[new]} to {most}: there is no more room.")
            if not in_place and seen != expected:
                raise LoadError(f"{total} is {seen}, expected {past} + {new} = {expected}.")

    def _use_threads(self) -> None:
        """Let the pool of this thread, whose size is fixed when it is made, work with as many as were asked for."""
        before, _Threads.local.count = getattr(_Threads.local, "count", 0), self._threads
        if not before:
            self._runtime[_SET_THREADS](max(os.cpu_count() or 1, self._threads))
            self._runtime[_RESET_THREADS]()
        if before != self._threads:
            self._ffi.get_global_func("runtime.config_threadpool")(_FAST_CORES, self._threads)
            self._runtime[_SET_THREADS](self._threads)  # the line above resets it

    def _open(self, path: Path) -> Any:
        """A library; under a new name where one of that name, compiled before, is open: the system goes by names."""
        digest = self._index["files"].get(path.name, {}).get("sha256")
        if _OPENED.setdefault(str(path), digest) == digest:
            return self._ffi.load_module(str(path))
        with tempfile.TemporaryDirectory() as folder:
            return self._ffi.load_module(str(shutil.copy(path, folder)))


_OPENED: dict[str, Any] = {}
"""SHA-256 of libraries by their paths."""


class _Threads:
    """How many threads the runtime's pool has in this thread; one run at a time, whichever thread asks for it."""

    lock = threading.Lock()
    local = threading.local()


def index_path(path: Path) -> Path:
    """The index file that ``path`` is, or the only one in the folder that it is."""
    found = sorted(path.glob("*.tvm")) if path.is_dir() else [path]
    if len(found) != 1:
        raise LoadError(f"{path} holds {len(found)} .tvm files; give the path of one.")
    return found[0]


def read_index(path: Path) -> dict[str, Any]:
    """What a compiled model consists of.

    Raises:
        LoadError: it is missing, damaged, or of another version.
    """
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = index["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"{path} is no index of a compiled model ({error}); compile it again.") from error
    if not known:
        raise LoadError(f"{path} has format {index['format']}, expected {FORMAT}; use the loader beside it.")
    return index


def host_features(index: Mapping[str, Any]) -> frozenset[str]:
    """Names of the features, of those the index knows, that may be used here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    found = {name for name, wanted in index["features"].items() if set(wanted) <= flags}
    mask = os.environ.get(MASK)
    if mask is not None:
        names = {name.strip() for name in mask.split(",") if name.strip()}
        if unknown := sorted(names - set(index["features"])):
            known = ", ".join(index["features"])
            raise LoadError(f"{MASK}: unknown CPU feature {unknown[0]!r}; known: {known}.")
        found &= names
    return frozenset(name for name in found if _TILES not in index["features"][name] or tiles_permitted())


def tiles_permitted() -> bool:
    """Ask Linux for the registers of AMX, as every process must (arch_prctl, xstate.rst)."""
    return bool(ctypes.CDLL(None).syscall(*map(ctypes.c_long, _REQUEST_TILES)) == 0)


def choose_library(index: Mapping[str, Any], features: frozenset[str]) -> dict[str, Any]:
    """The fastest library that a CPU of this machine with ``features`` can run.

    Raises:
        LoadError: there is none: instructions that a CPU lacks are never executed.
    """
    machine = platform.machine().lower()
    machine = _MACHINES.get(machine, machine)
    for library in index["libraries"]:
        if library["machine"] == machine and set(library["needs"]) <= features:
            return {**library, "file": library["file"].replace(".tar", ".so")}
    offered = ", ".join(f"{item['variant']} for {item['machine']}" for item in index["libraries"])
    raise LoadError(f"no library for this {machine} CPU among {offered}; compile for it (--target tvm-cpu).")


def aligned(array: Array) -> Array:
    """``array`` itself, or a contiguous copy where vectors are loaded with instructions that need alignment."""
    if array.flags.carray and not (array.size and array.ctypes.data % ALIGNMENT):
        return array
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _read(path: Path, known: Mapping[str, Any]) -> mmap.mmap:
    """A file in memory, in huge pages where the system has them: they are read half again as fast as small ones.

    Raises:
        LoadError: it cannot be read, or is another than the one ``known`` by its name.
    """
    try:
        memory = mmap.mmap(-1, path.stat().st_size or 1, **_PRIVATE)
        with contextlib.suppress(AttributeError, OSError):  # a system without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
        with path.open("rb") as file:
            file.readinto(memory)
    except OSError as error:
        raise LoadError(f"{path} cannot be read ({error.strerror}); compile the model again.") from error
    if path.name in known and hashlib.sha256(memory).hexdigest() != known[path.name]["sha256"]:
        raise LoadError(f"{path} is not the file that was compiled with this index; compile the model again.")
    return memory


def _view(memory: mmap.mmap, item: Mapping[str, Any]) -> Array:
    dtype, shape = np.dtype(item["dtype"]), tuple(item["shape"])
    return np.frombuffer(memory, dtype, int(np.prod(shape, dtype=np.int64)), item["offset"]).reshape(shape)


def _load_runtime(folder: Path) -> tuple[Any, ctypes.CDLL]:
    """The package tvm_ffi, and the runtime's own library."""
    os.environ.setdefault("TVM_BIND_THREADS", "0")  # pinned threads would pin the caller, too
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", str(SPINS))
    try:
        import tvm_ffi
    except ImportError as error:
        raise LoadError("the package apache-tvm-ffi is missing; pip install apache-tvm-ffi.") from error
    return tvm_ffi, ctypes.CDLL(str(_find_runtime(folder)), ctypes.RTLD_GLOBAL)


def _find_runtime(folder: Path) -> Path:
    given = os.environ.get(RUNTIME)
    places = [Path(given)] if given else [folder, *(Path(entry) / "tvm" / "lib" for entry in sys.path)]
    for found in (file for place in places for file in (place, *(place / name for name in _NAMES))):
        if found.is_file():
            return found
    raise LoadError(f"no libtvm_runtime beside the model or in the package apache-tvm; name it in {RUNTIME}.")
