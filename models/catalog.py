"""The trained models that travel with the package, for the demo, the tests and the benchmarks.

Each has an ONNX file, calibration data taken from its training part, and held-out data that neither training nor
calibration has seen. Every ``.npz`` holds exactly the model's inputs, so it can be given to the command line as it
is. Nothing here needs torch, transformers or scikit-learn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = npt.NDArray[np.generic]
Feeds = dict[str, Array]
Run = Callable[[Mapping[str, Array]], Array]
"""Maps feeds to the model's first output."""


@dataclass(frozen=True)
class TrainedModel:
    """One trained model, its data, and its figure of merit.

    Attributes:
        name: also the folder below ``qcompiler/models``.
        onnx, calibration, heldout: the files; the data files hold one array per model input, axis 0 is samples.
        labels: int64 ``[N]`` beside ``heldout``; None where the inputs are their own target (language model).
        metric: ``accuracy`` in [0, 1], higher is better; ``perplexity`` per byte, lower is better.
    """

    name: str
    onnx: Path
    calibration: Path
    heldout: Path
    labels: Path | None
    metric: Literal["accuracy", "perplexity"]

    @property
    def metadata(self) -> Path:
        """JSON with the measured float figure and what made it."""
        return self.onnx.with_name("metadata.json")

    @property
    def float_metric(self) -> float:
        """The figure of the float model, as measured when it was trained."""
        return float(json.loads(self.metadata.read_text())[self.metric])

    def calibration_feeds(self) -> Feeds:
        """One array per model input, out of the training part."""
        return _load(self.calibration)

    def heldout_feeds(self) -> Feeds:
        """One array per model input, unseen by training and calibration."""
        return _load(self.heldout)

    def evaluate(self, model: str | Path | InferenceSession) -> float:
        """The metric of ``model`` (a file for ONNX Runtime, or an open session) on the held-out data."""
        return self.score(_runner(model))

    def score(self, run: Run, *, batch: int = 32) -> float:
        """The metric of any runtime: ``run`` maps feeds of ``batch`` samples to the model's first output."""
        feeds = self.heldout_feeds()
        count = len(next(iter(feeds.values())))
        parts = [
            run({name: array[start : start + batch] for name, array in feeds.items()})
            for start in range(0, count, batch)
        ]
        logits = np.concatenate(parts)
        if self.labels is None:
            return perplexity(logits, feeds["input_ids"])
        return accuracy(logits, np.load(self.labels))


def accuracy(logits: Array, labels: Array) -> float:
    """Share of rows of ``[N, classes]`` whose largest logit is at ``labels`` ``[N]``."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def perplexity(logits: Array, tokens: Array) -> float:
    """exp of the mean negative log-likelihood in nats of each next token.

    Args:
        logits: float ``[N, T, vocabulary]``; the row at ``t`` predicts ``tokens[:, t + 1]``.
        tokens: integer ``[N, T]``.
    """
    rows = logits[:, :-1].astype(np.float64)
    rows = rows - rows.max(axis=-1, keepdims=True)
    log_total = np.log(np.exp(rows).sum(axis=-1))
    chosen = np.take_along_axis(rows, tokens[:, 1:, None].astype(np.int64), axis=-1)[..., 0]
    return float(np.exp(np.mean(log_total - chosen)))


def _load(path: Path) -> Feeds:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def _runner(model: str | Path | InferenceSession) -> Run:
    import onnxruntime as ort

    if isinstance(model, str | Path):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        model = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    session = model
    return lambda feeds: np.asarray(session.run(None, dict(feeds))[0])


def digits(folder: Path) -> TrainedModel:
    """The digit classifier whose files lie in ``folder``: ``image [N, 1, 8, 8] float32 -> logits [N, 10]``."""
    return TrainedModel(
        name="digits",
        onnx=folder / "digits.onnx",
        calibration=folder / "digits_calib.npz",
        heldout=folder / "digits_test.npz",
        labels=folder / "digits_test_labels.npy",
        metric="accuracy",
    )


def pydoc_lm(folder: Path) -> TrainedModel:
    """The byte language model whose files lie in ``folder``: ``input_ids [N, T] int64 -> logits [N, T, 256]``."""
    return TrainedModel(
        name="pydoc_lm",
        onnx=folder / "pydoc_lm.onnx",
        calibration=folder / "calib.npz",
        heldout=folder / "heldout.npz",
        labels=None,
        metric="perplexity",
    )


_FOLDER = Path(str(resources.files("qcompiler.models")))

DIGITS = digits(_FOLDER / "digits")
PYDOC_LM = pydoc_lm(_FOLDER / "pydoc_lm")
MODELS = {model.name: model for model in (DIGITS, PYDOC_LM)}
