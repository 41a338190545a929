"""One probe per statistic: the nodes that compute it inside the graph, and how batches are accumulated."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.calibration.requests import (
    ChannelAbsMax,
    ChannelMean,
    ChannelMeanSquare,
    ChannelRange,
    Gram,
    Range,
    Rows,
)
from qcompiler.calibration.statistics import Answer, FloatArray
from qcompiler.calibration.tapgraph import Tap
from qcompiler.numerics.histogram import BINS, Histogram

Array = npt.NDArray[np.generic]


class Probe(abc.ABC):
    """Computes one statistic of one value; ``attach`` once, ``update`` per batch, ``answer`` at the end."""

    def __init__(self, value: str) -> None:
        self.value = value

    @abc.abstractmethod
    def attach(self, tap: Tap) -> list[ir.Value]:
        """Add nodes behind ``tap.value`` and return the values to be read back each batch."""

    @abc.abstractmethod
    def update(self, outputs: Sequence[Array]) -> None:
        """Take one batch's results, in the order ``attach`` returned them."""

    @abc.abstractmethod
    def answer(self) -> Answer:
        """The statistic over all batches."""


class MinMax(Probe):
    """Smallest and largest element of all samples, or the mean of the batches' extremes."""

    def __init__(self, request: Range, *, average: bool) -> None:
        super().__init__(request.value)
        self._average, self._symmetric = average, request.symmetric
        self._lows: list[float] = []
        self._highs: list[float] = []
        self.elements = 0

    def attach(self, tap: Tap) -> list[ir.Value]:
        return [tap.reduce("ReduceMin", None), tap.reduce("ReduceMax", None), tap.size()]

    def update(self, outputs: Sequence[Array]) -> None:
        if not int(outputs[2]):
            return
        self.elements = max(self.elements, int(outputs[2]))
        self._lows.append(float(outputs[0]))
        self._highs.append(float(outputs[1]))
        if not self._average:  # keep one number, not one a batch
            self._lows, self._highs = [min(self._lows)], [max(self._highs)]

    def answer(self) -> tuple[float, float]:
        if not self._lows:
            return 0.0, 0.0
        low, high = float(np.mean(self._lows)), float(np.mean(self._highs))
        bound = max(abs(low), abs(high))
        return (-bound, bound) if self._symmetric else (low, high)


class ChannelExtremes(Probe):
    """Smallest and largest element per channel, or the largest magnitude."""

    def __init__(self, request: ChannelRange | ChannelAbsMax) -> None:
        super().__init__(request.value)
        self._request = request
        self._low: Array | None = None
        self._high: Array | None = None

    def attach(self, tap: Tap) -> list[ir.Value]:
        axis = self._request.axis
        return [tap.reduce("ReduceMin", axis), tap.reduce("ReduceMax", axis)]

    def update(self, outputs: Sequence[Array]) -> None:
        low, high = outputs
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)

    def answer(self) -> Answer:
        if self._low is None or self._high is None:
            raise AssertionError("no batch was seen")
        low, high = self._low.astype(np.float32), self._high.astype(np.float32)
        return np.maximum(-low, high) if isinstance(self._request, ChannelAbsMax) else (low, high)


class Mean(Probe):
    """Mean or mean square per channel, every element of every sample weighing the same."""

    def __init__(self, request: ChannelMean | ChannelMeanSquare) -> None:
        super().__init__(request.value)
        self._axis = request.axis
        self._square = isinstance(request, ChannelMeanSquare)
        self._sum: npt.NDArray[np.float64] | None = None
        self._count = 0.0

    def attach(self, tap: Tap) -> list[ir.Value]:
        op = "ReduceSumSquare" if self._square else "ReduceSum"
        return [tap.reduce(op, self._axis), tap.size()]

    def update(self, outputs: Sequence[Array]) -> None:
        total = outputs[0].astype(np.float64)
        self._sum = total if self._sum is None else self._sum + total
        self._count += int(outputs[1]) / max(total.size, 1)

    def answer(self) -> FloatArray:
        if self._sum is None:
            raise AssertionError("no batch was seen")
        mean = self._sum / max(self._count, 1.0)
        return mean.astype(np.float32) if self._square else np.asarray(mean)


