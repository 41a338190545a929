"""What the user bounds, what is preferred where nothing is said, and refusing what cannot be before anything is run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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


def refuse_few_bits(problem: Problem, bounds: Bounds) -> None:
    """Refuse a number of bits that no choice can reach, before anything is run.

    Raises:
        UnsupportedError: says what is possible.
    """
    if bounds.max_bits is None:
        return
    weights = max(sum(group.parameters for group in problem.groups), 1)
    bits = problem.stored_bits.copy()
    bits[~problem.allowed] = math.inf
    fewest = float(bits.min(axis=1).sum()) / weights
    if bounds.max_bits < fewest:
        raise UnsupportedError(
            f"--bits is {bounds.max_bits:g}, and the least that is possible is {_rounded_up(fewest):g} with scales "
            "counted. Give more."
        )


def refusal(infeasible: Infeasible) -> UnsupportedError:
    """The error for limits that no assignment keeps."""
    with_others = "" if infeasible.alone else " with the other bounds kept"
    limit = _shown(infeasible.quantity, infeasible.limit)
    least = _shown(infeasible.quantity, infeasible.least, up=True)
    return UnsupportedError(
        f"{_LIMITS[infeasible.quantity]} asks for {limit}, and the least that is possible{with_others} is {least}. "
        "Give more, or drop a bound."
    )


def _shown(quantity: Quantity, value: float, *, up: bool = False) -> str:
    if quantity == "size_bytes":
        return shown_size(value, up=up)
    shown = _rounded_up(value) if up else value
    return f"{shown:.4g} ms" if quantity == "latency_ms" else f"{shown:.4g}"


def shown_size(size_bytes: float, *, up: bool = False) -> str:
    """Bytes in MB, as the options take them; three digits, or more where the user gave more.

    Args:
        size_bytes: to show.
        up: round to more, not to the nearest: whoever asks for that much gets it.
    """
    shown = _rounded_up(size_bytes) if up else size_bytes
    unit, name = (1e9, "GB") if shown >= 1e9 else (1e6, "MB") if shown >= 1e5 else (1e3, "kB")
    return f"{shown / unit:.{3 if up else 6}g} {name}"


def _rounded_up(value: float, digits: int = 3) -> float:
    """The least number of so many digits that is no less."""
    if value <= 0 or not math.isfinite(value):
        return value
    step = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
    found = math.ceil(value / step * (1 - 1e-12)) * step
    return float(f"{found:.{digits}g}")


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
