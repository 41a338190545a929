"""A search says where another model is better that needs no search."""

from __future__ import annotations

from qcompiler.auto.bounds import Settled, settle
from qcompiler.auto.drawbacks import drawbacks
from qcompiler.auto.facts import Bounds, Totals
from qcompiler.auto.judge import Judged

FLOAT = Totals(200_000, 0.082, 0.0)


def said(measured: Totals, uniform: Totals, bounds: Bounds | None = None) -> list[str]:
    settled: Settled = settle(bounds or Bounds(max_drop=0.01), "top1")
    return list(drawbacks(measured, FLOAT, {"int8_static": Judged(0.0, 0.0, uniform)}, settled))


def test_nothing_is_said_of_a_model_that_is_better() -> None:
    assert said(Totals(100_000, 0.050, 0.0), Totals(110_000, 0.045, 0.0)) == []
    assert said(Totals(100_000, 0.050, 0.0), Totals(90_000, 0.0495, 0.0)) == []  # within noise


def test_what_is_slower_and_larger_than_float_is_named() -> None:
    slow, large = said(Totals(517_800, 0.089, 0.0), Totals(664_000, 0.083, 0.0))
    assert slow.startswith("the model is slower than the float model on ONNX Runtime (0.089 of 0.082 ms)")
    assert large.startswith("the model is larger than the float one (517.8 of 200.0 kB)")


def test_a_uniform_model_counts_where_it_keeps_the_bounds() -> None:
    found, better = Totals(100_000, 0.050, 0.001), Totals(90_000, 0.040, 0.005)
    assert said(found, better) == [
        "int8_static everywhere was measured to be smaller and faster within the bounds, and to lose 0.005 "
        "(this model 0.001)."
    ]
    assert said(found, better, Bounds(max_drop=0.002)) == []


def test_times_that_nobody_measured_are_no_drawback() -> None:
    measured = Totals(100_000, 0.0, 0.0)
    settled = settle(Bounds(max_drop=0.01), "top1")
    assert list(drawbacks(measured, Totals(200_000, 0.0, 0.0), {}, settled)) == []
