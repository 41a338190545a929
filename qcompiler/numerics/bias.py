"""Biases: their codes beside integer products, and what rounding a weight adds to an output on average.

The latter is analytic bias correction (arXiv:1906.04721, section 4.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

INT32_LIMIT = 2**31 - 1
BIAS_LIMIT = 2**30
"""Half of the accumulator's range is left to the products."""


def mean_shift(error: Array, mean: Array, group: int = 1) -> npt.NDArray[np.float64]:
    """``(W_q - W) E[x]`` per output channel, ``[N]``.

    Args:
        error: ``W_q - W``, output channels first: ``[N, C / group, k...]``.  Where a kernel has more than one
            position every one is taken to see ``mean``, though at a padded border it sees zeros.
        mean: mean per input channel, ``[C]``.
        group: groups of a convolution.
    """
    outputs, inputs = error.shape[0], error.shape[1]
    summed = error.reshape(outputs, inputs, -1).astype(np.float64).sum(axis=2)
    per_group = summed.reshape(group, outputs // group, inputs)
    shift = np.einsum("gnc,gc->gn", per_group, np.asarray(mean, np.float64).reshape(group, inputs))
    return np.asarray(shift.reshape(-1))


def least_weight_scale(
    bias: npt.NDArray[np.float32], activation_scale: np.float32, axis: int | None
) -> npt.NDArray[np.float32]:
    """Smallest weight scale, ``[N]`` or 0-D, at which the bias still fits the accumulator.

    A channel whose weights are all but zero has a scale so small that its bias would need more than 32 bits; with
    the larger scale its weights round to zero, which they are in effect.
    """
    magnitude = np.abs(bias) if axis is not None else np.abs(bias).max(initial=0.0)
    return np.asarray(magnitude / (float(activation_scale) * BIAS_LIMIT), np.float32)


def bias_codes(bias: npt.NDArray[np.float32], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """int32 codes of a bias ``[N]`` for the accumulator's scale, ``[N]`` or 0-D."""
    codes = np.rint(bias.astype(np.float64) / scale)
    return np.clip(codes, -INT32_LIMIT, INT32_LIMIT).astype(np.int32)
