"""How fast are the generated kernels against those of ONNX Runtime?

    python -m benchmarks.tvm_kernels [--results FOLDER]

Every row is one kernel, float in and float out, interleaved with what ONNX Runtime runs for the same on as many
threads; its speed is ONNX Runtime's time / ours.  Products have weights of 2048 x 2048.  Variants for instructions
that the machine lacks (AMX among them) are not measured.

Rows "against the multipliers alone" compare with as many products on registers, without loads, quantization or results:
what vectors of this machine could do at most (1.0).  Rows "against reading the weights alone" are the same for one row,
which waits for memory.  With both, figures of different machines can be compared.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row
from benchmarks.tvm_kernel_case import measure_case
from benchmarks.tvm_kernel_layers import layer_cases
from benchmarks.tvm_kernel_products import product_cases

THREADS = (1, 2)


def measure(place: Place) -> list[Row]:
    """A row for every kernel, what it is compared with, and number of threads: each number in a fresh process."""
    del place
    rows: list[Row] = []
    for threads in THREADS:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            rows += process.submit(measure_with, threads).result()
    return rows


def measure_with(threads: int) -> list[Row]:
    """The rows of one number of threads, which TVM's runtime reads once; its idle threads sleep."""
    given = {"NUM_THREADS": str(threads), "BIND_THREADS": "0", "THREAD_POOL_SPIN_COUNT": "20000"}
    os.environ |= {f"TVM_{name}": value for name, value in given.items()}
    rows: list[Row] = []
    for make in [*product_cases(), *layer_cases()]:
        found = measure_case(make(), threads=threads)
        rows += found
        for row in found:
            print(row.model_dump_json(exclude_defaults=True), file=sys.stderr, flush=True)
    return rows


QUESTION = Question(
    name="tvm_kernels",
    title="Generated kernels",
    data="random weights, normal activations",
    measure=measure,
    needs_assets=False,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
