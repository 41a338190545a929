"""What is wrong with a quantized weight, from the float weight and from what its codes stand for.

A weight rounded to the nearest code of scales that fit it reaches a certain SQNR (``ideal_db``). One clearly below
is not imprecise but wrong, and each kind of fault leaves its mark: another axis for the scales makes it right, or one
factor, or one offset; or values beyond the largest code were cut, or most codes are not used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qcompiler.diagnosis.distribution import Distribution, distribution
from qcompiler.diagnosis.outliers import channel_ratio, outlier_channels
from qcompiler.diagnosis.stored import Stored
from qcompiler.numerics.affine import along_axis
from qcompiler.verify.metrics import EXACT_DB

Floats = npt.NDArray[np.floating[Any]]
FaultKind = Literal["axis", "scale", "zero_point", "clipped", "coarse", "unrelated", "read"]

_CLEARLY_DB = 6.0
"""How far below what its bits allow a constant is wrong."""

_MENDED_DB = 10.0
"""How much better it must become by what is taken for the fault."""

_ENOUGH_DB = {32: 25.0}
"""Biases have 32 bits and may be corrected on purpose; they matter less than the weight beside them."""

_CLIPPED = 1e-3
_RELATED = 0.5


@dataclass(frozen=True)
class Fault:
    """What is wrong, in one sentence."""

    kind: FaultKind
    text: str


@dataclass(frozen=True)
class WeightFacts:
    """One constant beside the float one.

    Attributes:
        name: of the float constant.
        kind: how it is stored.
        shape: of it.
        sqnr_db: of what the codes stand for.
        ideal_db: of rounding to the nearest code with scales that fit; None for formats of unknown levels.
        low: smallest float weight.
        high: largest float weight.
        clip_low: smallest value of the codes.
        clip_high: largest.
        clipped_share: share of weights beyond these by more than a tenth.
        per_channel_db: what one scale for each output channel would reach, where there is one for all.
        channel_ratio: the range of the widest output channel against that of the median one.
        outlier_channels: output channels whose largest magnitude is more than ``k`` times the median one.
        fault: what is wrong, None where nothing is.
        values: how the float weights are spread.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    sqnr_db: float
    ideal_db: float | None
    low: float
    high: float
    clip_low: float
    clip_high: float
    clipped_share: float
    per_channel_db: float | None
    channel_ratio: float
    outlier_channels: tuple[int, ...]
    fault: Fault | None
    values: Distribution


def sqnr_db(exact: Floats, other: Floats) -> float:
    """Signal to noise in dB, cut at +-200."""
    noise = float(np.square(exact.astype(np.float64) - other).sum())
    signal = float(np.square(exact.astype(np.float64)).sum())
    if noise == 0.0:
        return EXACT_DB
    if signal == 0.0:
        return -EXACT_DB
    return float(np.clip(10 * (math.log10(signal) - math.log10(noise)), -EXACT_DB, EXACT_DB))


def weight_facts(
    name: str, exact: Floats, made: Floats, stored: Stored, *, output_axis: int, ratio: float
) -> WeightFacts:
    """Compare a constant with the float one.

    Args:
        name: of the float constant.
        exact: the float constant.
        made: what the codes stand for, of the same shape.
        stored: how they are stored.
        output_axis: the axis that is one output channel.
        ratio: how many times the median an outlier channel is.
    """
    found, ideal = sqnr_db(exact, made), _ideal_db(exact, stored)
    low, high = float(made.min(initial=0)), float(made.max(initial=0))
    margin = 0.1 * max(abs(low), abs(high))
    clipped = float(np.mean((exact < low - margin) | (exact > high + margin))) if exact.size else 0.0
    return WeightFacts(
        name,
        stored.kind,
        tuple(exact.shape),
        found,
        ideal,
        float(exact.min(initial=0)),
        float(exact.max(initial=0)),
        low,
        high,
        clipped,
        _per_channel_db(exact, stored, output_axis),
        channel_ratio(exact, output_axis),
        outlier_channels(exact, output_axis, ratio),
        _fault(exact, made, stored, found, ideal, clipped),
        distribution(exact),
    )


