"""Norms of rows against float64: every variant, both kinds, everything around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.compile_kernel import aligned, compile_kernel
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.norm import Norm, norm
from tests.backends.tvm.kernels.running import RUNNABLE, Runner, variant_cases

pytestmark = pytest.mark.tvm

ROWS, COLUMNS = 5, 83
Floats = npt.NDArray[np.float32]


def arrays(count: int, *shape: int) -> list[Floats]:
    random = np.random.default_rng(len(shape))
    return [random.normal(0.5, 2.0, shape).astype(np.float32) for _ in range(count)]


def reference(kind: str, x: npt.NDArray[Any], gamma: Floats, beta: Floats | float = 0.0) -> npt.NDArray[Any]:
    x = x.astype(np.float64)
    apart = x - x.mean(-1, keepdims=True) if kind == "layer" else x
    return np.asarray(apart / np.sqrt((apart**2).mean(-1, keepdims=True) + 1e-5) * gamma + beta)


def close(actual: Floats, expected: npt.NDArray[Any]) -> None:
    """Sums of 83 float32 and a few roundings."""
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_rows_alone(variant: Variant, kind: Any) -> None:
    (x,), (gamma,) = arrays(1, ROWS, COLUMNS), arrays(1, COLUMNS)
    run = Runner(norm(Norm(COLUMNS, variant, kind)), variant)
    close(run(x, gamma, shape=x.shape), reference(kind, x, gamma))


@pytest.mark.parametrize("with_sum", [True, False])
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_everything_around(kind: Any, with_sum: bool) -> None:
    (x, residual), (gamma, beta, bias) = arrays(2, ROWS, COLUMNS), arrays(3, COLUMNS)
    spec = Norm(COLUMNS, RUNNABLE[0], kind, residual=True, bias=True, beta=True, sum=with_sum)
    y, total = (aligned(np.full(x.shape, np.nan, np.float32)) for _ in range(2))
    outputs = [y, total] if with_sum else [y]
    given = [aligned(array) for array in (x, residual, gamma, beta, bias)]
    compile_kernel(norm(spec), RUNNABLE[0])(*given, *outputs)
    close(y, reference(kind, x + residual + bias, gamma, beta))
    if with_sum:
        close(total, x + residual + bias)


def test_a_large_mean_does_not_cancel() -> None:
    (x,), gamma = arrays(1, ROWS, COLUMNS), np.ones(COLUMNS, np.float32)
    x += 1000
    run = Runner(norm(Norm(COLUMNS, Variant.PLAIN, "layer")), Variant.PLAIN)
    # the mean is rounded at 1e-7 * 1000
    np.testing.assert_allclose(run(x, gamma, shape=x.shape), reference("layer", x, gamma), atol=2e-4)
