"""Which operators does a language model spend its time in, at prefill and at decode?

    python -m benchmarks.llama_profile [MODEL.onnx ...] [--tokens 128] [--past 0] [--runs 20]

Prints one table a model, on one thread: for every operator the sum over its nodes of the fastest run of each, which a
busy machine disturbs least.  Without MODEL: the models of ``llama_speed`` that are float32, int4 and int8_dynamic.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.llama_graph import write
from benchmarks.llama_speed import SHAPE
from qcompiler.driver import compile as compile_model
from qcompiler.language.signature import ATTENTION_MASK, INPUT_IDS, LOGITS, read_signature
from qcompiler.measure.sessions import timing_options
from qcompiler.request import CompileOptions

MADE = ("int4", "int8_dynamic")
SUFFIX = "_kernel_time"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--past", type=int, default=0)
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llama-profile-") as folder:
        for path in given.models or _made(Path(folder)):
            found = profile(path, given.tokens, given.past, given.runs, Path(folder))
            print(f"\n{path.parent.name}/{path.name}: {given.tokens} tokens after {given.past}")
            _print(found)


def _made(folder: Path) -> list[Path]:
    model = write(SHAPE, folder / "float32" / "model.onnx")
    unchecked = CompileOptions(verify="none")
    return [
        model,
        *(compile_model(model, passes, output=folder / passes, options=unchecked).path for passes in MADE),
    ]


def profile(path: Path, tokens: int, past: int, runs: int, folder: Path) -> dict[str, float]:
    """Milliseconds by operator; the product that makes the logits has a line of its own."""
    options = timing_options(threads=1)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = _feeds(session, path, tokens, past)
    for _ in range(runs):
        session.run([LOGITS], feeds)
    events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    fastest: dict[tuple[str, str], float] = defaultdict(lambda: float("inf"))
    for event in events:
        node = str(event["name"]).removesuffix(SUFFIX)
        if event.get("cat") == "Node" and node != event["name"] and event["args"]["op_name"] != "If":
            kind = f"{event['args']['op_name']}{' of logits' if 'lm_head' in node else ''}"
            fastest[kind, node] = min(fastest[kind, node], event["dur"] / 1e3)
    found: dict[str, float] = defaultdict(float)
    for (kind, _), ms in fastest.items():
        found[kind] += ms
    return dict(found)


def _feeds(
    session: onnxruntime.InferenceSession, path: Path, tokens: int, past: int
) -> Mapping[str, np.ndarray]:
    feeds: dict[str, np.ndarray] = {
        INPUT_IDS: np.random.default_rng(0).integers(SHAPE.vocabulary, size=(1, tokens)),
        ATTENTION_MASK: np.ones((1, past + tokens), np.int64),
    }
    for slot in read_signature(session, path).slots:
        feeds[slot.past] = np.zeros((1, slot.heads, past, slot.width), np.float32)
    return feeds


def _print(found: Mapping[str, float]) -> None:
    total = sum(found.values())
    print(f"\n| operator | ms of {total:.1f} | % |\n|---|---|---|")
    for kind, ms in sorted(found.items(), key=lambda item: -item[1]):
        if ms >= total / 1000:
            print(f"| {kind} | {ms:.2f} | {100 * ms / total:.1f} |")


if __name__ == "__main__":
    main()
