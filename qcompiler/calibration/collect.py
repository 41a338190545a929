"""Answering a pass's requests in as few streamed runs over the data as possible: one, or two with histograms."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.calibration.grams import gram_groups
from qcompiler.calibration.histograms import (
    SCOUTS,
    clipping_range,
    exact_counts,
    in_groups,
    needs_histogram,
    scouts,
    unclipped,
    wide_counts,
)
from qcompiler.calibration.probes import (
    ChannelExtremes,
    Counts,
    GramSum,
    Mean,
    MinMax,
    Probe,
    RowSample,
)
from qcompiler.calibration.requests import (
    Calibrator,
    ChannelAbsMax,
    ChannelMean,
    ChannelMeanSquare,
    ChannelRange,
    Gram,
    Range,
    Request,
    Rows,
)
from qcompiler.calibration.statistics import Answer, Statistics
from qcompiler.calibration.tapgraph import Tap, keep_outputs, tappable_values
from qcompiler.errors import CalibrationError

Feed = Mapping[str, npt.NDArray[np.generic]]
Progress = Callable[[str, int, int | None], None]
NO_TWINS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class _Run:
    probes: Sequence[Probe]
    label: str
    feeds: int | None = None
    """Only the first of them; None for all."""


def collect(
    model: ir.Model,
    requests: Iterable[Request],
    feeds: Iterable[Feed],
    *,
    batches: int | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    twins: Mapping[str, str] = NO_TWINS,
) -> Statistics:
    """Run ``feeds`` through ``model`` and answer ``requests``; ``model`` is not changed.

    Args:
        model: as prepared: opset 18 or later, values named.
        requests: statistics of values of the main graph.
        feeds: one mapping from input name to array per run; iterated once, or more with histograms.
        batches: number of feeds, where known.
        progress: called with a label, feeds done and feeds in all.
        threads: intra-op threads, all cores by default.
        twins: where ``model`` holds the float model too, the name there of each value of the quantized one.

    Raises:
        CalibrationError: NaN or infinity in an observed value, no feed at all, one that the model does
            not run on, or a value that does not exist.
        UnsupportedError: a drift is asked for of a value without a twin.
    """
    unique = list(dict.fromkeys(requests))
    if not unique:
        return Statistics()
    runner = _Runner(model, feeds, batches, progress, threads or os.cpu_count() or 1, twins)
    probes = {request: _probe(request, batches) for request in unique}
    pending = [request for request in unique if isinstance(request, Range) and needs_histogram(request)]
    found = scouts(pending)
    if found:
        runner.run(_Run(list(found.values()), "first look", feeds=SCOUTS))
    elements = {request: probe.elements for request, probe in found.items()}
    wide = wide_counts(found)
    groups = list(in_groups(wide, elements))
    large = {request: probe for request, probe in probes.items() if isinstance(probe, GramSum)}
    small = [probe for probe in probes.values() if not isinstance(probe, GramSum)]
    products = list(gram_groups(large, tappable_values(model)))
    first = [*small, *(groups[0] if groups else ()), *(products[0] if products else ())]
    runner.run(_Run(first, "observing"))
    for group in groups[1:]:
        runner.run(_Run(group, "histograms"))
    for matrices in products[1:]:
        runner.run(_Run(matrices, "gram matrices"))
    answers: dict[Request, Answer] = {request: probe.answer() for request, probe in probes.items()}
    return Statistics(answers | _histogram_answers(pending, answers, wide, elements, runner))


def _histogram_answers(
    requests: Sequence[Range],
    answers: Mapping[Request, Answer],
    wide: Mapping[Range, Counts],
    elements: Mapping[Range, int],
    runner: _Runner,
) -> dict[Request, Answer]:
    """Ranges from the bins at hand, and from a run of their own where an element lay outside them."""
    extremes = {request: (float(answers[request][0]), float(answers[request][1])) for request in requests}
    covered = {request: bins for request, bins in wide.items() if bins.covers(*extremes[request])}
    exact = exact_counts({request: ends for request, ends in extremes.items() if request not in covered})
    for group in in_groups(exact, elements):
        runner.run(_Run(group, "histograms"))
    binned = covered | exact
    return {
        request: clipping_range(request, binned[request].histogram.trimmed(), ends)
        if request in binned
        else unclipped(request, ends)
        for request, ends in extremes.items()
    }


def _probe(request: Request, batches: int | None) -> Probe:
    match request:
        case Range() if needs_histogram(request):
            return MinMax(Range(request.value), average=False)
        case Range():
            return MinMax(request, average=request.calibrator is Calibrator.MOVING_AVERAGE)
        case ChannelRange() | ChannelAbsMax():
            return ChannelExtremes(request)
        case ChannelMean() | ChannelMeanSquare():
            return Mean(request)
        case Rows():
            return RowSample(request, batches)
        case Gram():
            return GramSum(request)


class _Runner:
    """Streams the feeds through calibration graphs of one model."""

    def __init__(
        self,
        model: ir.Model,
        feeds: Iterable[Feed],
        batches: int | None,
        progress: Progress | None,
        threads: int,
        twins: Mapping[str, str],
    ) -> None:
        self._model, self._feeds, self._batches = model, feeds, batches
        self._progress, self._threads, self._twins = progress, threads, twins

    def run(self, run: _Run) -> None:
        # Imported here: the compiler's front does not load the runtime until it is needed.
        from qcompiler.backends.onnxruntime.session import open_model, session_options
        from qcompiler.backends.run_feed import run_feed

        graph_model = self._model.clone()
        values = tappable_values(graph_model)
        taps = {probe.value: self._tap(probe.value, values, graph_model.graph) for probe in run.probes}
        checks = {name: tap.not_finite() for name, tap in taps.items()}
        outputs = [probe.attach(taps[probe.value]) for probe in run.probes]
        keep_outputs(graph_model, [*checks.values(), *(value for group in outputs for value in group)])
        session = open_model(graph_model, session_options(threads=self._threads, keep_int8=True))
        seen = 0
        for index, feed in enumerate(itertools.islice(self._feeds, run.feeds)):
            found = run_feed(session, feed, index)
            self._check(found, checks, index, feed)
            for probe, group in zip(run.probes, outputs, strict=True):
                probe.update([found[str(value.name)] for value in group])
            seen = index + 1
            if self._progress is not None:
                self._progress(run.label, seen, run.feeds or self._batches)
        if not seen:
            raise CalibrationError("the calibration data holds no sample.")

    def _tap(self, name: str, values: Mapping[str, ir.Value], graph: ir.Graph) -> Tap:
        if name not in values:
            raise CalibrationError(f"there is no value {name!r} in the main graph to observe.")
        return Tap(graph, values[name], values.get(self._twins.get(name, "")))

    def _check(
        self,
        found: Mapping[str, npt.NDArray[np.generic]],
        checks: Mapping[str, ir.Value],
        index: int,
        feed: Feed,
    ) -> None:
        bad = {name for name, flag in checks.items() if np.isnan(found[str(flag.name)].astype(np.float64))}
        for name, value in tappable_values(self._model).items() if bad else ():
            if name not in bad:
                continue
            producer = value.producer()
            where = f"node {producer.name!r} ({producer.op_type})" if producer else f"input {name!r}"
            size = next(iter(feed.values())).shape[:1] if feed else ()
            batch = f" (a batch of {size[0]})" if size and size[0] > 1 else ""
            raise CalibrationError(
                f"{where} gives NaN or infinity in {name!r} for feed {index}{batch} of the calibration data;"
                " look at that sample, or exclude the node with --exclude."
            )
