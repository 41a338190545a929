"""Does spinning, or the untimed call at each switch, change a measured ratio?

    python -m benchmarks.timing_method float.onnx quantized.onnx feed.npz [--threads 2]

Prints the ratio of the two models with threads of idle sessions sleeping and spinning, with and without the untimed
call (docs/decisions/0001).
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import onnxruntime

from qcompiler.measure.latency import SETTLE_BELOW_SECONDS, Runner, measure_latency, speed_ratio
from qcompiler.measure.sessions import Feed, session_runner, timing_options, timing_session


def runner(model: Path, feed: Feed, *, threads: int, spinning: bool) -> Runner:
    """Return a call that runs the model once on the feed."""
    options = timing_options(threads=threads)
    if spinning:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
    return session_runner(timing_session(model, options=options), [feed])


def main() -> None:
    """Print one line for each way of measuring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timing_method")
    parser.add_argument("models", type=Path, nargs=2)
    parser.add_argument("feed", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    feed = dict(np.load(arguments.feed, allow_pickle=False))
    for spinning, settle in itertools.product((False, True), (True, False)):
        runners = {
            str(model): runner(model, feed, threads=arguments.threads, spinning=spinning)
            for model in arguments.models
        }
        limit = SETTLE_BELOW_SECONDS if settle else 0.0
        first, second = measure_latency(runners, settle_below_seconds=limit).values()
        how = f"spinning={'on' if spinning else 'off'} settle={'on' if settle else 'off'}"
        print(f"{how:28} {speed_ratio(first, second)}  {first.median_ms:.2f} ms, {second.median_ms:.2f} ms")


if __name__ == "__main__":
    main()
