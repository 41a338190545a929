"""Time per node, from the profiler of ONNX Runtime.

How the runtime names what it ran (read from 1.31.1, CPU provider, all optimizations on). A profile knows the nodes of
the *optimized* graph, as events ``<node name>_kernel_time``:

- A node that no optimization touches keeps its name; one without a name appears as ``<op type>_<index>``.
- QDQ groups keep the name of the node in the middle: QLinearConv, QLinearMatMul, QLinearAdd and the like carry the
  name of the float Conv, MatMul, Add. DequantizeLinear(weight) + MatMul that became MatMulNBits carries the MatMul's
  name; DynamicQuantizeMatMul that was fused from MatMulInteger carries the MatMulInteger's name.
- ``_token_<n>`` is appended where a transformer made a copy (QLinearConv turned to NHWC, a second fused Gemm).
- MatMul + Add becomes Gemm (or MatMulNBits) ``<MatMul's name>/MatMulAddFusion`` between two Reshapes
  ``gemm_input_reshape`` and ``gemm_output_reshape``.
- Float Conv and pooling on x86 run in blocked layout and are called ``<name of the output value>_nchwc``, the
  output being that of a fused Relu or the like; ReorderInput and ReorderOutput stand around them.
- Fused SkipLayerNormalization is called after its op type: the names of the Add and of the norm are lost.
- Nodes of an inlined function ``f`` are ``_inlfunc_f_<name>``. Nodes in If, Loop and Scan bodies keep their names
  and are events of their own; the time of the If includes them, and is given here without them.

``node_of_profile_name`` undoes what can be undone.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypedDict

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.measure.sessions import Feed, fed, run_checked, timing_options, timing_session

_EVENT_SUFFIX = "_kernel_time"
_FUSION_SUFFIX = re.compile(r"(_token_\d+|/MatMulAddFusion)+$")


class Event(TypedDict):
    """One entry of the trace; times in microseconds. ``args`` has ``op_name`` for kernels."""

    cat: str
    name: str
    ts: int
    dur: int
    args: dict[str, object]


@dataclass(frozen=True)
class NodeTime:
    """Time of one node of the optimized graph, without the nodes inside it.

    Attributes:
        name: as the runtime calls it (see the module's docstring), without ``_kernel_time``.
        op_type: what ran, for example ``QLinearConv``.
        runs_us: microseconds in each counted run; several executions in one run (a Loop) are added up.
    """

    name: str
    op_type: str
    runs_us: tuple[float, ...]

    @property
    def median_us(self) -> float:
        return float(np.median(self.runs_us))

    @property
    def mean_us(self) -> float:
        return float(np.mean(self.runs_us))

    @property
    def total_us(self) -> float:
        return float(np.sum(self.runs_us))


def profile_nodes(
    model: Path | str | bytes, feed: Feed, *, runs: int = 10, warmup_runs: int = 2, threads: int = 1
) -> dict[str, NodeTime]:
    """Run a model under the profiler and return the time of every node of its optimized graph.

    Events have a resolution of one microsecond and cost about as much: figures of a few microseconds are rough.

    Args:
        model: path, or serialized model without external data.
        feed: one array per model input.
        runs: runs that are counted.
        warmup_runs: runs before them that are not (at least 1).
        threads: threads within an operator.

    Raises:
        ModelError: the model cannot be loaded.
        CalibrationError: the feed does not fit the model.
        UnsupportedError: the profiler ran full before the last run.
    """
    if runs < 1 or warmup_runs < 1:
        raise ValueError("needs at least one run and one run to warm up")
    with Profiled(model, feed, threads=threads) as profiled:
        for _ in range(warmup_runs - 1 + runs):
            profiled.run()
        return node_times(profiled.runs()[warmup_runs:])


class Profiled:
    """A model open under the profiler, to be run side by side with others. Use it in a ``with``.

    Opening runs the feed once.

    Raises:
        ModelError: the model cannot be loaded.
        CalibrationError: the feed does not fit the model.
    """

    def __init__(self, model: Path | str | bytes, feed: Feed, *, threads: int = 1) -> None:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="qcompiler-profile-"))
            options = timing_options(threads=threads)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "trace")
            self._session = timing_session(model, options=options)
            run_checked(self._session, [feed], model="the model" if isinstance(model, bytes) else str(model))
            self._feed, self._count = fed(self._session, feed), 1
            self._stack = stack.pop_all()

    def run(self) -> None:
        """Run the feed once more."""
        self._session.run(None, self._feed)
        self._count += 1

    def runs(self) -> list[list[Event]]:
        """End profiling; the kernel events of every run, that of opening included.

        Raises:
            UnsupportedError: the profiler ran full before the last run.
        """
        trace: list[Event] = json.loads(Path(self._session.end_profiling()).read_text("utf-8"))
        done = split_runs(trace)
        if len(done) != self._count:
            raise UnsupportedError(
                f"the profiler recorded {len(done)} of {self._count} runs before it was full; ask for fewer runs."
            )
        return done

    def __enter__(self) -> Profiled:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def split_runs(trace: list[Event]) -> list[list[Event]]:
    """Return the kernel events of each complete run: events come in the order in which they ended."""
    runs: list[list[Event]] = []
    current: list[Event] = []
    for event in trace:
        if event["cat"] == "Node" and event["name"].endswith(_EVENT_SUFFIX):
            current.append(event)
        elif event["name"] == "model_run":
            runs.append(current)
            current = []
    return runs


def node_times(runs: list[list[Event]]) -> dict[str, NodeTime]:
    """Add up the events of each run by node name, in order of first execution."""
    per_run: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(runs))
    op_types: dict[str, str] = {}
    for index, events in enumerate(runs):
        for event, own_us in zip(events, own_times(events), strict=True):
            name = event["name"].removesuffix(_EVENT_SUFFIX)
            per_run[name][index] += own_us
            op_types[name] = str(event["args"].get("op_name", ""))
    return {name: NodeTime(name, op_types[name], tuple(times)) for name, times in per_run.items()}


def own_times(events: list[Event]) -> list[float]:
    """Return the microseconds of each event without the events of its subgraph, which ended before it."""
    own: list[float] = []
    for index, event in enumerate(events):
        inside = 0.0
        if event["args"].get("op_name") in ("If", "Loop", "Scan"):
            for earlier in range(index - 1, -1, -1):
                if events[earlier]["ts"] < event["ts"]:
                    break
                inside += own[earlier]
        own.append(max(0.0, event["dur"] - inside))
    return own


def node_of_profile_name(
    profile_name: str, node_names: Collection[str], producers: Mapping[str, str]
) -> str | None:
    """Return the node of the file that a name in a profile stands for, or None where the runtime lost it.

    Args:
        profile_name: a key of ``profile_nodes``.
        node_names: names of the nodes in the file that was run.
        producers: name of the node that makes a value, by the value's name (for the blocked layout on x86).
    """
    if profile_name in node_names:
        return profile_name
    undecorated = _FUSION_SUFFIX.sub("", profile_name)
    if undecorated in node_names:
        return undecorated
    return producers.get(undecorated.removesuffix("_nchwc"))
