"""Compile and call kernels in tests: only variants that this CPU can run."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qcompiler.backends.tvm.compile_kernel import aligned, compile_kernel
from qcompiler.backends.tvm.cpu_features import Variant, host_features, runnable_variants

needs_tvm = pytest.mark.skipif(
    importlib.util.find_spec("tvm") is None, reason="the extra tvm is not installed"
)
RUNNABLE = [variant for variant in runnable_variants(host_features()) if variant.vectors is variant]


def variant_cases() -> list[Any]:
    """Every variant without tiles; those that this CPU cannot run are skipped with what is missing."""
    return [
        pytest.param(
            variant,
            marks=pytest.mark.skipif(
                variant not in RUNNABLE,
                reason=f"this CPU cannot run {variant}: needs {sorted(variant.needs)}",
            ),
        )
        for variant in Variant
        if variant.vectors is variant
    ]


class Runner:
    """A compiled kernel that is called with any arrays and returns its last parameter."""

    def __init__(self, function: Any, variant: Variant) -> None:
        self._kernel = compile_kernel(function, variant)

    def __call__(
        self, *arrays: npt.NDArray[Any], shape: tuple[int, ...], dtype: str = "float32"
    ) -> npt.NDArray[Any]:
        fill = np.nan if dtype == "float32" else 0
        result = aligned(np.full(shape, fill, dtype))
        self._kernel(*(aligned(array) for array in arrays), result)
        return result
