"""What an error of a weight costs in a search: its input's importance, its own size, or the same for all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.formats.base import Search

Float32 = npt.NDArray[np.float32]

NORM = 0.7
"""The p of HQQ's norm (Badri and Shaji, 2023): below one, so that a few large errors are let be."""


def weights_of(search: Search, values: Float32, importance: Float32 | None) -> Float32:
    """Cost of a squared error at every one of ``values [G, S, N]``; broadcasts against them.

    Args:
        search: ``K_QUANT`` weighs as llama.cpp does: ``importance * sqrt(2 mean(x^2) + x^2)``, and without
            importance ``sqrt(mean(x^2)) + |x|``; every other search by importance alone.
        values: float32, groups along axis 1.
        importance: ``[G, S, 1]`` mean squares of the inputs, or None.
    """
    if search is not Search.K_QUANT:
        return np.ones((1, 1, 1), np.float32) if importance is None else importance
    square = np.square(values)
    mean = square.mean(axis=1, keepdims=True)
    if importance is None:
        plain: Float32 = np.sqrt(mean) + np.abs(values)
        return plain
    square += 2 * mean
    np.sqrt(square, out=square)
    square *= importance
    return square


def cost(search: Search, errors: Float32, weights: Float32) -> Float32:
    """Weighted sum over axis 1 of ``errors ** 2``, for ``HQQ`` of ``|errors|``; overwrites ``errors``."""
    if search is Search.HQQ:
        np.abs(errors, out=errors)
    else:
        np.square(errors, out=errors)
    return weighted_sum(errors, weights)


def weighted_sum(values: Float32, weights: Float32) -> Float32:
    """``sum(values * weights, axis=1)``; overwrites ``values``."""
    if weights.size > 1:
        values *= weights
    total: Float32 = values.sum(axis=1, dtype=np.float32)
    return total


def shrunk(errors: Float32, beta: float) -> Float32:
    """The proximal step of the p-norm that HQQ takes: large errors stay, small ones become zero.

    ``sign(e) * max(|e| - |e|^(p-1) / beta, 0)`` with errors in units of a step.
    """
    magnitude = np.maximum(np.abs(errors), np.float32(1e-6))
    magnitude -= np.power(magnitude, np.float32(NORM - 1)) / np.float32(beta)
    np.maximum(magnitude, 0, out=magnitude)
    return np.copysign(magnitude, errors)
