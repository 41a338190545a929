"""What the user bounds, what is preferred where nothing is said, and refusing what cannot be before anything is run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from qcompiler.auto.facts import Bounds, Prefer, Problem, Totals
from qcompiler.auto.solve import Infeasible, Limits, Quantity
from qcompiler.errors import OptionError, UnsupportedError

USUAL_DROP = 0.01
"""Of a metric, where no bound is given: one right answer of a hundred, or one per cent."""


@dataclass(frozen=True)
class Settled:
    """Bounds with nothing left open.

    Attributes:
        bounds: as given, with a drop where nothing was bounded.
        prefer: what is made least.
        notes: what was chosen for the user, a sentence each.
    """

    bounds: Bounds
    prefer: Prefer
    notes: tuple[str, ...] = ()

    def limits(self, float_totals: Totals) -> Limits:
        """The bounds as limits of the program, without the one of the loss, which is in another unit there."""
        latency = self.bounds.max_latency_ms
        if self.bounds.max_latency_ratio is not None:
            relative = self.bounds.max_latency_ratio * float_totals.latency_ms
            latency = relative if latency is None else min(latency, relative)
        return Limits(self.bounds.max_size_bytes, latency, None, self.bounds.max_bits)

    def broken(self, totals: Totals, bits: float, float_totals: Totals) -> tuple[str, ...]:
        """The bounds that a measured model does not keep, in words; latency has two per cent of leeway for noise."""
        limits, found = self.limits(float_totals), []
        if limits.size_bytes is not None and totals.size_bytes > limits.size_bytes:
            found.append(f"size {totals.size_bytes / 1e6:.3f} MB of {limits.size_bytes / 1e6:.3f}")
        if limits.latency_ms is not None and totals.latency_ms > NOISE * limits.latency_ms:
            found.append(f"latency {totals.latency_ms:.3f} ms of {limits.latency_ms:.3f}")
        if limits.bits is not None and bits > limits.bits * (1 + 1e-9):
            found.append(f"{bits:.3f} bits of {limits.bits:.3f}")
        if self.bounds.max_drop is not None and totals.loss > self.bounds.max_drop:
            found.append(f"drop {totals.loss:.5f} of {self.bounds.max_drop:.5f}")
        return tuple(found)


NOISE = 1.02
"""A latency bound counts as kept up to this multiple."""


def check_bounds(bounds: Bounds) -> None:
    """Refuse numbers that no model can have, and what every float model has.

    Raises:
        OptionError: names the option.
    """
    for name in ("max_size_bytes", "max_latency_ms", "max_latency_ratio", "max_bits"):
        value = getattr(bounds, name)
        if value is not None and not 0 < value < math.inf:
            raise OptionError(f"{_OPTIONS[name]} is {value}, expected a finite number above 0.")
    if bounds.max_drop is not None and not 0 <= bounds.max_drop < math.inf:
        raise OptionError(f"--max-drop is {bounds.max_drop}, expected a finite number, 0 or more.")
    if bounds.prefer == "accuracy" and bounds.unbounded:
        raise OptionError(
            "--prefer accuracy without a bound is the float model; give --max-size, --max-latency or --bits."
        )


def settle(bounds: Bounds, metric: str) -> Settled:
    """Choose what the user left open, and say so."""
    notes = []
    if bounds.unbounded and bounds.prefer != "accuracy":
        bounds = replace(bounds, max_drop=USUAL_DROP)
        notes.append(f"no bound is given: --max-drop {USUAL_DROP:g} of {metric} is taken.")
    prefer = bounds.prefer
    if prefer is None:
        prefer = "size" if bounds.max_drop is not None else "accuracy"
        words = {"size": "smallest", "accuracy": "most accurate", "speed": "fastest"}[prefer]
        notes.append(f"--prefer {prefer}: the {words} model within the bounds.")
    return Settled(bounds, prefer, tuple(notes))


def least_bytes(problem: Problem, reference: ir.Model) -> float:
    """Bytes below which no assignment can come: weights in the fewest bits of any choice, other constants as they are.

    Nodes and names are not counted, so the least that is possible is a little more.
    """
    decided = {group_node for group in problem.groups for group_node in group.nodes}
    held = {
        id(value)
        for node in reference.graph.all_nodes()
        if node.name in decided
        for value in node.inputs
        if value is not None and value.const_value is not None
    }
    rest = sum(
        value.const_value.nbytes
        for graph in reference.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None and id(value) not in held
    )
    bits = problem.stored_bits.copy()
    bits[~problem.allowed] = float("inf")
    return float(bits.min(axis=1).sum()) / 8 + rest


def refuse_impossible_size(problem: Problem, reference: ir.Model, bounds: Bounds) -> None:
    """Refuse a size or number of bits that no choice can reach, before anything is calibrated.

    Raises:
        UnsupportedError: says what is possible.
    """
    least = least_bytes(problem, reference)
    if bounds.max_size_bytes is not None and bounds.max_size_bytes < least:
        raise UnsupportedError(
            f"--max-size is {shown_size(bounds.max_size_bytes)}, and the least that is possible is about "
            f"{shown_size(least)}: every weight in the fewest bits that the target has, the rest as it is. Give more."
        )
    weights = max(sum(group.parameters for group in problem.groups), 1)
    bits = problem.stored_bits.copy()
    bits[~problem.allowed] = float("inf")
    fewest = float(bits.min(axis=1).sum()) / weights
    if bounds.max_bits is not None and bounds.max_bits < fewest:
        raise UnsupportedError(
            f"--bits is {bounds.max_bits:g}, and the least that is possible is {fewest:.2f} with scales counted. "
            "Give more."
        )


def refusal(infeasible: Infeasible) -> UnsupportedError:
    """The error for limits that no assignment keeps."""
    with_others = "" if infeasible.alone else " with the other bounds kept"
    limit, least = (_shown(infeasible.quantity, value) for value in (infeasible.limit, infeasible.least))
    return UnsupportedError(
        f"{_LIMITS[infeasible.quantity]} asks for {limit}, and the least that is possible{with_others} is {least}. "
        "Give more, or drop a bound."
    )


def _shown(quantity: Quantity, value: float) -> str:
    if quantity == "size_bytes":
        return shown_size(value)
    return f"{value:.4g} ms" if quantity == "latency_ms" else f"{value:.3g}"


def shown_size(size_bytes: float) -> str:
    """Bytes in MB, as the options take them; three digits."""
    return f"{size_bytes / 1e6:.3g} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.3g} kB"


_OPTIONS = {
    "max_size_bytes": "--max-size",
    "max_latency_ms": "--max-latency",
    "max_latency_ratio": "--max-latency",
    "max_bits": "--bits",
}

_LIMITS: dict[Quantity, str] = {
    "size_bytes": "--max-size",
    "latency_ms": "--max-latency",
    "bits": "--bits",
    "loss": "--max-drop",
}
