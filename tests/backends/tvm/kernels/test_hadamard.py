"""The transform against the matrix itself."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.hadamard import Hadamard, hadamard
from tests.backends.tvm.kernels.running import Runner, variant_cases

pytestmark = pytest.mark.tvm


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("size", [4, 16, 64])
def test_blocks(variant: Variant, size: int) -> None:
    x = np.random.default_rng(0).normal(0, 1, (3, 192)).astype(np.float32)
    run = Runner(hadamard(Hadamard(192, size, variant)), variant)
    matrix = np.array([[(-1.0) ** (i & j).bit_count() for j in range(size)] for i in range(size)])
    expected = (x.reshape(3, -1, size) @ matrix / np.sqrt(size)).reshape(x.shape)
    # log2(size) additions in float32
    np.testing.assert_allclose(run(x, shape=x.shape), expected, atol=1e-6)
    np.testing.assert_allclose(run(run(x, shape=x.shape), shape=x.shape), x, atol=2e-6)


@pytest.mark.parametrize(("columns", "size"), [(48, 12), (48, 32), (8, 8)])
def test_other_sizes_are_refused(columns: int, size: int) -> None:
    with pytest.raises(ValueError, match=r"power of two|multiple"):
        hadamard(Hadamard(columns, size, Variant.PLAIN))
