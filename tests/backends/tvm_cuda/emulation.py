"""A stand-in for NVIDIA's driver, which runs the CUDA source behind a model's PTX on the CPU, thread by thread."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm_cuda import nvrtc

Array = npt.NDArray[Any]

HERE = Path(__file__).parent
FLAGS = ("-O1", "-std=c++17", "-fPIC", "-shared", "-w", "-ffp-contract=off")

_KERNEL = re.compile(r'extern "C" __global__ void __launch_bounds__\(\d+\) (\w+)\((.*?)\);')


def recording(folder: Path) -> Callable[[str, str], str]:
    """What compiles as ``nvrtc.ptx`` does, and keeps the source beside a name that the stand-in finds by the PTX."""
    folder.mkdir(parents=True, exist_ok=True)

    def compile_to_ptx(source: str, arch: str) -> str:
        found = nvrtc.ptx(source, arch)
        code = folder / f"{fnv(found):016x}.cc"
        code.write_text(for_cpu(source))
        subprocess.run(
            ["g++", *FLAGS, f"-I{HERE}", "-o", str(code.with_suffix(".so")), str(code)],
            check=True,
            timeout=300,
        )
        return found

    return compile_to_ptx


def for_cpu(source: str) -> str:
    """The source with an entry for each kernel that takes its arguments as the driver does."""
    text = nvrtc.without_headers(source).split("typedef unsigned long long uint64_t;", 1)[1]
    text = text.replace("__shared__ alignas(64)", "alignas(64) static")
    entries = []
    for name, parameters in _KERNEL.findall(text):
        kinds = [re.sub(r"\s*__restrict__\s*|\s+\w+$", " ", item).strip() for item in parameters.split(",")]
        kinds = [re.sub(r"\s+\w+$", "", kind) if kind.count("*") else kind for kind in kinds]
        given = ", ".join(
            f"*({kind.split('*')[0].strip()}{'*' * kind.count('*')}*)a[{i}]" for i, kind in enumerate(kinds)
        )
        body = text.split(f" {name}({parameters}) {{", 1)[1].split('extern "C" __global__', 1)[0]
        waits = int(any(word in body for word in ("__syncthreads", "__shfl", "__syncwarp")))
        entries.append(f'extern "C" const int waits_{name} = {waits};')
        entries.append(f'extern "C" void enter_{name}(void** a) {{ {name}({given}); }}')
    return "\n".join(['#include "grid.h"', "#define uint unsigned", text, *entries, ""])


def fnv(text: str) -> int:
    """64 bits of FNV-1a."""
    found = 14695981039346656037
    for byte in text.encode():
        found = (found ^ byte) * 1099511628211 % (1 << 64)
    return found


def build_driver(folder: Path) -> None:
    """Put both libraries into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("libcuda.so.1", "libcudart.so.13"):
        versions = folder / f"{name}.map"
        versions.write_text("libcudart.so.13 { global: *; };" if "rt" in name else "{ global: *; };")
        subprocess.run(
            ["g++", *FLAGS, f"-Wl,-soname,{name}", f"-Wl,--version-script={versions}", "-o", str(folder / name),
             str(HERE / "driver.cc"), "-ldl"],
            check=True, timeout=300,
        )  # fmt: skip


_RUN = """
import sys
import numpy as np
from qcompiler.backends.tvm_cuda.loader import CudaModel
assert "tvm" not in sys.modules
model = CudaModel(sys.argv[1], threads=1)
given, found = dict(np.load(sys.argv[2])), {}
for run in range(int(sys.argv[4])):
    feeds = {name.split("/", 1)[1]: array for name, array in given.items() if name.startswith(f"{run}/")}
    found |= {f"{run}/{name}": array for name, array in model.run(feeds).items()}
np.savez(sys.argv[3], **found)
"""


def run(model: Path, feeds: Sequence[Mapping[str, Array]], folder: Path) -> list[dict[str, Array]]:
    """Outputs of a compiled model for each feed on the stand-in in ``folder``, in a process of its own."""
    given, found = folder / "feeds.npz", folder / "found.npz"
    arrays = {f"{i}/{name}": array for i, feed in enumerate(feeds) for name, array in feed.items()}
    np.savez(given, **arrays)  # type: ignore[arg-type]
    environment = os.environ | {"LD_LIBRARY_PATH": str(folder), "QCOMPILER_EMULATED": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(model), str(given), str(found), str(len(feeds))],
        env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    outputs: list[dict[str, Array]] = [{} for _ in feeds]
    for name, array in np.load(found).items():
        place, _, output = name.partition("/")
        outputs[int(place)][output] = array
    return outputs
