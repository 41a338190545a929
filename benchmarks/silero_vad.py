"""How close is int8 silero_vad (LSTM, weights inside nested If) to float on a minute of speech?

python -m benchmarks.silero_vad --assets ../shared/assets
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.compare import Task, compare, ours, peers
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler.measure.sessions import Feed, timing_session
from qcompiler.verify.metrics import Difference

Floats = npt.NDArray[np.float32]

RATE = 16_000
CHUNK = 512
CONTEXT = 64
STATE = (2, 1, 128)
SPEECH = 0.5
VERIFIED = 8
FOLDER = "silero_vad"


def read_chunks(path: Path) -> Floats:
    """float32 ``[chunks, 64 + 512]`` in [-1, 1): every chunk behind the last samples of the one before."""
    with wave.open(str(path)) as sound:
        pcm = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
    count = len(pcm) // CHUNK
    padded = np.concatenate([np.zeros(CONTEXT, np.int16), pcm[: count * CHUNK]]).astype(np.float32) / 32768
    return np.stack([padded[start : start + CONTEXT + CHUNK] for start in range(0, count * CHUNK, CHUNK)])


def feed_of(chunk: Floats, state: Floats) -> Feed:
    """One call: ``input [1, 576]``, ``state [2, 1, 128]``, ``sr`` 0-D."""
    return {"input": chunk[None], "state": state, "sr": np.array(RATE, np.int64)}


def speech(model: Path, chunks: Floats) -> tuple[Floats, list[Floats]]:
    """Probability of speech ``[chunks]``, and the state before each chunk."""
    session = timing_session(model)
    state, states, found = np.zeros(STATE, np.float32), [], []
    for chunk in chunks:
        states.append(state)
        output, state = session.run(None, dict(feed_of(chunk, state)))
        found.append(output[0, 0])
    return np.array(found, np.float32), states


def measure(place: Place) -> list[Row]:
    """Run the minute chunk by chunk, the state carried on, as an application does."""
    model = place.asset(f"{FOLDER}/silero_vad.onnx")
    chunks = read_chunks(place.asset(f"{FOLDER}/test.wav"))
    reference, states = speech(model, chunks)
    verification = place.scratch / "verification"
    verification.mkdir()
    for index in np.linspace(0, len(chunks) - 1, VERIFIED).astype(int):
        np.savez(
            verification / f"{index:05}.npz",
            allow_pickle=False,
            **dict(feed_of(chunks[index], states[index])),
        )

    def score(path: Path) -> Scores:
        found, _ = speech(path, chunks)
        difference = Difference()
        difference.update(reference, found)
        return Scores(
            own={"speech %": 100 * float(np.mean(found > SPEECH))},
            against_float={
                "agreement %": 100 * float(np.mean((found > SPEECH) == (reference > SPEECH))),
                "largest difference": difference.max_abs_error,
                "SQNR dB": difference.sqnr_db,
            },
        )

    middle = len(chunks) // 2
    task = Task(
        model=model,
        score=score,
        timings={"1 chunk": feed_of(chunks[middle], states[middle])},
        verification=verification,
    )
    return compare(task, [*ours("int8_dynamic"), *peers("quantize_dynamic")], place.scratch)


QUESTION = Question(
    name="silero_vad",
    title="silero_vad, 16 kHz",
    data="scored on 1,875 chunks of 512 samples, the state carried on",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
