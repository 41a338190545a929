"""The scales of SmoothQuant (arXiv:2211.10438, equation 4) and the search of its alpha by output error.

``s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)``; ``X W = (X / s)(s W)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.affine import (
    SMALLEST_SCALE,
    Float32,
    affine_parameters,
    dequantize,
    quantize,
    symmetric_parameters,
)
from qcompiler.numerics.weights import quantize_weight

Float64 = npt.NDArray[np.float64]

SMALLEST, LARGEST = 1e-5, 1e5
"""Bounds of a smoothing scale."""

ALPHAS = tuple(step / 10 for step in range(11))
"""What the search tries first."""
REFINEMENT = 0.05
"""How far it looks to both sides of the best of them."""
COLUMNS = 128
"""Output channels of each consumer that the search looks at; each is rounded with its own scale anyway."""


@dataclass(frozen=True)
class Codes:
    """What activations and weights are rounded to.

    Attributes:
        activation_range: smallest and largest activation code, inclusive; one scale per tensor.
        symmetric: whether the activation's range is symmetric around zero.
        largest_weight_code: 127 for 8 bits; one scale per output channel.
    """

    activation_range: tuple[int, int] = (0, 255)
    symmetric: bool = False
    largest_weight_code: int = 127


def smoothing_scale(activation: npt.ArrayLike, weight: npt.ArrayLike, alpha: float) -> Float64:
    """``s [K]`` from the largest magnitudes per input channel of activation and weight, each ``[K]``.

    A channel that was never active keeps 1: nothing is known of it.  Magnitudes below a hundred thousandth of
    the largest count as that much, and scales lie in ``[SMALLEST, LARGEST]``.
    """
    x, w = np.asarray(activation, np.float64), np.asarray(weight, np.float64)
    scale = np.exp(alpha * np.log(_floored(x)) - (1.0 - alpha) * np.log(_floored(w)))
    active = x > 0
    return np.where(active, np.clip(scale, SMALLEST, LARGEST), 1.0)


def _floored(magnitude: Float64) -> Float64:
    largest = float(magnitude.max(initial=0.0))
    return np.maximum(magnitude, max(SMALLEST * largest, SMALLEST_SCALE))


def search_alpha(
    rows: Float32,
    low: Float64,
    high: Float64,
    weights: Sequence[Float32],
    codes: Codes,
) -> tuple[float | None, float, float]:
    """Choose the alpha whose scales give the smallest output error once both operands are rounded.

    Args:
        rows: a sample of the activation, ``[rows, K]``.
        low: smallest value per channel over all calibration data, ``[K]``; with ``high`` it fixes the range.
        high: largest value per channel, ``[K]``.
        weights: the weights of all consumers, each ``[K, N]``.
        codes: what operands are rounded to.

    Returns:
        The best alpha, None where no smoothing is best; the relative squared error of the sampled outputs
        without smoothing; the same with the best alpha.
    """
    magnitude = np.maximum(-low, high)
    per_channel = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    weights = [_some_columns(weight) for weight in weights]
    exact = [rows @ weight for weight in weights]
    plain = _error(rows, low, high, weights, exact, np.ones(rows.shape[1]), codes)

    def error_of(alpha: float) -> float:
        scale = smoothing_scale(magnitude, per_channel, alpha)
        return _error(rows, low, high, weights, exact, scale, codes)

    errors = {alpha: error_of(alpha) for alpha in ALPHAS}
    coarse = min(errors, key=errors.__getitem__)
    sides = (round(coarse + step, 2) for step in (-REFINEMENT, REFINEMENT))
    errors |= {alpha: error_of(alpha) for alpha in sides if 0 <= alpha <= 1}
    best = min(errors, key=errors.__getitem__)
    return (best, plain, errors[best]) if errors[best] < plain else (None, plain, plain)


def _some_columns(weight: Float32) -> Float32:
    """``COLUMNS`` columns of ``[K, N]`` chosen without a stride that heads could share; the same every time."""
    if weight.shape[1] <= COLUMNS:
        return weight
    chosen = np.random.default_rng(0).choice(weight.shape[1], COLUMNS, replace=False)
    return np.ascontiguousarray(weight[:, chosen])


def _error(
    rows: Float32,
    low: Float64,
    high: Float64,
    weights: Sequence[Float32],
    exact: Sequence[Float32],
    scale: Float64,
    codes: Codes,
) -> float:
    """Mean over consumers of ``|Q(X / s) Q(s W) - X W|^2 / |X W|^2``."""
    ends = float((low / scale).min()), float((high / scale).max())
    if codes.symmetric:
        step, zero_point = symmetric_parameters(max(-ends[0], ends[1]), codes.activation_range)
    else:
        step, zero_point = affine_parameters(*ends, codes.activation_range)
    smoothed = (rows / scale).astype(np.float32)
    rounded = dequantize(quantize(smoothed, step, zero_point, codes.activation_range), step, zero_point)
    errors = []
    for weight, wanted in zip(weights, exact, strict=True):
        scaled = (weight * scale[:, None]).astype(np.float32)
        weight_codes, weight_step = quantize_weight(scaled, 1, codes.largest_weight_code)
        got = rounded @ dequantize(weight_codes, weight_step)
        power = float(np.square(wanted, dtype=np.float64).sum())
        errors.append(float(np.square(got - wanted, dtype=np.float64).sum()) / max(power, 1e-30))
    return float(np.mean(errors))
