"""What noise in single weights costs a large model: all noisy versions go through its segments together.

A *stream* is the float model with errors in some weights.  It is the float model's own up to the first segment that
holds one of them, and is run from there on.  Every segment is opened once for all streams, with those weights that any
of them changes as inputs; memory is that of one segment, and of what streams hand over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.auto.losses.yardstick import Yardstick
from qcompiler.backends.base import Session
from qcompiler.backends.run_feed import run_feed
from qcompiler.data.feeds import Feed
from qcompiler.sequential.cuts import segments
from qcompiler.verify.segmented import LARGE_BYTES, slices, weight_bytes

Array = npt.NDArray[Any]
Noise = Callable[[str], Array]
"""The error of a weight, as it is stored, by its name."""


@dataclass(frozen=True)
class Stream:
    """A noisy version of a model.

    Attributes:
        shares: by name of a weight, how much of its noise is added to it.
    """

    shares: Mapping[str, float]


def segment_models(model: ir.Model, outputs: Sequence[str]) -> list[ir.Model]:
    """The models to run one after another to compute ``outputs``; weights are shared with ``model``."""
    return slices(model, outputs, [part.exit for part in segments(model)[:-1]])


def float_session(model: ir.Model, outputs: Sequence[str], *, threads: int) -> Session:
    """The float model as it is written: a segment at a time where holding all of it would take much memory."""
    if weight_bytes(model) > LARGE_BYTES:
        return SegmentedFloat(model, outputs, threads=threads)
    from qcompiler.verify.observed import OracleModel

    return OracleModel(model, threads=threads).session(outputs)


class SegmentedFloat(Session):
    """A float model run segment by segment: the weights of one segment are in memory, and nothing inside is kept."""

    def __init__(self, model: ir.Model, outputs: Sequence[str], *, threads: int) -> None:
        self.output_names = list(outputs)
        self.input_names = [
            str(value.name) for value in model.graph.inputs if value.name not in model.graph.initializers
        ]
        self._parts, self._threads = segment_models(model, outputs), threads

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        known = dict(feeds)
        for part in self._parts:
            session = _open(part, self._threads)
            known |= session.run({name: known[name] for name in session.input_names})
        return {name: known[name] for name in self.output_names}


def stream_losses(
    model: ir.Model,
    streams: Sequence[Stream],
    noise: Noise,
    yardstick: Yardstick,
    *,
    threads: int,
    tell: Callable[[int, int], None],
) -> list[float]:
    """The loss of each stream.

    Args:
        model: in float; not changed.
        streams: what is run.
        noise: asked for each weight once.
        yardstick: has learnt from the float model.
        threads: of sessions.
        tell: called with segments done, and in all.
    """
    feeds = list(yardstick.feeds)
    exact: list[dict[str, Array]] = [dict(feed) for feed in feeds]
    moved: dict[int, list[dict[str, Array]]] = {}
    losses = [0.0] * len(streams)
    parts = segment_models(model, yardstick.outputs)
    for at, part in enumerate(parts):
        tell(at, len(parts))
        is_last = at == len(parts) - 1
        later = {str(value.name) for other in parts[at + 1 :] for value in other.graph.inputs}
        kept = later | set(yardstick.outputs)
        opened = _Opened(part, {name for each in streams for name in each.shares}, noise, kept, threads)
        for number, stream in enumerate(streams):
            if number in moved or opened.holds(stream):
                made = opened.run(moved.get(number, exact), stream)
                moved[number] = list(made) if not is_last else []
                if is_last:
                    losses[number] = yardstick.of_outputs(made)
        if not is_last:
            exact = list(opened.run(exact, Stream({})))
    return losses


class _Opened:
    """One segment."""

    def __init__(
        self, part: ir.Model, noisy: set[str], noise: Noise, kept: Collection[str], threads: int
    ) -> None:
        self._kept = kept
        held = [value for name, value in part.graph.initializers.items() if name in noisy]
        self._exact = {str(value.name): _array(value) for value in held}
        self._noise = {name: noise(name) for name in self._exact}
        for value in held:
            del part.graph.initializers[str(value.name)]
            value.const_value = None
            part.graph.inputs.append(value)
        self._session = _open(part, threads)

    def holds(self, stream: Stream) -> bool:
        """Whether a stream differs from the float model here."""
        return not self._exact.keys().isdisjoint(stream.shares)

    def run(self, states: Iterable[Mapping[str, Array]], stream: Stream) -> Iterator[dict[str, Array]]:
        """What each feed becomes: of what it was and what the segment makes of it, all that is still needed."""
        weights = {
            name: exact + np.float32(stream.shares[name]) * self._noise[name]
            if stream.shares.get(name)
            else exact
            for name, exact in self._exact.items()
        }
        names = set(self._session.input_names) - set(weights)
        for index, state in enumerate(states):
            fed: Feed = {**{name: state[name] for name in names}, **weights}
            found = {**state, **run_feed(self._session, fed, index)}
            yield {name: array for name, array in found.items() if name in self._kept}


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return np.ascontiguousarray(value.const_value.numpy(), np.float32)


def _open(part: ir.Model, threads: int) -> Session:
    from qcompiler.backends.onnxruntime.session import open_model, session_options

    options = session_options(threads=threads, optimize=False)
    options.enable_cpu_mem_arena = False  # an arena keeps the largest segment's memory, and more
    return open_model(part, options)
