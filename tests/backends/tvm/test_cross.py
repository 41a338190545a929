"""Compiling for another machine: objects for aarch64, linked by Debian's compiler and run by qemu.

The runtime is not there for that machine: a kernel is called as the runtime would call it, by a small C program.  Where
``QCOMPILER_AARCH64`` names a folder of unpacked wheels of apache-tvm and apache-tvm-ffi for aarch64 (docs/guide.md),
the C++ example runs a whole model, too.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from qcompiler.backends.tvm.compile_kernel import aligned
from qcompiler.errors import ModelError
from tests.backends.tvm.compiled import WIDTH, copied, data
from tests.backends.tvm.kernels.running import needs_tvm
from tests.backends.tvm.test_loader import installed

pytestmark = [
    needs_tvm,
    pytest.mark.tvm,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="cross-compiles from x86-64"),
]

COMPILER, EMULATOR, ROOT = "aarch64-linux-gnu-gcc", "qemu-aarch64", "/usr/aarch64-linux-gnu"
TOOLS = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
ROWS = 3
RUNTIME = os.environ.get("QCOMPILER_AARCH64")

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

typedef int (*Task)(int, void*, void*);
int launch(Task task, void* data, int count) {
  struct { void* sync; int32_t tasks; } all = {0, 1};
  (void)count;
  return task(0, &all, data);
}
void* take(int type, int id, uint64_t size, int code, int bits) {
  (void)type; (void)id; (void)code; (void)bits;
  return aligned_alloc(64, (size + 63) / 64 * 64);
}
int give(int type, int id, void* memory) { (void)type; (void)id; free(memory); return 0; }
extern int (*__TVMBackendParallelLaunch)(Task, void*, int);
extern void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void*);
int KERNEL(void*, const TVMFFIAny*, int32_t, TVMFFIAny*);
void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
  fprintf(stderr, "%s:", kind);
  for (int32_t i = 0; i < count; ++i) fprintf(stderr, " %s", parts[i]);
}

int main(int argc, char** argv) { /* arguments: file, code, bits, sizes, for every tensor; the last one is written */
  TVMFFIAny values[16]; DLTensor tensors[16]; int64_t shapes[16][4]; char* last = 0; size_t size = 0; int count = 0;
  __TVMBackendParallelLaunch = launch;
  __TVMBackendAllocWorkspace = take;
  __TVMBackendFreeWorkspace = give;
  memset(values, 0, sizeof values); memset(tensors, 0, sizeof tensors);
  for (int i = 1; i + 3 < argc; i += 4, ++count) {
    DLTensor* t = &tensors[count];
    t->device.device_type = kDLCPU; t->shape = shapes[count]; t->dtype.lanes = 1;
    t->dtype.code = atoi(argv[i + 1]); t->dtype.bits = atoi(argv[i + 2]);
    size = t->dtype.bits / 8;
    for (char* word = strtok(argv[i + 3], "x"); word; word = strtok(0, "x")) {
      shapes[count][t->ndim] = atol(word); size *= shapes[count][t->ndim++];
    }
    t->data = take(0, 0, size, 0, 0);
    FILE* file = fopen(last = argv[i], "rb");
    if (file) { if (fread(t->data, 1, size, file) != size) return 3; fclose(file); }
    values[count].type_index = kTVMFFIDLTensorPtr; values[count].v_ptr = t;
  }
  TVMFFIAny result; memset(&result, 0, sizeof result);
  if (KERNEL(0, values, count, &result)) return 1;
  FILE* file = fopen(last, "wb");
  fwrite(tensors[count - 1].data, 1, size, file);
  return fclose(file);
}
"""


