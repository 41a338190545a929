"""Never slower: what is put back to float, in which order, and when it ends; timings are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from qcompiler import checks
from qcompiler.backends.base import NodeKey
from qcompiler.build import Build
from qcompiler.data import FeedSource
from qcompiler.errors import VerificationError
from qcompiler.request import CompileOptions
from qcompiler.samples import Samples
from qcompiler.verify.speed import NodeCost, SpeedCheck
from qcompiler.verify.verify import Verification
from tests.qcompiler.stand_ins import StandInPipeline, keys, made, timing

SPEED = CompileOptions(verify="speed")


@dataclass
class Machine:
    """Quantizing a node adds ``cost[node]`` ms to a float model of 10 ms; negative costs are gains."""

    cost: dict[str, float]
    spread: float = 0.01
    built: list[tuple[str, ...]] = field(default_factory=list)
    feeds: list[int] = field(default_factory=list)
    profiled: bool = True

    def build(self, pipeline: object, path: Path, reverted: tuple[str, ...], *, external: object) -> Build:
        del pipeline, external
        self.built.append(reverted)
        return made(path.parent, tuple(self.cost), reverted=reverted)

    def quantized(self) -> list[str]:
        reverted = self.built[-1] if self.built else ()
        return [name for name in self.cost if name not in reverted]

    def measure_speed(self, float_path: Path, path: Path, feeds: Sequence[object], **_: object) -> SpeedCheck:
        del float_path, path
        self.feeds.append(len(feeds))
        return timing(10 / (10 + sum(self.cost[name] for name in self.quantized())), self.spread)

    def slowest_nodes(
        self, float_path: Path, path: Path, feeds: object, names: Sequence[NodeKey], **_: object
    ) -> list[NodeCost]:
        del float_path, path, feeds
        known = [NodeCost(key.name, 0.0, 1000 * self.cost[key.name]) for key in names if self.profiled]
        return sorted(known, key=lambda cost: cost.loss_us, reverse=True)

    def never_slower(
        self, monkeypatch: pytest.MonkeyPatch, options: CompileOptions = SPEED
    ) -> tuple[Build, SpeedCheck | None]:
        monkeypatch.setattr(checks, "build", self.build)
        monkeypatch.setattr(checks, "measure_speed", self.measure_speed)
        monkeypatch.setattr(checks, "slowest_nodes", self.slowest_nodes)
        monkeypatch.setattr(checks, "quantized_keys", lambda _, passes: keys(passes))
        samples = Samples(None, cast(FeedSource, [{}] * 9), "nine feeds")
        first = made(Path("stage"), tuple(self.cost))
        return checks.never_slower(first, StandInPipeline().as_pipeline(), "m.onnx", samples, options)


def test_a_faster_model_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({"a": -3.0, "b": 1.0})
    built, speed = machine.never_slower(monkeypatch)
    assert machine.built == []
    assert built.reverted == ()
    assert speed is not None
    assert not speed.slower


def test_noise_alone_puts_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.95x with an interval that reaches above 1 may well be as fast."""
    machine = Machine({"a": 0.5}, spread=0.1)
    built, _ = machine.never_slower(monkeypatch)
    assert built.reverted == ()


def test_the_worst_node_goes_first_and_what_gains_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({"gain": -2.0, "bad": 1.0, "worst": 5.0})
    built, speed = machine.never_slower(monkeypatch)
    assert built.reverted == ("worst",)
    assert speed is not None
    assert speed.ratio > 1


def test_each_round_puts_back_twice_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({f"n{index}": 1.0 + index for index in range(40)})
    built, speed = machine.never_slower(monkeypatch)
    assert [len(reverted) for reverted in machine.built] == [1, 3, 7, 15, 31, 40]
    assert set(built.reverted) == set(machine.cost)
    assert len(set(built.reverted)) == len(built.reverted)
    assert speed is not None
    assert not speed.slower


def test_nodes_without_a_time_of_their_own_are_put_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime may have merged them away; the search must end all the same."""
    machine = Machine({"a": 1.0, "b": 1.0}, profiled=False)
    built, _ = machine.never_slower(monkeypatch)
    assert set(built.reverted) == {"a", "b"}


def test_it_ends_where_nothing_is_left_to_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What transforms inserted may cost more than float even then."""
    machine = Machine({"a": 1.0})
    monkeypatch.setattr(Machine, "measure_speed", lambda *_, **__: timing(0.5))
    built, speed = machine.never_slower(monkeypatch)
    assert built.reverted == ("a",)
    assert speed is not None
    assert speed.slower


@pytest.mark.parametrize("verify", ["none", "numerics"])
def test_nothing_is_timed_unless_asked(monkeypatch: pytest.MonkeyPatch, verify: str) -> None:
    machine = Machine({"a": 5.0})
    _, speed = machine.never_slower(monkeypatch, CompileOptions(verify=verify))  # type: ignore[arg-type]
    assert speed is None
    assert machine.feeds == []


def test_few_feeds_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({"a": -1.0})
    machine.never_slower(monkeypatch)
    assert machine.feeds == [checks.SPEED_FEEDS]


@pytest.mark.parametrize(
    ("failures", "message"),
    [(("y is wrong.",), r"^y is wrong\.$"), (("a.", "b.", "c."), r"^a\. \(2 more\)$")],
)
def test_the_first_failure_is_the_message(
    monkeypatch: pytest.MonkeyPatch, failures: tuple[str, ...], message: str
) -> None:
    failed = cast(Verification, SimpleNamespace(failures=failures))
    monkeypatch.setattr(checks, "verify_model", lambda *_, **__: failed)
    samples = cast(Samples, SimpleNamespace(held_out=[]))
    with pytest.raises(VerificationError, match=message):
        checks.check(made(), StandInPipeline().as_pipeline(), samples, CompileOptions())


def test_nothing_is_verified_where_turned_off() -> None:
    samples = cast(Samples, None)
    options = CompileOptions(verify="none")
    assert checks.check(made(), StandInPipeline().as_pipeline(), samples, options) is None
