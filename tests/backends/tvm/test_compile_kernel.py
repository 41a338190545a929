"""Compiling a kernel: never one that this CPU cannot run, never on memory that its loads would trap on."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.backends.tvm import compile_kernel as module
from qcompiler.backends.tvm.compile_kernel import ALIGNMENT, aligned, compile_kernel
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.errors import UnsupportedError

tvm = pytest.importorskip("tvm", reason="the extra tvm is not installed")
pytestmark = pytest.mark.tvm


def doubled() -> object:
    from qcompiler.backends.tvm.kernels.vectors import build, load, parameter, store

    def body() -> None:
        x, y = parameter("x", (16,), "float32"), parameter("y", (16,), "float32")
        store(y, [0], load(x, [0]) + load(x, [0]))

    return build("doubled", body)


def test_kernel_runs_and_outlives_its_library() -> None:
    kernel = compile_kernel(doubled(), Variant.PLAIN)
    x, y = aligned(np.arange(16, dtype=np.float32)), aligned(np.zeros(16, np.float32))
    kernel(x, y)
    np.testing.assert_array_equal(y, 2 * x)


def test_variant_that_this_cpu_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "host_features", lambda: frozenset())
    with pytest.raises(UnsupportedError, match=r"avx512_vnni.*no avx2, avx512, avx512_vnni.*plain"):
        compile_kernel(doubled(), Variant.AVX512_VNNI)


def test_arrays_that_would_trap_are_refused() -> None:
    kernel = compile_kernel(doubled(), Variant.PLAIN)
    room = aligned(np.zeros(32, np.float32))
    with pytest.raises(ValueError, match="argument 1"):
        kernel(room[:16], room[1:17])
    with pytest.raises(ValueError, match="argument 0"):
        kernel(room[::2], room[:16])


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4)])
def test_aligned_copies_any_shape(shape: tuple[int, ...]) -> None:
    array = np.ones(shape, np.float32)
    copy = aligned(array)
    np.testing.assert_array_equal(copy, array)
    assert copy.size == 0 or copy.ctypes.data % ALIGNMENT == 0
    assert not np.shares_memory(copy, array)