def _per_channel_db(exact: Floats, stored: Stored, axis: int) -> float | None:
    whole = stored.scale is not None and stored.scale.size == 1 and not stored.block_size
    if not whole or stored.limits is None or stored.bits > 16 or exact.ndim < 2:
        return None
    finer = replace(stored, axis=axis, scale=np.ones(exact.shape[axis], np.float32))
    return sqnr_db(exact, _rounded(exact, finer))


def _ideal_db(exact: Floats, stored: Stored) -> float | None:
    """SQNR of rounding to nearest with scales of the same number, along the same axis, that fit."""
    if stored.limits is None or stored.scale is None or exact.size == 0:
        return None
    return sqnr_db(exact, _rounded(exact, stored))


def _rounded(exact: Floats, stored: Stored) -> Floats:
    assert stored.limits is not None
    assert stored.scale is not None
    smallest, largest = stored.limits
    low, high = _extremes(exact, stored)
    zero = stored.zero_point
    middle = (smallest + largest + 1) // 2
    if zero is None or (zero == middle).all():
        bound = np.maximum(np.abs(low), np.abs(high))
        scale = np.maximum(bound / (largest - middle), np.finfo(np.float32).tiny)
        return np.asarray(np.clip(np.rint(exact / scale), smallest - middle, largest - middle) * scale)
    scale = np.maximum((high - low) / (largest - smallest), np.finfo(np.float32).tiny)
    point = np.rint(smallest - low / scale)
    return np.asarray((np.clip(np.rint(exact / scale) + point, smallest, largest) - point) * scale)


def _extremes(exact: Floats, stored: Stored) -> tuple[Floats, Floats]:
    """Smallest and largest value, zero included, of what shares a scale; they broadcast against ``exact``."""
    assert stored.scale is not None
    if stored.axis is None or stored.scale.size == 1:
        return np.minimum(exact.min(), 0), np.maximum(exact.max(), 0)
    if stored.block_size:
        count = exact.shape[stored.axis]
        starts = np.arange(0, count, stored.block_size)
        index = np.arange(count) // stored.block_size
        low = np.minimum.reduceat(exact, starts, stored.axis)
        high = np.maximum.reduceat(exact, starts, stored.axis)
        low, high = (np.take(values, index, stored.axis) for values in (low, high))
    else:
        others = tuple(axis for axis in range(exact.ndim) if axis != stored.axis)
        low, high = exact.min(axis=others, keepdims=True), exact.max(axis=others, keepdims=True)
    return np.minimum(low, 0), np.maximum(high, 0)


def _fault(
    exact: Floats, made: Floats, stored: Stored, found: float, ideal: float | None, clipped: float
) -> Fault | None:
    usual = ideal if ideal is not None else 6.0 * stored.bits - 10.0
    if found > min(usual - _CLEARLY_DB, _ENOUGH_DB.get(stored.bits, 60.0)) or not exact.size:
        return None
    mends = (_other_axis, _factor, _offset)
    for mend in mends:
        fault = mend(exact, made, stored, found)
        if fault is not None:
            return fault
    related = _cosine(exact, made)
    if related < _RELATED:
        return Fault(
            "unrelated", f"what is stored has little to do with the float weight (cosine {related:.2f})"
        )
    if clipped > _CLIPPED:
        return Fault(
            "clipped",
            f"clipped to [{made.min():.3g}, {made.max():.3g}] where the weight spans "
            f"[{exact.min():.3g}, {exact.max():.3g}]: {clipped:.1%} of it is cut",
        )
    return Fault(
        "coarse",
        f"scales too large: {found:.1f} dB, where {stored.kind} with scales that fit reaches {usual:.1f} dB",
    )


