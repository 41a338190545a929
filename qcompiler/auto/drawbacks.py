"""What a search must say of the model that it found: that another, which needs no search, is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qcompiler.auto.bounds import NOISE, Settled
from qcompiler.auto.facts import Totals
from qcompiler.auto.judge import Judged


def drawbacks(
    measured: Totals, float_totals: Totals, uniform: Mapping[str, Judged], settled: Settled
) -> Iterator[str]:
    """Sentences: slower than float, larger than float, or slower and larger than a uniform model within the bounds.

    Args:
        measured: the model that was found.
        float_totals: the float model, on ONNX Runtime.
        uniform: models of one choice everywhere.
        settled: the bounds.
    """
    if measured.latency_ms > NOISE * float_totals.latency_ms > 0:
        yield (
            f"the model is slower than the float model on ONNX Runtime ({measured.latency_ms:.3g} of "
            f"{float_totals.latency_ms:.3g} ms); bound the time with --max-latency, or try --prefer speed."
        )
    if measured.size_bytes > float_totals.size_bytes:
        yield (
            f"the model is larger than the float one ({measured.size_bytes / 1e3:.1f} of "
            f"{float_totals.size_bytes / 1e3:.1f} kB); bound the size with --max-size, or try another target."
        )
    for name, each in uniform.items():
        smaller = each.totals.size_bytes < measured.size_bytes
        faster = NOISE * each.totals.latency_ms < measured.latency_ms
        if smaller and faster and not settled.broken(each.totals, 0.0, float_totals):
            yield (
                f"{name} everywhere was measured to be smaller and faster within the bounds, and to lose "
                f"{each.totals.loss:.3g} (this model {measured.loss:.3g})."
            )
