"""AWQ (arXiv:2306.00978): scale input channels so that rounding the weights costs the output least, then clip.

With inputs X, ``X W = (X / s)(s W)`` in float, and rounding ``s W`` instead of W makes the error of row k ``1/s[k]``
times as large: channels that the inputs use much are scaled up.  ``s = m^r``, m being the root mean square of the
inputs per channel (or that over the weights' mean magnitude), and r is the ratio of least output error

    ||X (W - Q(s W) / s)||^2 / rows = tr(E' G E),   G = X'X / rows,

summed over all consumers of X, each relative to its own output.  Everything is computed from G, no sample is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.formats.base import Float32, Format, Search

Index = npt.NDArray[np.int64]

COLUMNS = 512
"""Output channels of each consumer that the search of scales looks at."""
SMALLEST, LARGEST = 1e-4, 1e4
"""Bounds of a scale."""
SHARES = tuple(1.0 - step / 20 for step in range(11))
"""Clipping bounds to try, as shares of the extremes of a group."""


@dataclass(frozen=True)
class Scaling:
    """Scales of the channels of one activation.

    Attributes:
        scales: ``[K]`` float32; the weights' rows are multiplied by it, the activation divided.
        ratio: the power of the inputs' magnitude that was best; 0 where no scaling was.
        before: relative output error without scaling, mean over consumers, of at most ``COLUMNS`` of each.
        after: the same with ``scales`` on the same columns; never above ``before``.
    """

    scales: Float32
    ratio: float
    before: float
    after: float


def search_scales(
    weights: Sequence[Float32],
    gram: Float32,
    fmt: Format,
    *,
    search: Search = Search.MINMAX,
    steps: int = 20,
    ties: Index | None = None,
) -> Scaling:
    """Find the scales with the least output error when all consumers of an activation are rounded.

    Args:
        weights: of every consumer, each ``[K, N]`` float32.
        gram: X'X / rows of the activation, ``[K, K]``.
        fmt: what the weights will be stored as.
        search: how the format will fit its grid.
        steps: ratios that are tried between 0 and 1.
        ties: ``[K]``: channels with the same number get the same scale; None where each has its own.
    """
    some = [_some_columns(weight) for weight in weights]
    powers = [max(output_error(weight, gram), 1e-30) for weight in some]
    inputs = _tied(np.sqrt(np.maximum(gram.diagonal(), 0.0, dtype=np.float64)), ties)
    own = _tied(np.mean([_relative_magnitude(weight) for weight in weights], axis=0), ties)

    def error_of(scales: Float32) -> float:
        errors = (_scaled_error(weight, gram, fmt, search, scales) for weight in some)
        return float(np.mean([error / power for error, power in zip(errors, powers, strict=True)]))

    best = Scaling(np.ones(len(gram), np.float32), 0.0, 0.0, error_of(np.ones(len(gram), np.float32)))
    before = best.after
    for step in range(1, steps + 1):
        ratio = step / steps
        for scales in (_scales(inputs, ratio), _scales(inputs, ratio, own)):
            error = error_of(scales)
            if error < best.after:
                best = Scaling(scales, ratio, before, error)
    return Scaling(best.scales, best.ratio, before, best.after)


def search_clip(weights: Float32, gram: Float32, fmt: Format) -> Float32:
    """``weights [K, N]`` with every group of a column clipped where that lowers its output error most.

    A group's error is that of its own inputs, ``e' G[g, g] e``, fitted to the clipped extremes, and never above the one
    without clipping.
    """
    clipped = weights.copy()
    size = fmt.group or len(weights)
    size = max(size, fmt.span or size)
    for start in range(0, len(weights), size):
        rows = slice(start, start + size)
        clipped[rows] = _clip_group(weights[rows], gram[rows, rows], fmt)
    return clipped


def output_error(error: Float32, gram: Float32) -> float:
    """``tr(E' G E)`` of ``error [K, N]``: mean squared norm of an output row that ``error`` makes."""
    return float(_errors_by_column(error, gram).sum(dtype=np.float64))


def _errors_by_column(error: Float32, gram: Float32) -> Float32:
    by_column: Float32 = np.einsum("kn,kn->n", error, gram @ error)
    return by_column


def _scaled_error(weight: Float32, gram: Float32, fmt: Format, search: Search, scales: Float32) -> float:
    column = scales[:, np.newaxis]
    importance = (np.maximum(gram.diagonal(), 0) / np.square(scales)).astype(np.float32)
    return output_error(weight - _rounded(weight * column, fmt, search, importance) / column, gram)


def _rounded(weight: Float32, fmt: Format, search: Search, importance: Float32 | None = None) -> Float32:
    grid = fmt.fit(weight, search=search, importance=_usable(importance))
    return fmt.decode(fmt.encode(weight, grid), grid)


def _usable(importance: Float32 | None) -> Float32 | None:
    """Relative importance, a little of which every row keeps."""
    if importance is None or not importance.any():
        return None
    relative: Float32 = (importance / importance.mean() + 0.01).astype(np.float32)
    return relative


def _scales(
    inputs: npt.NDArray[np.float64], ratio: float, own: npt.NDArray[np.float64] | None = None
) -> Float32:
    """``inputs^ratio``, over ``own^(1 - ratio)`` if given, around one; an input that is never used keeps one."""
    used = inputs > 0
    if not used.any():
        return np.ones(len(inputs), np.float32)
    exponent = ratio * np.log(np.where(used, inputs, 1.0))
    if own is not None:
        exponent = exponent - (1.0 - ratio) * np.log(np.maximum(own, SMALLEST))
    middle = (exponent[used].max() + exponent[used].min()) / 2
    scales = np.clip(np.exp(exponent - middle), SMALLEST, LARGEST)
    return np.where(used, scales, 1.0).astype(np.float32)


def _relative_magnitude(weight: Float32) -> npt.NDArray[np.float64]:
    """Mean magnitude per row, each column relative to its largest weight: ``[K]``."""
    magnitude = np.abs(weight)
    largest = np.maximum(magnitude.max(axis=0), np.finfo(np.float32).tiny)
    mean: npt.NDArray[np.float64] = (magnitude / largest).mean(axis=1, dtype=np.float64)
    return mean


def _tied(magnitude: npt.NDArray[np.float64], ties: Index | None) -> npt.NDArray[np.float64]:
    """Every channel with the mean of those it is tied to."""
    if ties is None:
        return magnitude
    mean = np.bincount(ties, magnitude) / np.maximum(np.bincount(ties), 1)
    shared: npt.NDArray[np.float64] = mean[ties]
    return shared


def _some_columns(weight: Float32) -> Float32:
    """``COLUMNS`` columns chosen without a stride that heads could share; the same every time."""
    if weight.shape[1] <= COLUMNS:
        return weight
    chosen = np.random.default_rng(0).choice(weight.shape[1], COLUMNS, replace=False)
    return np.ascontiguousarray(weight[:, chosen])


def _clip_group(weights: Float32, gram: Float32, fmt: Format) -> Float32:
    low, high = weights.min(axis=0), weights.max(axis=0)
    best, least = weights, np.full(weights.shape[1], np.inf, np.float32)
    for share in SHARES:
        clipped = np.clip(weights, low * np.float32(share), high * np.float32(share))
        error = _errors_by_column(weights - _rounded(clipped, fmt, Search.MINMAX), gram)
        better = error < least
        best, least = np.where(better, clipped, best), np.where(better, error, least)
    return best
