"""How the clip range of a quantized activation fits its values, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.diagnosis.distribution import Distribution, distribution
from qcompiler.diagnosis.outliers import outliers_of, spread
from qcompiler.diagnosis.quantizers import Affine
from qcompiler.diagnosis.weight_faults import Fault, sqnr_db
from qcompiler.numerics.affine import affine_parameters, dequantize, quantize
from qcompiler.verify.metrics import HUGE

Floats = npt.NDArray[np.floating[Any]]

_CLEARLY_DB = 6.0
_SAMPLE = 1 << 17
"""Elements that ranges are tried on, spread over all."""

_SHRINKS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
_CLIPPED = 1e-3
_BESIDE = 0.05

_WIDE = 8.0
"""A range so many times wider than the values wastes three bits; less may be due to the few samples looked at."""

MASK = 5e3
"""A value so many times larger than the median magnitude is a mask that is added, not a signal."""


@dataclass(frozen=True)
class ActivationFacts:
    """The values of one activation and the range of its codes.

    Attributes:
        low: smallest value seen, masks apart.
        high: largest.
        clip_low: smallest value of the codes; None where the range is chosen at run time.
        clip_high: largest.
        clipped_share: share of values outside the range.
        used_share: share of the range that values reach.
        sqnr_db: of the quantized values.
        minmax_db: with the range of these values.
        best_db: with the range of least squared error.
        best_range: that range.
        channels: of the channel axis.
        outlier_channels: those whose largest magnitude is more than ``k`` times the median one, largest first.
        outlier_ratio: the largest channel against the median one.
        row_ratio: the largest row (token) against the median one.
        masked_share: share of values that are a mask.
        fault: what is wrong, None where nothing is.
        values: how they are spread, masks apart.
    """

    low: float
    high: float
    clip_low: float | None
    clip_high: float | None
    clipped_share: float
    used_share: float
    sqnr_db: float
    minmax_db: float
    best_db: float
    best_range: tuple[float, float]
    channels: int
    outlier_channels: tuple[int, ...]
    outlier_ratio: float
    row_ratio: float
    masked_share: float
    fault: Fault | None
    values: Distribution


def activation_facts(
    values: Sequence[Floats], written: Affine | None, read: Affine | None, found_db: float, *, ratio: float
) -> ActivationFacts:
    """Look at the values of an activation.

    Args:
        values: one array per feed, channels on axis 1 of images and on the last axis otherwise.
        written: parameters of QuantizeLinear, None where they are chosen at run time.
        read: parameters of DequantizeLinear.
        found_db: SQNR of the quantized values.
        ratio: how many times the median an outlier channel is.
    """
    flat = np.concatenate([array.reshape(-1) for array in values]).astype(np.float64)
    flat = flat[:: max(1, flat.size // _SAMPLE)] if flat.size > _SAMPLE else flat
    finite = flat[np.isfinite(flat)]
    masked = _masked(finite)
    signal = finite[~masked]
    low, high = float(signal.min(initial=0.0)), float(signal.max(initial=0.0))
    limits = written.limits if written is not None else (0, 255)
    minmax = _range_db(signal, low, high, limits)
    best_db, best_range = _best(signal, low, high, limits)
    channels, rows = channel_magnitudes(values), _row_magnitudes(values)
    outside = 0.0
    used = 1.0
    if written is not None and signal.size:
        outside = float(np.mean((signal < written.low) | (signal > written.high)))
        used = (min(high, written.high) - max(low, written.low)) / max(written.high - written.low, 1e-30)
    facts = ActivationFacts(
        low,
        high,
        written.low if written is not None else None,
        written.high if written is not None else None,
        outside,
        max(used, 0.0),
        found_db,
        minmax,
        best_db,
        best_range,
        channels.size,
        outliers_of(channels, ratio) if channels.size > 1 else (),
        spread(channels),
        spread(rows),
        float(np.mean(masked)) if masked.size else 0.0,
        None,
        distribution(signal),
    )
    return facts if written is None else _with_fault(facts, written, read)


def _masked(values: Floats) -> npt.NDArray[np.bool_]:
    """Elements that are a mask: so far out that they cannot share codes with the rest."""
    magnitude = np.abs(values)
    usual = float(np.quantile(magnitude[magnitude < HUGE], 0.5)) if (magnitude < HUGE).any() else 0.0
    found: npt.NDArray[np.bool_] = magnitude > max(MASK * usual, MASK)
    return found


def channel_magnitudes(values: Sequence[Floats]) -> Floats:
    """Largest magnitude per channel over all feeds, ``[C]``; empty where there are no channels."""
    shaped = [array for array in values if array.ndim >= 2 and array.size]
    if not shaped or len({_channels(array) for array in shaped}) != 1:
        return np.zeros(0)
    axis = 1 if shaped[0].ndim == 4 else -1
    rows = [np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) for array in shaped]
    return np.asarray(np.max([np.abs(row).max(axis=1) for row in rows], axis=0), np.float64)


def _channels(array: Floats) -> int:
    return int(array.shape[1 if array.ndim == 4 else -1])


def _row_magnitudes(values: Sequence[Floats]) -> Floats:
    rows = [np.abs(x).reshape(-1, x.shape[-1]).max(axis=1) for x in values if x.ndim in (2, 3) and x.size]
    return np.concatenate(rows).astype(np.float64) if rows else np.zeros(0)


def _range_db(values: Floats, low: float, high: float, limits: tuple[int, int]) -> float:
    if not values.size:
        return 200.0
    scale, zero = affine_parameters(low, high, limits)
    return sqnr_db(values, dequantize(quantize(values, scale, zero, limits), scale, zero))


def _best(
    values: Floats, low: float, high: float, limits: tuple[int, int]
) -> tuple[float, tuple[float, float]]:
    """The least squared error over shrunken ranges."""
    tried = [(_range_db(values, low * s, high * s, limits), (low * s, high * s)) for s in _SHRINKS]
    return max(tried)


def _with_fault(facts: ActivationFacts, written: Affine, read: Affine | None) -> ActivationFacts:
    return replace(facts, fault=_fault(facts, written, read))


def _fault(facts: ActivationFacts, written: Affine, read: Affine | None) -> Fault | None:
    real, clip = f"[{facts.low:.3g}, {facts.high:.3g}]", f"[{written.low:.3g}, {written.high:.3g}]"
    if read is not None and (read.scale, read.zero_point) != (written.scale, written.zero_point):
        return Fault(
            "read",
            f"quantized with scale {written.scale:.4g}, zero point {written.zero_point}, but read back with "
            f"scale {read.scale:.4g}, zero point {read.zero_point}",
        )
    if facts.masked_share and written.high - written.low > 10 * max(facts.high - facts.low, 1e-30):
        return Fault(
            "coarse",
            f"a mask ({facts.masked_share:.0%} of the values, beyond {written.low:.2g}) shares the codes: "
            f"one step is {written.scale:.2g}, the values themselves span {real}",
        )
    reachable = max(facts.minmax_db, facts.best_db)
    if facts.sqnr_db > reachable - _CLEARLY_DB:
        return None
    span, width = max(facts.high - facts.low, 1e-30), written.high - written.low
    beside = written.low < facts.low - _BESIDE * span or written.high > facts.high + _BESIDE * span
    if beside and facts.clipped_share > _CLIPPED and width < _WIDE * span:
        return Fault(
            "zero_point",
            f"the range {clip} lies beside the values' {real}: zero point "
            f"{written.zero_point} is off, {facts.clipped_share:.1%} of the values are cut",
        )
    if facts.clipped_share > _CLIPPED:
        return Fault(
            "clipped", f"clipped to {clip} where values span {real}: {facts.clipped_share:.1%} are cut"
        )
    if width <= _WIDE * span:
        return None
    return Fault(
        "coarse",
        f"the range {clip} is {width / span:.3g} times as wide as the values' {real}: "
        f"they use {max(1, round(256 * span / width))} of 256 codes",
    )
