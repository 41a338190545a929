"""``python -m benchmarks --assets FOLDER``: answer every question whose assets are there, then write the table."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results_file import RESULTS

SCRIPTS = (
    "minilm",
    "mobilenet",
    "resnet20",
    "magika",
    "silero_vad",
    "ultraface",
    "narrow_weights",
    "calibration_memory",
    "low_bit stories260k",
    "low_bit tinylm",
    "auto mobilenet",
    "auto stories260k",
    "auto minilm",
    "auto_predictions",
    "auto_estimates stories260k",
    "auto_estimates tinylm",
    "tvm_convolutions",
    "rotations",
)
"""Scripts that need assets, with the words that each is given."""

OF_OUR_OWN = (
    "repository_models",
    "low_bit pydoc_lm",
    "auto pydoc_lm",
    "auto_estimates pydoc_lm",
    "low_bit_solvers",
    "llama_speed",
    "tvm_kernels",
    "codebooks",
    "tvm_models",
    "tvm_codebooks",
)
"""Scripts that need none."""

SCRATCH = "llama_shape memory"
"""Needs no assets but a folder for models of 6 GB."""


def run(script: str, options: Sequence[str]) -> int:
    """Answer one question in a process of its own; return its exit code."""
    print(f"== {script}", file=sys.stderr, flush=True)
    module, *words = script.split()
    command = [sys.executable, "-m", f"benchmarks.{module}", *words, *options]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Return the worst exit code: 2 where an asset is absent."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--assets", type=Path, required=True, help="folder of models and data")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the JSON files and the table"
    )
    given = parser.parse_args()
    results = ["--results", str(given.results)]
    codes = [run(script, results) for script in OF_OUR_OWN]
    codes += [run(script, ["--assets", str(given.assets), *results]) for script in SCRIPTS]
    with tempfile.TemporaryDirectory(prefix="benchmark-llama-shape-") as scratch:
        codes.append(run(SCRATCH, [scratch, *results]))
    codes.append(run("table", results))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
