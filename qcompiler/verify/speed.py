"""Never slower: the compiled model against float on this machine, and which nodes lose where it is slower."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.backends.base import NodeKey
from qcompiler.data.feeds import Feed
from qcompiler.measure.latency import measure_latency, speed_ratio
from qcompiler.measure.profile import NodeTime, profile_nodes
from qcompiler.measure.sessions import run_checked, session_runner, timing_session
from qcompiler.verify.attribution import Attribution

ROUNDS = 15


@dataclass(frozen=True)
class SpeedCheck:
    """Time of float and of the compiled model, measured in turn.

    Attributes:
        ratio: float time / compiled time, median: above 1 the compiled model is faster.
        low: lower end of its 95 % confidence interval.
        high: upper end.
        float_ms: median milliseconds of one pass over the feeds.
        deployed_ms: the same of the compiled model.
    """

    ratio: float
    low: float
    high: float
    float_ms: float
    deployed_ms: float

    @property
    def slower(self) -> bool:
        """The whole interval says so: noise alone must not put nodes back to float."""
        return self.high < 1.0


@dataclass(frozen=True)
class NodeCost:
    """What quantizing one node cost in time.

    Attributes:
        node: its name in the user's file.
        float_us: microseconds in the float model.
        deployed_us: microseconds in the compiled one, with the quantization put around it.
    """

    node: str
    float_us: float
    deployed_us: float

    @property
    def loss_us(self) -> float:
        """Above 0 where quantization made it slower."""
        return self.deployed_us - self.float_us


def measure_speed(
    float_path: Path,
    deployed_path: Path,
    feeds: Sequence[Feed],
    *,
    threads: int = 1,
    seconds: float = 10.0,
) -> SpeedCheck:
    """Time both models in interleaved rounds.

    Args:
        float_path: the user's model.
        deployed_path: the compiled one.
        feeds: one timed call runs them all.
        threads: threads within an operator.
        seconds: time budget of the measurement.

    Raises:
        ModelError: a model cannot be loaded.
        CalibrationError: no feeds, or feeds that do not fit.
    """
    runners = {}
    for name, path in (("float", float_path), ("deployed", deployed_path)):
        session = timing_session(path, threads=threads)
        run_checked(session, feeds, model=str(path))
        runners[name] = session_runner(session, feeds)
    stats = measure_latency(runners, rounds=ROUNDS, max_seconds=seconds)
    ratio = speed_ratio(stats["float"], stats["deployed"])
    return SpeedCheck(
        ratio.median, ratio.low, ratio.high, stats["float"].median_ms, stats["deployed"].median_ms
    )


def slowest_nodes(
    float_path: Path,
    deployed_path: Path,
    feeds: Sequence[Feed],
    names: Sequence[NodeKey],
    *,
    threads: int = 1,
) -> list[NodeCost]:
    """Quantized nodes, the one that loses most time first; those that gain come last.

    Both models are profiled on the first feed. What the profile of the compiled model adds around a node (see
    :mod:`qcompiler.verify.attribution`) counts as that node's time.

    Raises:
        ModelError: a model cannot be loaded.
        CalibrationError: the feed does not fit.
    """
    before = _times(float_path, profile_nodes(float_path, feeds[0], threads=threads), names)
    after = _times(deployed_path, profile_nodes(deployed_path, feeds[0], threads=threads), names)
    costs = [NodeCost(key.name, before.get(key.name, 0.0), after.get(key.name, 0.0)) for key in names]
    return sorted(costs, key=lambda cost: cost.loss_us, reverse=True)


def _times(path: Path, profile: dict[str, NodeTime], keys: Collection[NodeKey]) -> dict[str, float]:
    """Microseconds by the names of ``keys``; a merged node's time is shared out evenly among its parts."""
    attribution = Attribution.of_file(path, keys)
    times = dict.fromkeys((key.name for key in keys), 0.0)
    for node_time in profile.values():
        owners = attribution.owners(node_time.name, node_time.op_type)
        for owner in owners:
            times[owner] += node_time.median_us / len(owners)
    return times
