"""How close to float, how fast and how small is int8 all-MiniLM-L6-v2, against ONNX Runtime's quantizers?

python -m benchmarks.minilm --assets ../shared/assets

STS-B's Spearman hardly reacts to damage; the mean cosine between a sentence's embedding and its float embedding does.
"""

from __future__ import annotations

import csv
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.compare import Task, compare, ours, peers, save_samples
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler.data.optional import load_package
from qcompiler.measure.sessions import timing_session
from qcompiler.models import minilm

Floats = npt.NDArray[np.float32]
Tokens = dict[str, npt.NDArray[np.int64]]

EVERY = 10
LENGTH = 128
CALIBRATION_LENGTH = 64
VERIFIED = 16
BATCH = 8
PIPELINES = (
    "smoothquant,int8_dynamic",
    "smoothquant,outlier_channels,int8_dynamic",
    "smoothquant,outlier_channels,int8_static",
    "smoothquant,int8_dynamic:granularity=token",
    "int8_dynamic",
)
TIMED_SHAPES = ((1, 128), (8, 64))


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs and their similarity, 0 to 5, as people judged it."""

    first: list[str]
    second: list[str]
    similarity: Floats

    def select(self, rows: slice | list[int]) -> Pairs:
        """Some of the pairs."""
        chosen = range(len(self.first))[rows] if isinstance(rows, slice) else rows
        return Pairs(
            [self.first[row] for row in chosen],
            [self.second[row] for row in chosen],
            self.similarity[list(chosen)],
        )


def read_pairs(path: Path) -> Pairs:
    """Read the lines ``first,second,similarity``."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    return Pairs(
        [row[0] for row in rows], [row[1] for row in rows], np.array([row[2] for row in rows], np.float32)
    )


def batches(sentences: list[str]) -> list[tuple[npt.NDArray[np.intp], Tokens]]:
    """Rows and tokens of batches of about equal length, each padded to its longest sentence."""
    tokens = minilm.tokenize(sentences, LENGTH)
    lengths = tokens["attention_mask"].sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    groups = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    return [
        (rows, {name: array[rows, : lengths[rows].max()] for name, array in tokens.items()})
        for rows in groups
    ]


def embeddings(model: Path, prepared: list[tuple[npt.NDArray[np.intp], Tokens]]) -> Floats:
    """Unit-length embeddings float32 ``[N, 384]``."""
    session = timing_session(model, threads=2)
    found = np.zeros((sum(len(rows) for rows, _ in prepared), 384), np.float32)
    for rows, feeds in prepared:
        found[rows] = minilm.embed(
            lambda given: np.asarray(session.run(["last_hidden_state"], dict(given))[0]), feeds
        )
    return found


class EncoderScore:
    """Scores encoders on sentence pairs; the float embeddings are computed once."""

    def __init__(self, float_model: Path, pairs: Pairs) -> None:
        load_package("scipy.stats", purpose="to rank similarities")
        self._similarity = pairs.similarity
        self._batches = batches([*pairs.first, *pairs.second])
        self._reference = embeddings(float_model, self._batches)

    def __call__(self, model: Path) -> Scores:
        from scipy.stats import spearmanr

        found = embeddings(model, self._batches)
        cosines = np.sum(found * self._reference, axis=1, dtype=np.float64)
        half = len(found) // 2
        predicted = np.sum(found[:half] * found[half:], axis=1)
        return Scores(
            own={"Spearman": float(spearmanr(predicted, self._similarity).statistic)},
            against_float={"cosine": float(cosines.mean()), "worst cosine": float(cosines.min())},
        )


def measure(place: Place) -> list[Row]:
    """Calibrate on every tenth pair, score on the others."""
    pairs = read_pairs(place.asset("stsb/stsb-en-dev.csv"))
    model = place.scratch / "minilm.onnx"
    minilm.export(model)
    known = pairs.select(slice(None, None, EVERY))
    others = pairs.select([row for row in range(len(pairs.first)) if row % EVERY])
    sentences = [*known.first, *known.second]
    calibration = minilm.tokenize(sentences, CALIBRATION_LENGTH)
    verification = minilm.tokenize(others.first[:VERIFIED], CALIBRATION_LENGTH)
    text = " ".join(itertools.islice(others.first, 100))
    task = Task(
        model=model,
        score=EncoderScore(model, others),
        timings={
            f"{batch} x {length}": minilm.tokenize([text] * batch, length) for batch, length in TIMED_SHAPES
        },
        calibration=save_samples(place.scratch / "calibration.npz", calibration),
        verification=save_samples(place.scratch / "verification.npz", verification),
    )
    contenders = [
        *ours(*PIPELINES, batch=BATCH),
        *peers(
            "quantize_dynamic per channel", "quantize_static uint8 per channel", "quantize_static default"
        ),
    ]
    return compare(task, contenders, place.scratch)


QUESTION = Question(
    name="minilm",
    title="all-MiniLM-L6-v2",
    data="calibrated on 300 sentences of STS-B dev, scored on its 1,350 other pairs",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