@pytest.mark.skipif(bool(TOOLS), reason=f"not installed: {', '.join(TOOLS)}")
def test_objects_for_aarch64_compute_what_this_machine_computes(tmp_path: Path) -> None:
    result = copied(tmp_path / "out", "int8_static", "tvm-cpu:mtriple=aarch64-linux-gnu")
    index = json.loads(result.path.read_text())
    assert [(item["machine"], item["variant"]) for item in index["libraries"]] == [
        ("aarch64", "plain"),
        ("x86_64", "plain"),
    ]
    with tarfile.open(result.path.parent / index["libraries"][0]["file"]) as archive:
        archive.extractall(tmp_path)  # our own objects; filters came with Python 3.11.4
    program = link(tmp_path, "__tvm_ffi_gemmint8_0")
    model = result.session().model  # type: ignore[attr-defined]
    x = data(ROWS)["x"]
    first = next(node for node in result.model.graph if node.op_type == "GemmInt8")
    constants = [np.from_dlpack(tensor) for tensor in model._parameters]
    arrays = [x]
    for value in first.inputs[1:]:
        assert value is not None
        assert value.const_value is not None
        arrays.append(value.const_value.numpy())
    assert any(np.array_equal(arrays[3], constant) for constant in constants)
    expected = np.zeros((ROWS, 96), np.float32)
    arguments: list[str] = []
    for number, array in enumerate([*arrays, expected]):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(aligned(array).tobytes())
        code = {"f": 2, "i": 0, "u": 1}[array.dtype.kind]
        arguments += [str(path), str(code), str(8 * array.dtype.itemsize), "x".join(map(str, array.shape))]
    subprocess.run([EMULATOR, "-L", ROOT, program, *arguments], check=True, timeout=60)
    found = np.frombuffer((tmp_path / f"{len(arrays)}.bin").read_bytes(), np.float32).reshape(expected.shape)
    here = call_here(arrays, expected.shape)
    # Sums are exact integers on both; the Gelu behind them may differ in the last bits.
    np.testing.assert_allclose(found, here, rtol=0, atol=2e-6 * float(np.abs(here).max()))
    assert x.shape == (ROWS, WIDTH)


def test_objects_are_refused_until_they_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = copied(tmp_path, "int8_static", "tvm-cpu:mtriple=aarch64-linux-gnu")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(ModelError, match=r"aarch64\.plain\.so is missing; link the objects"):
        result.session()


@pytest.mark.skipif(bool(TOOLS), reason=f"not installed: {', '.join(TOOLS)}")
@pytest.mark.skipif(RUNTIME is None, reason="QCOMPILER_AARCH64 names no runtime for aarch64")
def test_the_example_runs_a_whole_model_on_aarch64(tmp_path: Path) -> None:
    assert RUNTIME is not None
    result = copied(tmp_path, "int8_static", "tvm-cpu:mtriple=aarch64-linux-gnu")
    archive = tmp_path / "model.qc.aarch64.plain.tar"
    with tarfile.open(archive) as file:
        file.extractall(tmp_path)
    objects = [str(path) for path in tmp_path.glob("*.o")]
    compiler = COMPILER.replace("gcc", "g++")
    subprocess.run([compiler, "-shared", "-o", archive.with_suffix(".so"), *objects], check=True, timeout=60)
    folders = [f"{RUNTIME}/tvm/lib", f"{RUNTIME}/tvm_ffi/lib"]
    command = [compiler, "-std=c++17", str(tmp_path / "example.cc"), "-o", str(tmp_path / "example")]
    command += ["-Wl,--allow-shlib-undefined", f"-I{RUNTIME}/tvm_ffi/include"]
    command += [*(f"-L{folder}" for folder in folders), "-ltvm_runtime", "-ltvm_ffi"]
    subprocess.run(command, check=True, timeout=120)
    program = [EMULATOR, "-L", ROOT, "-E", f"LD_LIBRARY_PATH={':'.join(folders)}", str(tmp_path / "example")]
    done = subprocess.run(
        [*program, str(result.path), str(ROWS), str(WIDTH)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    expected = result.session().run({"x": np.zeros((ROWS, WIDTH), np.float32)})["y"]
    expected = np.asarray(expected, np.float32).reshape(-1)
    found = [float(word) for word in done.stdout.splitlines()[1].split()[1:]]
    # Six digits are printed; the Gelu may differ in the last bits.
    np.testing.assert_allclose(found, expected[:8], rtol=1e-4, atol=1e-5)


def link(folder: Path, kernel: str) -> str:
    (folder / "call.c").write_text(PROGRAM)
    program = folder / "call"
    command = [COMPILER, "-O1", f"-DKERNEL={kernel}", f"-I{installed('tvm_ffi') / 'include'}"]
    subprocess.run(
        [*command, folder / "call.c", folder / "lib0.o", "-lm", "-o", program], check=True, timeout=60
    )
    return str(program)


def call_here(arrays: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    from qcompiler.backends.tvm.compile_kernel import compile_kernel
    from qcompiler.backends.tvm.cpu_features import Variant
    from qcompiler.backends.tvm.kernels.epilogue import Epilogue
    from qcompiler.backends.tvm.kernels.functions import Function
    from qcompiler.backends.tvm.kernels.gemm_int8 import GemmInt8, gemm_int8

    spec = GemmInt8(shape[1], WIDTH, Variant.PLAIN, "static", Epilogue(bias=True, function=Function.GELU))
    kernel = compile_kernel(gemm_int8(spec), Variant.PLAIN)
    result = aligned(np.zeros(shape, np.float32))
    kernel(*(aligned(array) for array in arrays), result)
    return result
