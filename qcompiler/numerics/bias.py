"""Analytic bias correction (arXiv:1906.04721, section 4.2): the mean that rounding a weight adds to an output."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


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