class GramSum(Probe):
    """X'X / rows and, on demand, (X_float - X)'X / rows.

    The products of one batch come out of the runtime in float32 and are added in place in float32: n batches add a
    relative error of at most n * 6e-8, far below the hundredth of the diagonal by which solvers damp, and float64
    would double what is by far the largest statistic.
    """

    def __init__(self, request: Gram) -> None:
        super().__init__(request.value)
        self._request = request
        self._sums: list[npt.NDArray[np.float32]] = []
        self._rows = 0

    def attach(self, tap: Tap) -> list[ir.Value]:
        axis, window = self._request.axis, self._request.window
        product, rows = tap.gram(axis, window)
        return [rows, product, *([tap.drift(axis, window)] if self._request.drift else [])]

    def update(self, outputs: Sequence[Array]) -> None:
        rows, *products = outputs
        self._rows += int(rows[0])
        if not self._sums:
            self._sums = [np.array(product, np.float32) for product in products]
            return
        for total, product in zip(self._sums, products, strict=True):
            np.add(total, product, out=total)

    def answer(self) -> Answer:
        if not self._sums:
            raise AssertionError("no batch was seen")
        for total in self._sums:
            total /= np.float32(max(self._rows, 1))
        sums, self._sums = self._sums, []
        return (sums[0], sums[1]) if self._request.drift else sums[0]


class RowSample(Probe):
    """At most ``count`` rows, evenly spread over the rows of every batch and then over the batches."""

    def __init__(self, request: Rows, batches: int | None) -> None:
        super().__init__(request.value)
        self._count = request.count
        self._per_batch = max(-(-request.count // batches), 1) if batches else min(16, request.count)
        self._rows: list[Array] = []
        self._kept = 0

    def attach(self, tap: Tap) -> list[ir.Value]:
        return [tap.spread_rows(self._per_batch)]

    def update(self, outputs: Sequence[Array]) -> None:
        rows = outputs[0].copy()
        self._rows.append(rows)
        self._kept += len(rows)
        if self._kept > 4 * self._count:  # bounded whatever the number of batches
            self._rows, self._kept = [self._thinned()], self._count

    def answer(self) -> npt.NDArray[np.float32]:
        return self._thinned().astype(np.float32)

    def _thinned(self) -> Array:
        rows = np.concatenate(self._rows)
        chosen = np.linspace(0, len(rows) - 1, min(self._count, len(rows))).round().astype(np.int64)
        return rows[chosen]


class Counts(Probe):
    """Histogram over a known range; the bin of every element is found inside the graph."""

    def __init__(self, value: str, low: float, high: float, bins: int = BINS) -> None:
        super().__init__(value)
        narrowest = 2 * bins * float(np.finfo(np.float32).tiny)  # below it the bins per unit overflow float32
        self._low, self._high = low, max(high, low + narrowest)
        self._counts = np.zeros(bins, dtype=np.int64)

    def attach(self, tap: Tap) -> list[ir.Value]:
        return [tap.bins(self._low, self._high, self._counts.size)]

    def update(self, outputs: Sequence[Array]) -> None:
        self._counts += np.bincount(outputs[0].reshape(-1).astype(np.int64), minlength=self._counts.size)

    def answer(self) -> Answer:
        raise AssertionError("a histogram is read through .histogram")

    def covers(self, low: float, high: float) -> bool:
        """Whether no element was counted in a bin that is not its own."""
        return self._low <= low and high <= self._high

    @property
    def histogram(self) -> Histogram:
        return Histogram(self._counts, self._low, self._high)
