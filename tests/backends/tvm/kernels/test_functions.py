"""Vector functions against the C library's."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels import functions
from qcompiler.backends.tvm.kernels.functions import Function, apply
from qcompiler.backends.tvm.kernels.vectors import Expr, PrimFunc, build, load, parameter, store
from tests.backends.tvm.kernels.running import Runner, variant_cases

pytestmark = pytest.mark.tvm

X = np.concatenate([np.linspace(-100, 100, 401), np.linspace(-6, 6, 399)]).astype(np.float32).reshape(50, 16)


def of_vectors(function: object) -> PrimFunc:
    def body() -> None:
        from qcompiler.backends.tvm.kernels.vectors import T

        x, y = parameter("x", X.shape, "float32"), parameter("y", X.shape, "float32")
        with T.serial(0, len(X)) as row:
            assert callable(function)
            value: Expr = function(load(x, [row, 0]))
            store(y, [row, 0], value)

    return build("of_vectors", body)


def reference(function: Function) -> npt.NDArray[np.float64]:
    x = X.astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-x))
    erf = np.vectorize(math.erf)
    values: dict[Function, npt.NDArray[np.float64]] = {
        Function.NONE: x,
        Function.RELU: np.maximum(x, 0),
        Function.SIGMOID: sigmoid,
        Function.SILU: x * sigmoid,
        Function.TANH: np.tanh(x),
        Function.GELU: 0.5 * x * (1 + erf(x / math.sqrt(2))),
        Function.ERF: erf(x),
        Function.HARD_SIGMOID: np.clip(x / 6 + 0.5, 0, 1),
        Function.HARD_SWISH: x * np.clip(x / 6 + 0.5, 0, 1),
        Function.GELU_TANH: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    }
    return values[function]


@pytest.mark.parametrize("function", list(Function))
def test_functions(function: Function) -> None:
    run = Runner(of_vectors(lambda value: apply(function, value)), Variant.PLAIN)
    # erf and tanh are within 3e-7 absolutely, which x of 6 multiplies
    np.testing.assert_allclose(run(X, shape=X.shape), reference(function), rtol=5e-7, atol=2e-6)


@pytest.mark.parametrize("variant", variant_cases())
def test_exp(variant: Variant) -> None:
    run = Runner(of_vectors(functions.exp), variant)
    inside = (X > -87) & (X < 88)
    actual = run(X, shape=X.shape)
    # two units in the last place of float32
    np.testing.assert_allclose(actual[inside], np.exp(X.astype(np.float64))[inside], rtol=2.5e-7)
    assert not actual[X < -88].any()
    assert np.isfinite(actual).all()


@pytest.mark.parametrize("variant", variant_cases())
def test_power_of_two_is_exact_at_integers_and_ends_in_zero(variant: Variant) -> None:
    run = Runner(of_vectors(functions.power_of_two), variant)
    x = np.minimum(X * 1.4, 127).astype(np.float32)
    x[0], x[1, :8] = -np.arange(16), np.inf * -1
    actual = run(x, shape=X.shape)
    inside = x > -126
    # the polynomial's 9e-8 and a unit in the last place
    np.testing.assert_allclose(actual[inside], np.exp2(x.astype(np.float64))[inside], rtol=2.5e-7)
    np.testing.assert_array_equal(actual[0], np.exp2(x[0]))
    assert not actual[x <= -127].any()
    assert (np.abs(actual[x <= -126]) < 2e-38).all()
