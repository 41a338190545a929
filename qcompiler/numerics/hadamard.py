"""Hadamard matrices: orthogonal, symmetric, all entries of one magnitude, so that a large channel is spread over all.

    H[i, j] = (-1)^(number of ones in i & j) / sqrt(n),   H H = 1,   X W = (X H)(H W)

Sylvester's construction, n a power of two; larger K are cut into blocks of n channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.affine import Float32, affine_parameters, dequantize, quantize, symmetric_parameters
from qcompiler.numerics.smoothing import Codes
from qcompiler.numerics.weights import quantize_weight

LEAST = 16
"""Rows of the smallest matrix that is worth it, and that the kernels have."""


def block_size(channels: int, largest: int) -> int:
    """The largest power of two up to ``largest`` that divides ``channels``; 0 where that is below 16."""
    found = min(channels & -channels, largest)
    return found if found >= LEAST else 0


def hadamard_matrix(size: int) -> Float32:
    """H ``[size, size]``, orthonormal."""
    matrix = np.ones((1, 1), np.float64)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.asarray(matrix / np.sqrt(size), np.float32)


def rotated_rows(matrix: npt.NDArray[np.floating], size: int) -> Float32:
    """``H W`` in blocks of ``size`` rows of ``W [K, N]``."""
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows // size, size, columns)
    return np.asarray(np.matmul(hadamard_matrix(size), blocks), np.float32).reshape(rows, columns)


def rotation_errors(
    rows: Float32, weights: Sequence[Float32], codes: Codes, size: int
) -> tuple[float, float]:
    """Mean over consumers of ``|Q(X) Q(W) - X W|^2 / |X W|^2``, as they are and with X and W rotated.

    Args:
        rows: a sample of the activation, ``[rows, K]``; its extremes are the range that is rounded.
        weights: of all consumers, each ``[K, N]``.
        codes: what operands are rounded to.
        size: of a block.
    """
    turned = np.ascontiguousarray(rotated_rows(rows.T, size).T)
    pairs = [(rows, weights), (turned, [rotated_rows(weight, size) for weight in weights])]
    exact = [rows @ weight for weight in weights]
    before, after = (_error(x, matrices, exact, codes) for x, matrices in pairs)
    return before, after


def _error(rows: Float32, weights: Sequence[Float32], exact: Sequence[Float32], codes: Codes) -> float:
    low, high = float(rows.min()), float(rows.max())
    if codes.symmetric:
        step, zero_point = symmetric_parameters(max(-low, high), codes.activation_range)
    else:
        step, zero_point = affine_parameters(low, high, codes.activation_range)
    rounded = dequantize(quantize(rows, step, zero_point, codes.activation_range), step, zero_point)
    errors = []
    for weight, wanted in zip(weights, exact, strict=True):
        got = rounded @ dequantize(*quantize_weight(weight, 1, codes.largest_weight_code))
        power = float(np.square(wanted, dtype=np.float64).sum())
        errors.append(float(np.square(got - wanted, dtype=np.float64).sum()) / max(power, 1e-30))
    return float(np.mean(errors))
