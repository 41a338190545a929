"""How long each node of the user's file takes, before and after, and which kernel ran it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qcompiler.backends.base import NodeKey
from qcompiler.data.feeds import Feed
from qcompiler.measure.profile import profile_nodes
from qcompiler.report.html.stored_bytes import plain_names
from qcompiler.verify.attribution import Attribution

RUNS = 10

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that the runtime merges those behind into."""


@dataclass(frozen=True)
class Profiled:
    """One model.

    Attributes:
        by_node: microseconds of a run, for nodes of the user's file that have a kernel of their own.
        kernels: operator of the kernel that took most of a node's time.
        other_us: what belongs to none of them.
    """

    by_node: dict[str, float] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)
    other_us: float = 0.0

    @property
    def total_us(self) -> float:
        return sum(self.by_node.values()) + self.other_us


def profiled(path: Path, feed: Feed, keys: Sequence[NodeKey], *, threads: int) -> Profiled:
    """Profile a model, and find the user's node for every kernel; merged nodes share their time evenly.

    Raises:
        ModelError: it cannot be loaded.
        CalibrationError: the feed does not fit.
        UnsupportedError: the profiler ran full.
    """
    owners_of = _Owners.of_file(path, keys)
    times: dict[str, float] = defaultdict(float)
    longest: dict[str, tuple[float, str]] = {}
    other = 0.0
    for item in profile_nodes(path, feed, runs=RUNS, threads=threads).values():
        owners = owners_of(item.name, item.op_type)
        if not owners:
            other += item.median_us
        for owner in owners:
            times[owner] += item.median_us / len(owners)
            longest[owner] = max(longest.get(owner, (-1.0, "")), (item.median_us, item.op_type))
    return Profiled(dict(times), {name: kernel for name, (_, kernel) in longest.items()}, other)


@dataclass(frozen=True)
class _Owners:
    """Finds the user's nodes that a kernel ran for.

    A kernel that several nodes were merged into carries the name of the last, an activation function; its time belongs
    to the one of its own type.

    Attributes:
        of_all: looks among all nodes.
        of_products: looks among those that others are merged into.
        types: operators by node name.
    """

    of_all: Attribution
    of_products: Attribution
    types: Mapping[str, str]

    @classmethod
    def of_file(cls, path: Path, keys: Sequence[NodeKey]) -> _Owners:
        products = [key for key in keys if key.op_type in PRODUCTS]
        return cls(
            Attribution.of_file(path, keys),
            Attribution.of_file(path, products),
            {key.name: key.op_type for key in keys},
        )

    def __call__(self, profile_name: str, op_type: str) -> list[str]:
        found = self.of_all.owners(profile_name, op_type)
        found = found or [name for name in plain_names(profile_name) if name in self.types][:1]
        if len(found) == 1 and self.types[found[0]] != op_type:
            merged = self.of_products.owners(profile_name, op_type)
            if merged and all(self.types[name] == op_type for name in merged):
                return merged
        return found
