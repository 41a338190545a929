"""``python -m benchmarks --assets FOLDER``: answer every question whose assets are there, then write the table."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.results_file import RESULTS

SCRIPTS = ("minilm", "mobilenet", "resnet20", "magika", "silero_vad", "ultraface", "calibration_memory")
"""Scripts that need assets; ``repository_models`` needs none."""


def run(script: str, options: list[str]) -> int:
    """Answer one question in a process of its own; return its exit code."""
    print(f"== {script}", file=sys.stderr, flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.{script}", *options], check=False).returncode


def main() -> int:
    """Return the worst exit code: 2 where an asset is absent."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--assets", type=Path, required=True, help="folder of models and data")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the JSON files and the table"
    )
    given = parser.parse_args()
    results = ["--results", str(given.results)]
    codes = [run("repository_models", results)]
    codes += [run(script, ["--assets", str(given.assets), *results]) for script in SCRIPTS]
    codes.append(run("table", results))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
