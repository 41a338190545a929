"""Which kernels of a native library are slower than what ONNX Runtime runs for the same nodes?

Both are profiled on one feed.  Products and tables are compared node by node; what surrounds them is merged in
different ways by the two, so that only its sum is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qcompiler.backends.base import NodeKey
from qcompiler.measure.profile import NodeTime, profile_nodes
from qcompiler.measure.sessions import Feed
from qcompiler.package.deployed import is_deployed
from qcompiler.verify.attribution import Attribution

RUNS = 15
CLEARLY = 1.05
"""Times as long as the other, at least, is slower: medians of so few runs repeat to some percent."""

_BRANCH = re.compile(r"_(decode|prefill)$")
"""Kernels for few rows and for many of one product stand in branches of an If."""

LEAST_US = 2.0
"""A loss of less is within what listening costs."""


@dataclass(frozen=True)
class KernelPair:
    """One node in both.

    Attributes:
        node: its name in the user's model.
        runtime_op, library_op: what runs it in ONNX Runtime, and in the library.
        runtime_us, library_us: medians; functions and additions that are merged into it included.
    """

    node: str
    runtime_op: str
    library_op: str
    runtime_us: float
    library_us: float

    @property
    def lost_us(self) -> float:
        return self.library_us - self.runtime_us

    @property
    def speed(self) -> float:
        """The runtime's time over the library's."""
        return self.runtime_us / self.library_us if self.library_us > 0 else math.inf

    @property
    def is_slower(self) -> bool:
        return self.lost_us > LEAST_US and self.library_us > CLEARLY * self.runtime_us


@dataclass(frozen=True)
class Beside:
    """All pairs in the order of the graph, and everything else as one more of them."""

    pairs: tuple[KernelPair, ...]
    rest: KernelPair

    @property
    def slower(self) -> tuple[KernelPair, ...]:
        """What the library loses time in, the largest loss first."""
        found = [pair for pair in (*self.pairs, self.rest) if pair.is_slower]
        return tuple(sorted(found, key=lambda pair: pair.lost_us, reverse=True))


def comparable(runtime: Path, library: Path) -> bool:
    """Whether the first runs in ONNX Runtime and the second is a library."""
    return is_deployed(library) and not is_deployed(runtime)


def kernels_beside(runtime: Path, library: Path, feed: Feed, *, threads: int = 1) -> Beside:
    """Profile both on ``feed``.

    Args:
        runtime: an ONNX file.
        library: the index of a compiled model.
        feed: one array per input.
        threads: within an operator, of parallel loops.

    Raises:
        ModelError: a model cannot be loaded.
        CalibrationError: the feed does not fit.
    """
    from qcompiler.backends.tvm.profile import profile_kernels

    ours = profile_kernels(library, feed, runs=RUNS, threads=threads)
    theirs = profile_nodes(runtime, feed, runs=RUNS, threads=threads)
    nodes = [name for name, item in ours.items() if item.op_type != name]
    owners = Attribution.of_file(runtime, [NodeKey(name, "", ()) for name in nodes])
    times, kinds, rest = dict.fromkeys(nodes, 0.0), dict.fromkeys(nodes, ""), 0.0
    longest = dict.fromkeys(nodes, 0.0)
    for item in theirs.values():
        found = owners.owners(_BRANCH.sub("", item.name), item.op_type)
        if not found:
            rest += item.median_us
        for name in found:
            times[name] += item.median_us / len(found)
            if item.median_us > longest[name]:
                longest[name], kinds[name] = item.median_us, item.op_type
    matched = [name for name in nodes if kinds[name]]
    pairs = [
        KernelPair(name, kinds[name], ours[name].op_type, times[name], ours[name].median_us)
        for name in matched
    ]
    return Beside(tuple(pairs), _rest(ours, matched, rest))


def _rest(ours: Mapping[str, NodeTime], matched: list[str], runtime_us: float) -> KernelPair:
    others = sum(item.median_us for name, item in ours.items() if name not in matched)
    return KernelPair("everything else", "", "", runtime_us, others)
