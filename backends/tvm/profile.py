"""Time per kernel of a compiled model, from the virtual machine that calls them.

The machine tells a listener before and after every call.  Functions are shared by all nodes of the same description,
and are called in the order of the graph: the n-th call of functions made for an operator is its n-th node.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qcompiler.backends.base import Array
from qcompiler.backends.tvm.loader import Model, index_path, read_index
from qcompiler.graph.cache_codes import encoded, read_scales
from qcompiler.measure.profile import NodeTime

_OF_THE_MACHINE = "vm.builtin."
"""Calls that look at shapes, take memory and hand it back."""


@dataclass
class _Listener:
    """What the machine calls; seconds of all calls of one run, in order."""

    calls: list[tuple[str, float]] = field(default_factory=list)
    _started: float = 0.0

    def __call__(self, function: object, name: str, before: bool, *rest: object) -> int:
        now = time.perf_counter()
        if not before:
            self.calls.append((str(name), now - self._started))
        self._started = time.perf_counter()
        return 0


def profile_kernels(
    path: Path, feed: Mapping[str, Array], *, runs: int = 10, warmup_runs: int = 2, threads: int = 1
) -> dict[str, NodeTime]:
    """Run a compiled model and return the time of every kernel, by its node, or its function where it has none.

    Every time is less what the shortest call of its run took, which did nothing but tell the listener.

    Args:
        path: of the index.
        feed: one array per input.
        runs: runs that are counted.
        warmup_runs: runs before them that are not.
        threads: of parallel loops.

    Raises:
        LoadError: the model cannot be loaded, or the feed does not fit.
    """
    model, index = Model(path, threads=threads), read_index(index_path(path))
    stored = encoded(feed, read_scales(index["metadata"]))
    inputs = [model.tensor(item, stored) for item in model.inputs]
    for _ in range(warmup_runs):
        model.call(inputs)
    listener, found = _Listener(), []
    model._machine["set_instrument"](model._ffi.convert(listener))
    for _ in range(runs):
        model.call(inputs)
        found.append(listener.calls)
        listener.calls = []
    return _node_times(found, index["kernels"])


def _node_times(runs: Sequence[Sequence[tuple[str, float]]], nodes: Mapping[str, str]) -> dict[str, NodeTime]:
    times: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(runs))
    kinds: dict[str, str] = {}
    names = _names([name for name, _ in runs[0]], nodes)
    for index, calls in enumerate(runs):
        least = min((seconds for _, seconds in calls), default=0.0)
        for (function, seconds), (name, kind) in zip(calls, names, strict=True):
            if not function.startswith(_OF_THE_MACHINE):
                times[name][index] += 1e6 * (seconds - least)
                kinds[name] = kind
    return {name: NodeTime(name, kinds[name], tuple(values)) for name, values in times.items()}


def _names(functions: Sequence[str], nodes: Mapping[str, str]) -> list[tuple[str, str]]:
    """By call: its node and operator, or the function for both where calls and nodes are not equally many."""
    called: dict[str, int] = defaultdict(int)
    for function in functions:
        called[_stem(function)] += 1
    waiting: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for node, operator in nodes.items():
        waiting[operator.lower()].append((node, operator))
    matched = {stem: iter(items) for stem, items in waiting.items() if len(items) == called[stem]}
    stems = [_stem(function) for function in functions]
    return [next(matched[stem]) if stem in matched else (stem, stem) for stem in stems]


def _stem(function: str) -> str:
    """``gemmint8`` of ``gemmint8_3``."""
    stem, _, number = function.rpartition("_")
    return stem if number.isdigit() else function
