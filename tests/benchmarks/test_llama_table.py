"""The README's line of a model says what its row says."""

from __future__ import annotations

from benchmarks.llama_table import NAME, summarize_llama
from benchmarks.results_file import Machine, Row, Scores, Speed, make_result


def speed(ratio: float) -> Speed:
    return Speed(median=ratio, low=ratio, high=ratio, latency_ms=1.0)


def test_ratios_stand_beside_tokens_and_the_ceiling_below() -> None:
    own = {"MB resident, after generating": 291.4}
    for at, factor in (("1 thread", 1), ("2 threads", 2)):
        own |= {f"decode tokens/s, {at}": 120.0 * factor, f"prefill tokens/s, {at}": 1100.0 * factor}
        own[f"of reading the weights once, {at} %"] = 61.7
    speeds = {
        "decode, 1t": speed(4.61),
        "decode, 2t": speed(5.02),
        "prefill, 1t": speed(3.1),
        "prefill, 2t": speed(3),
    }
    model = Row(name="qcompiler int4", scores=Scores(own=own), size_bytes=211_500_000, speed=speeds)
    product = Row(
        name="one product, 128 rows: int8", speed={"prefill, 1t": speed(3.64), "prefill, 2t": speed(3.5)}
    )
    memory = Row(name="reading memory", scores=Scores(own={"GB/s, 1 thread": 32.6, "GB/s, 2 threads": 41.0}))
    machine = Machine(processor="", cores=2, features=(), memory_gb=0, load=0)
    result = make_result("Llama", "random weights", "python -m it", (model, product, memory), machine)
    shown = summarize_llama({NAME: result})
    cells = "120 (4.6x) / 240 (5.0x) | 1100 (3.1x) / 2200 (3.0x) | 62 % / 62 % | 291 | 212"
    assert f"| qcompiler int4 | {cells} |" in shown
    assert "reads 33 / 41 GB" in shown
    assert "int8 makes one product, 128 rows 3.6x / 3.5x as fast" in shown


def test_without_a_result_there_is_nothing_to_say() -> None:
    assert summarize_llama({}) == ""
