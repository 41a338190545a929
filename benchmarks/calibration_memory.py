"""How much memory and time does calibrating MiniLM take, for every calibrator, and does it grow with the samples?

python -m benchmarks.calibration_memory --assets ../shared/assets

Every row is a whole compile in a fresh process: imports, loading, calibration, quantization, writing; no verification.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.compare import save_samples
from benchmarks.contender import OURS, Contender, Job, run_job
from benchmarks.minilm import read_pairs
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row
from qcompiler.calibration.requests import Calibrator
from qcompiler.models import minilm

LENGTH = 128
SAMPLES = 512
FEW, MANY = 64, 1024
PEER = "quantize_static uint8 per channel"


def save_windows(path: Path, text: str, count: int) -> Path:
    """Write ``count`` samples of ``LENGTH`` tokens without padding."""
    words = text.split()
    step = max(1, len(words) // count)
    sentences = [" ".join(words[start * step : start * step + LENGTH]) for start in range(count)]
    return save_samples(path, minilm.tokenize(sentences, LENGTH))


def measure(place: Place) -> list[Row]:
    """Calibrate with every calibrator on 512 samples, with one on 64 and 1,024, and with the runtime's own."""
    pairs = read_pairs(place.asset("stsb/stsb-en-dev.csv"))
    model = place.scratch / "minilm.onnx"
    minilm.export(model)
    text = " ".join([*pairs.first, *pairs.second])
    data = {
        count: save_windows(place.scratch / f"{count}.npz", text, count) for count in (FEW, SAMPLES, MANY)
    }
    chosen = [(f"int8_static:calibrator={calibrator}", SAMPLES) for calibrator in Calibrator]
    chosen += [(f"int8_static:calibrator={Calibrator.ENTROPY}", count) for count in (FEW, MANY)]
    contenders = [(Contender(tool=OURS, passes=passes), count) for passes, count in chosen]
    contenders.append((Contender(tool=PEER), SAMPLES))
    return [_row(contender, count, model, data[count], place.scratch) for contender, count in contenders]


def _row(contender: Contender, count: int, model: Path, calibration: Path, scratch: Path) -> Row:
    job = Job(
        contender=contender,
        model=model,
        output=scratch / "quantized.onnx",
        calibration=calibration,
        verification=calibration,
        verify="none",
    )
    cost = run_job(job)
    name = f"{contender.name}, {count:,} samples"
    print(
        f"{name}: {cost.failure or f'{cost.seconds:.1f} s, {cost.peak_bytes / 1e6:.0f} MB'}", file=sys.stderr
    )
    if cost.failure:
        return Row(name=name, failure=cost.failure)
    return Row(name=name, seconds=cost.seconds, peak_bytes=cost.peak_bytes)


QUESTION = Question(
    name="calibration_memory",
    title="Calibrating all-MiniLM-L6-v2",
    data="samples of 128 tokens, fed one by one",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