def _other_axis(exact: Floats, made: Floats, stored: Stored, found: float) -> Fault | None:
    if stored.codes is None or stored.axis is None or stored.codes.shape != exact.shape:
        return None
    for axis in range(exact.ndim):
        values = stored.values(axis) if axis != stored.axis else None
        if values is not None and sqnr_db(exact, values) > found + _MENDED_DB:
            return Fault(
                "axis",
                f"its scales are read along axis {stored.axis}; along axis {axis} they give "
                f"{sqnr_db(exact, values):.1f} dB instead of {found:.1f}: the per-channel axis is transposed",
            )
    return None


def _factor(exact: Floats, made: Floats, stored: Stored, found: float) -> Fault | None:
    """One factor for all, or one for each of some channels."""
    factor = _ratio(exact, made)
    if factor and sqnr_db(exact, made / factor) > found + _MENDED_DB:
        return Fault(
            "scale",
            f"its scale is {factor:.3g} times what the weight needs ({found:.1f} dB; "
            f"{sqnr_db(exact, made / factor):.1f} with the right one)",
        )
    if exact.ndim < 2:
        return None
    for axis in range(exact.ndim):
        rows, others = (np.moveaxis(x, axis, 0).reshape(exact.shape[axis], -1) for x in (exact, made))
        square = np.einsum("ci,ci->c", rows, rows)
        factors = np.divide(
            np.einsum("ci,ci->c", rows, others), square, out=np.ones_like(square), where=square > 0
        )
        factors = np.where(np.abs(factors) < 1e-6, 1.0, factors)
        off = np.flatnonzero(np.abs(factors - 1) > 0.1)
        mended = made / along_axis(factors, axis, exact.ndim)
        if 0 < off.size <= exact.shape[axis] // 4 and sqnr_db(exact, mended) > found + _MENDED_DB:
            worst = int(off[np.argmax(np.abs(factors[off] - 1))])
            return Fault(
                "scale",
                f"the scales of {off.size} of {exact.shape[axis]} channels along axis {axis} are wrong; "
                f"that of channel {worst} is {factors[worst]:.3g} times what it needs",
            )
    return None


def _offset(exact: Floats, made: Floats, stored: Stored, found: float) -> Fault | None:
    """The same number of codes too much everywhere, in units of each scale."""
    difference = made.astype(np.float64) - exact
    step = _step(stored, exact.shape)
    codes = float(np.median(difference / step)) if step is not None else 0.0
    shift: Floats = codes * step if step is not None else np.asarray(np.median(difference))
    if sqnr_db(exact, made - shift) <= found + _MENDED_DB:
        return None
    amount = f"by {codes:+.0f} codes" if step is not None else f"by {float(np.median(difference)):+.3g}"
    return Fault(
        "zero_point",
        f"its zero point is off {amount} ({found:.1f} dB; {sqnr_db(exact, made - shift):.1f} with the right one)",
    )


def _step(stored: Stored, shape: tuple[int, ...]) -> Floats | None:
    """The scale of every element, broadcast; None where it is not known."""
    if stored.scale is None or stored.codes is None or stored.codes.shape != shape:
        return None
    if stored.axis is None or stored.scale.size == 1:
        return stored.scale.reshape(())
    if stored.scale.ndim > 1:
        return np.take(stored.scale, np.arange(shape[stored.axis]) // max(stored.block_size, 1), stored.axis)
    return along_axis(stored.scale, stored.axis, len(shape))


def _ratio(exact: Floats, made: Floats) -> float:
    square = float(np.vdot(exact, exact))
    return float(np.vdot(exact, made)) / square if square else 0.0


def _cosine(exact: Floats, made: Floats) -> float:
    scale = math.sqrt(float(np.vdot(exact, exact)) * float(np.vdot(made, made)))
    return float(np.vdot(exact, made)) / scale if scale else 0.0
