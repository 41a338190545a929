"""What forms of a low-bit product cost on ONNX Runtime's CPU provider: time by rows, load time, memory, file size.

    python -m benchmarks.low_bit_matmul rows [--columns 2048,5632] [--rows 1,4,8,16,32,128] [--seconds 6] [--forms ""]
    python -m benchmarks.low_bit_matmul joined [--seconds 20] [--threads 1]
    python -m benchmarks.low_bit_matmul memory [--layers 12]

``rows`` times one product of K = 2048 in interleaved rounds, in every form whose name has the words of ``--forms``; a
cell is the median in ms and, in brackets, how many times faster than float32 in the same rounds.  ``joined`` times
products of one input (queries, keys and values; the two halves of a gated network), apart and as one matrix whose
product a Split takes apart.  One thread is timed by its processor time.  ``memory`` writes a stack of 2048 x 5632 and
5632 x 2048 matrices with external data and opens each form in a process of its own: MB of the file, seconds to open, MB
resident at the peak of opening, afterwards, and after one run of 1 and of 128 rows; then ms of each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.low_bit_stacks import FORMS, SINGLE_FORMS, siblings, single, stack

K, N = 2048, 5632
SIBLINGS = ((2048, 256, 256), (5632, 5632))


def main() -> None:
    """Run one of the two parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("rows", "joined", "memory", "open"))
    parser.add_argument("file", nargs="?", type=Path, help="for open alone")
    parser.add_argument("--columns", default="2048,5632")
    parser.add_argument("--rows", default="1,4,8,16,32,128")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument(
        "--forms", default="", help="of the forms of rows, those with these words, and float32"
    )
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.part == "open":
        _open(given.file)
    elif given.part == "memory":
        _memory(given.layers)
    elif given.part == "joined":
        _joined(given.seconds, given.threads)
    else:
        for columns in map(int, given.columns.split(",")):
            _rows(columns, [int(rows) for rows in given.rows.split(",")], given.seconds, given.forms)


def _rows(columns: int, rows: list[int], seconds: float, words: str) -> None:
    from qcompiler.measure.latency import measure_latency
    from qcompiler.measure.sessions import session_runner, timing_session

    forms = [form for form in SINGLE_FORMS if form == "float32" or words in form]
    sessions = {form: timing_session(single(form, K, columns)) for form in forms}
    print(f"\n{K} x {columns}\n\n| form | {' | '.join(map(str, rows))} |\n|---|{'---|' * len(rows)}")
    cells: dict[str, list[str]] = {form: [] for form in sessions}
    for count in rows:
        feed = {"x": np.random.default_rng(0).standard_normal((1, count, K)).astype(np.float32)}
        runners = {form: session_runner(session, [feed]) for form, session in sessions.items()}
        found = measure_latency(runners, rounds=9, max_seconds=seconds, clock=time.thread_time)
        for form, stats in found.items():
            ratio = found["float32"].median_ms / stats.median_ms
            cells[form].append(f"{stats.median_ms:.3f} ({ratio:.1f}x)")
    for form, shown in cells.items():
        print(f"| {form} | {' | '.join(shown)} |")


def _joined(seconds: float, threads: int) -> None:
    from qcompiler.measure.latency import measure_latency, speed_ratio
    from qcompiler.measure.sessions import session_runner, timing_session

    clock = time.thread_time if threads == 1 else time.perf_counter
    print("| columns | rows | apart ms | joined ms | apart / joined | 95 % |\n|---|---|---|---|---|---|")
    for columns in SIBLINGS:
        for rows in (1, 128):
            feed = {"x": np.random.default_rng(0).standard_normal((1, rows, K)).astype(np.float32)}
            runners = {}
            for joined in (False, True):
                model = siblings(columns, K, few_rows=rows == 1, joined=joined)
                runners[str(joined)] = session_runner(timing_session(model, threads=threads), [feed])
            found = measure_latency(runners, rounds=400, max_seconds=seconds, clock=clock)
            apart, whole = found["False"], found["True"]
            ratio = speed_ratio(apart, whole)
            print(
                f"| {' + '.join(map(str, columns))} | {rows} | {apart.median_ms:.3f} | {whole.median_ms:.3f} "
                f"| {ratio.median:.2f}x | {ratio.low:.2f} to {ratio.high:.2f} |",
                flush=True,
            )


def _memory(layers: int) -> None:
    print(
        "| form | file | open s | peak | opened | after runs | 1 row ms | 128 rows ms |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for form in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            stack(form, layers, K, N, path)
            size = sum(file.stat().st_size for file in Path(folder).iterdir()) >> 20
            command = [sys.executable, "-m", "benchmarks.low_bit_matmul", "open", str(path)]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print(f"| {form} | {size} | {shown} |", flush=True)


def _open(path: Path) -> None:
    from qcompiler.measure.sessions import timing_session

    base, started = _resident_mb("VmRSS"), time.perf_counter()
    session = timing_session(path)
    seconds = time.perf_counter() - started
    peak, opened = _resident_mb("VmHWM") - base, _resident_mb("VmRSS") - base
    times = []
    for rows, calls in ((1, 9), (128, 3)):
        feed = {"x": np.ones((1, rows, K), np.float32)}
        times.append(float(np.median([_call_ms(session, feed) for _ in range(calls)])))
    after = _resident_mb("VmRSS") - base
    print(f"{seconds:.2f} | {peak} | {opened} | {after} | {times[0]:.1f} | {times[1]:.0f}")


def _call_ms(session: object, feed: dict[str, npt.NDArray[np.float32]]) -> float:
    import onnxruntime

    assert isinstance(session, onnxruntime.InferenceSession)
    started = time.perf_counter()
    session.run(None, feed)
    return (time.perf_counter() - started) * 1e3


def _resident_mb(field: str) -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) >> 10


if __name__ == "__main__":
    main()
