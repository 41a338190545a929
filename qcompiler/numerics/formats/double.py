"""Scales in 8 bits: double quantization (QLoRA, arXiv:2305.14314, section 3), in a form that a graph expresses.

    scale[g, n] = step[g, n // 256] * (code[g, n] - 128) + mean[g]

QLoRA stores the codes in an 8-bit float; integers are what DequantizeLinear reads.  One mean for a row of groups
instead of one for the tensor, so that rows of groups stay independent of each other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

BLOCK = 256
"""Columns that share a step."""
MIDDLE = 128
REACH = 127
SCALE_CODES, SCALE_STEP, SCALE_MEAN = "scale_codes", "scale_step", "scale_mean"
TINY = np.float32(2.0**-100)


def double_quantize(scale: Float32) -> tuple[Float32, Mapping[str, npt.NDArray[np.generic]]]:
    """Quantize positive scales.

    Args:
        scale: ``[G, N]`` float32.

    Returns:
        the scales as stored, still positive, and the parts: ``scale_codes`` uint8 ``[G, N]``, ``scale_step``
        float32 ``[G, ceil(N / 256)]``, ``scale_mean`` float32 ``[G, 1]``.
    """
    columns = scale.shape[1]
    mean = scale.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    starts = np.arange(0, columns, BLOCK)
    reach = np.maximum.reduceat(np.abs(scale - mean), starts, axis=1)
    step = np.maximum(reach / np.float32(REACH), TINY)
    wide = np.repeat(step, BLOCK, axis=1)[:, :columns]
    codes = np.clip(np.rint((scale - mean) / wide), -REACH, REACH)
    codes = np.where(codes * wide + mean > 0, codes, np.minimum(codes + 1, REACH))
    stored = codes * wide + mean
    parts = {SCALE_CODES: (codes + MIDDLE).astype(np.uint8), SCALE_STEP: step, SCALE_MEAN: mean}
    return stored.astype(np.float32), parts


def double_quantized_bits(groups: int, columns: int) -> int:
    """Bits that the parts of ``[groups, columns]`` scales take."""
    return 8 * groups * columns + 32 * groups * (-(-columns // BLOCK)) + 32 * groups
