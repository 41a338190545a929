"""Loading in fresh processes: Python without the package tvm, and C++."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from qcompiler import CompileResult
from qcompiler.backends.tvm.cpu_features import MASK
from qcompiler.backends.tvm.loader import Model
from tests.backends.tvm.compiled import WIDTH, compiled, copied, data
from tests.backends.tvm.kernels.running import RUNNABLE, needs_tvm

pytestmark = [needs_tvm, pytest.mark.tvm]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> CompileResult:
    return copied(tmp_path_factory.mktemp("compiled"), "int8_dynamic", "tvm-cpu")


def installed(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def program(result: CompileResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_example(result.path.parent, tmp_path_factory.mktemp("program") / "example")


def build_example(folder: Path, program: Path) -> Path:
    """Compile the example beside a model."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here")
    headers, libraries = (
        installed("tvm_ffi") / "include",
        [installed("tvm") / "lib", installed("tvm_ffi") / "lib"],
    )
    command = [
        compiler,
        "-std=c++17",
        "-O0",
        "-Wall",
        "-Werror",
        str(folder / "example.cc"),
        "-o",
        str(program),
        "-isystem",
        str(headers),
    ]
    command += [f"-L{path}" for path in libraries] + [f"-Wl,-rpath,{path}" for path in libraries]
    done = subprocess.run(
        [*command, "-ltvm_runtime", "-ltvm_ffi"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return program


def test_libraries_hold_nothing_for_debuggers(result: CompileResult) -> None:
    libraries = list(result.path.parent.glob("*.so"))
    assert libraries
    assert not any(b".debug_" in library.read_bytes() for library in libraries)


def test_python_needs_no_compiler(result: CompileResult, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", data(5)["x"])
    program = f"""
import sys
sys.modules.update(tvm=None, qcompiler=None, onnxruntime=None)   # importing any of them fails
sys.path.insert(0, {str(result.path.parent)!r})
import numpy as np
from load_model import Model
model = Model({str(result.path.parent)!r}, threads=2)
np.save({str(tmp_path / "y.npy")!r}, model.run({{"x": np.load({str(tmp_path / "x.npy")!r})}})["y"])
print(model.variant)
"""
    environment = {**os.environ, "QCOMPILER_TVM_RUNTIME": str(installed("tvm") / "lib")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == RUNNABLE[0]
    # The same library and the same rows: two threads share out whole tiles.
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), result.session().run(data(5))["y"])


def test_models_in_one_thread_have_the_threads_that_each_asks_for(result: CompileResult) -> None:
    """The runtime's pool keeps the size that it is made with; the first model must not decide for the others."""
    found = []

    def run() -> None:
        models = {count: Model(result.path, threads=count) for count in (1, 2)}
        used = models[1]._ffi.get_global_func("runtime.NumThreads")
        for count in (1, 2, 1):
            models[count].run(data(5))
            found.append(used())

    thread = threading.Thread(target=run)  # pools belong to threads, and this one may have one
    thread.start()
    thread.join()
    assert found == [1, min(2, os.cpu_count() or 1), 1]


def test_cpp_runs_the_model_in_the_variant_of_the_cpu(result: CompileResult, program: Path) -> None:
    expected = result.session().run({"x": np.zeros((3, WIDTH), np.float32)})["y"]
    expected = np.asarray(expected, np.float32).reshape(-1)[:8]
    for mask, variant in ((None, RUNNABLE[0]), ("", "plain")):
        environment = os.environ | ({} if mask is None else {MASK: mask})
        done = subprocess.run(
            [program, result.path, "3", str(WIDTH)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first == f"variant {variant}"
        # Six digits are printed; variants differ in the last bits of floats.
        np.testing.assert_allclose(
            [float(word) for word in second.split()[1:]], expected, rtol=1e-4, atol=1e-5
        )


def test_cpp_refuses_what_does_not_fit(result: CompileResult, tmp_path: Path, program: Path) -> None:
    folder = shutil.copytree(result.path.parent, tmp_path / "copy")
    place = folder / result.path.name
    index = json.loads(place.read_text())

    def refused(*sizes: str) -> str:
        done = subprocess.run([program, place, *sizes], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        return done.stderr

    assert "input 'x' is float32 [3, 63], expected float32 [N, 64]" in refused("3", "63")
    assert "input 'x' is float32 [3], expected float32 [N, 64]" in refused("3")
    outside = [item | {"offset": 1 << 40} for item in index["parameters"]["tensors"]]
    place.write_text(json.dumps(index | {"parameters": index["parameters"] | {"tensors": outside}}))
    assert "a tensor lies outside" in refused("3", "64")
    place.write_text(json.dumps({"format": 1}))
    assert "it has no" in refused("3", "64")
    place.write_text("{")
    assert "is no index of a compiled model" in refused("3", "64")
    place.write_text(json.dumps(index))
    (folder / index["parameters"]["file"]).write_bytes(b"something else")
    assert "is not the file that was compiled with this index" in refused("3", "64")


def test_a_model_compiled_anew_in_the_same_place_runs_its_own_code(tmp_path: Path) -> None:
    """The system opens libraries by their names: the one that is open must not be taken for the new one."""
    first = compiled(tmp_path / "model", "int8_dynamic", "tvm-cpu:host_only=true")
    with_first = first.session()
    expected = with_first.run(data(5))["y"]
    second = compiled(tmp_path / "model", "int4", "tvm-cpu:host_only=true")
    assert second.path == first.path
    alone = copied(tmp_path / "alone", "int4", "tvm-cpu:host_only=true")
    # The same code on the same numbers.
    np.testing.assert_array_equal(second.session().run(data(5))["y"], alone.session().run(data(5))["y"])
    np.testing.assert_array_equal(with_first.run(data(5))["y"], expected)
