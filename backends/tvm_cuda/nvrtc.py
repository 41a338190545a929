"""CUDA source to PTX by NVIDIA's run-time compiler, which needs neither a GPU nor a driver (PyPI: nvidia-cuda-nvrtc).

Its C interface is that of NVRTC's user guide, "Basic Usage".
"""

from __future__ import annotations

import ctypes
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path

from qcompiler.errors import OptionError, UnsupportedError

PACKAGE = "nvidia-cuda-nvrtc"

_NAMES = ("libnvrtc.so.13", "libnvrtc.so.12")
_FOLDERS = ("nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib")

LEAST_ARCHITECTURE = 75
PTX_VERSION = (9, 0)
"""What drivers of CUDA 13 read, the oldest that the runtime works with; later versions add nothing that is used."""

_TYPES = "\n".join(
    f"typedef {kind} {name};"
    for name, kind in {
        "int8_t": "signed char",
        "uint8_t": "unsigned char",
        "int16_t": "short",
        "uint16_t": "unsigned short",
        "int32_t": "int",
        "uint32_t": "unsigned int",
        "int64_t": "long long",
        "uint64_t": "unsigned long long",
    }.items()
)
"""In place of headers, which are packages of their own."""

_HEADERS = re.compile(r"#ifdef __CUDACC_RTC__.*?#include <cuda\.h>\s*#endif", re.DOTALL)
_VERSION = re.compile(r"^\.version (\d+)\.(\d+)$", re.MULTILINE)


@functools.cache
def find_library() -> Path | None:
    """Where NVRTC is: in an installed package, or where the system finds it by its name."""
    for entry in sys.path:
        for folder in _FOLDERS:
            for name in _NAMES:
                if (found := Path(entry) / folder / name).is_file():
                    return found
    for name in _NAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return Path(name)
    return None


@functools.cache
def architectures() -> tuple[int, ...]:
    """Compute capabilities that code can be made for, without the dot (80)."""
    library = _library()
    count = ctypes.c_int()
    _checked(library, library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    found = (ctypes.c_int * count.value)()
    _checked(library, library.nvrtcGetSupportedArchs(found))
    return tuple(item for item in found if item >= LEAST_ARCHITECTURE)


def require_architecture(arch: str) -> int:
    """The number in ``sm_80``.

    Raises:
        OptionError: it is none that code can be made for.
    """
    known = [f"sm_{item}" for item in architectures()]
    if arch not in known:
        raise OptionError(
            f"arch={arch} is no GPU architecture that code is made for; known: {', '.join(known)} (code for one also "
            "runs on later ones)."
        )
    return int(arch.removeprefix("sm_"))


def ptx(source: str, arch: str) -> str:
    """PTX, which the driver of any GPU of that capability or a later one compiles when it is loaded.

    Args:
        source: CUDA, as TVM generates it.
        arch: such as ``sm_80``.

    Raises:
        UnsupportedError: NVRTC refuses the source.
    """
    option = f"--gpu-architecture=compute_{require_architecture(arch)}"
    return _VERSION.sub(_lowered, _compiled(source, option, "PTX").decode().rstrip("\0"), count=1)


def cubin(source: str, arch: str) -> bytes:
    """Machine code for one architecture: proof that the assembler takes the code.

    Raises:
        UnsupportedError: NVRTC refuses the source.
    """
    return _compiled(source, f"--gpu-architecture=sm_{require_architecture(arch)}", "CUBIN")


def _lowered(found: re.Match[str]) -> str:
    version = min((int(found[1]), int(found[2])), PTX_VERSION)
    return f".version {version[0]}.{version[1]}"


def without_headers(source: str) -> str:
    """TVM's source, whose includes are replaced by the few types that it uses of them."""
    return _HEADERS.sub(lambda _: _TYPES, source, count=1)


def _compiled(source: str, option: str, kind: str) -> bytes:
    library, program = _library(), ctypes.c_void_p()
    text = without_headers(source).encode()
    _checked(library, library.nvrtcCreateProgram(ctypes.byref(program), text, b"model.cu", 0, None, None))
    try:
        options = (ctypes.c_char_p * 2)(option.encode(), b"-default-device")
        if library.nvrtcCompileProgram(program, len(options), options):
            log = _read(library, program, library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog)
            first = next((line for line in log.decode().splitlines() if "error" in line), "no reason given")
            raise UnsupportedError(
                f"NVRTC refuses the generated code: {first.strip()}; use --target ort-cpu."
            )
        return _read(
            library, program, getattr(library, f"nvrtcGet{kind}Size"), getattr(library, f"nvrtcGet{kind}")
        )
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _read(
    library: ctypes.CDLL, program: ctypes.c_void_p, size_of: Callable[..., int], read: Callable[..., int]
) -> bytes:
    size = ctypes.c_size_t()
    _checked(library, size_of(program, ctypes.byref(size)))
    found = ctypes.create_string_buffer(size.value)
    _checked(library, read(program, found))
    return found.raw


@functools.cache
def _library() -> ctypes.CDLL:
    path = find_library()
    assert path is not None, "Target.available() says so first"
    library = ctypes.CDLL(str(path))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def _checked(library: ctypes.CDLL, code: int) -> None:
    if code:
        raise UnsupportedError(
            f"NVRTC fails: {library.nvrtcGetErrorString(code).decode()}; reinstall {PACKAGE}."
        )
