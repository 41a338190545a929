"""How long does it take to find the codes of one matrix, by solver, and to round and pack one?

python -m benchmarks.low_bit_solvers

Wall time is that of a machine with nothing else to do; processor time, of all threads, is not lengthened by others.
The Gram matrix is given: ONNX Runtime makes it while it calibrates.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler.graph.low_bit_codes import code_tensor, container_of
from qcompiler.low_bit.solver import Inputs, Settings, Solver, solve_weight
from qcompiler.numerics.formats.base import Float32, Format, Search
from qcompiler.numerics.formats.catalog import format_of

SIZE = 4096
SAMPLES = 2 * SIZE
FACTORS = 64
"""Directions that inputs have in common, as activations do."""
OPSET = 21
ROUNDS = 3
"""Of those that take a second or less; the best counts."""

ROUNDED = ("int8", "int4", "int3", "nf4", "q4_k")
SEARCHED = (("int4", Solver.MSE), ("int4", Solver.HQQ), ("q4_k", Solver.K_QUANT))
SOLVED: Mapping[str, Settings] = {
    "gptq, no sweeps": Settings(Solver.GPTQ, Search.MSE, sweeps=0),
    "gptq": Settings(Solver.GPTQ, Search.MSE),
    "gptaq": Settings(Solver.GPTAQ, Search.MSE),
}


def measure(place: Place) -> list[Row]:
    """One row for each way to make codes of the same matrix."""
    del place
    weights, inputs = problem()
    rows = [_row(f"{name} rtn, packed", *_packing(weights, format_of(name))) for name in ROUNDED]
    for name, solver in SEARCHED:
        settings = Settings(
            solver, {Solver.MSE: Search.MSE, Solver.HQQ: Search.HQQ}.get(solver, Search.K_QUANT)
        )
        rows.append(_row(f"{name} {solver}", *_solving(weights, format_of(name), settings, Inputs())))
    for words, settings in SOLVED.items():
        drift = inputs.drift if settings.solver is Solver.GPTAQ else None
        given = Inputs(None, inputs.gram, drift)
        rows.append(_row(f"int4 {words}", *_solving(weights, format_of("int4"), settings, given)))
    return rows


def problem(size: int = SIZE, samples: int = SAMPLES) -> tuple[Float32, Inputs]:
    """Normal weights ``[size, size]``, and what is known of correlated inputs and of those a tenth off."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((size, size), np.float32) * np.float32(0.02)
    shared = rng.standard_normal((samples, FACTORS), np.float32)
    inputs = shared @ rng.standard_normal((FACTORS, size), np.float32) * np.float32(FACTORS**-0.5)
    inputs += rng.standard_normal((samples, size), np.float32)
    moved = inputs * rng.standard_normal((samples, 1), np.float32) * np.float32(0.1)
    share = np.float32(1 / samples)
    return weights, Inputs(None, (inputs.T @ inputs) * share, (moved.T @ inputs) * share)


def _packing(weights: Float32, fmt: Format) -> tuple[Callable[[], object], int]:
    def work() -> object:
        grid = fmt.fit(weights)
        return code_tensor(fmt.encode(weights, grid), fmt, container_of(fmt, OPSET))

    return work, weights.nbytes


def _solving(
    weights: Float32, fmt: Format, settings: Settings, inputs: Inputs
) -> tuple[Callable[[], object], int]:
    return lambda: solve_weight(weights, fmt, settings, inputs), weights.nbytes


def _row(name: str, work: Callable[[], object], size_bytes: int) -> Row:
    wall, processor = min(_timed(work))
    figures = {
        "seconds": wall,
        "processor seconds": processor,
        "MB of float32 a second": size_bytes / 1e6 / wall,
    }
    print(name, {key: round(value, 2) for key, value in figures.items()}, file=sys.stderr, flush=True)
    return Row(name=name, scores=Scores(own=figures).rounded())


def _timed(work: Callable[[], object]) -> Iterator[tuple[float, float]]:
    for _ in range(ROUNDS):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        seconds = time.perf_counter() - wall
        yield seconds, time.process_time() - processor
        if seconds > 1:
            return


QUESTION = Question(
    name="low_bit_solvers",
    title="Finding the codes of one matrix",
    data=f"{SIZE} x {SIZE} float32, groups of 32 (nf4: 64), all cores",
    measure=measure,
    needs_assets=False,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
