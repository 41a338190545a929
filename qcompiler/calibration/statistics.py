"""Answers to the requests of a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.requests import (
    ChannelAbsMax,
    ChannelMean,
    ChannelMeanSquare,
    ChannelRange,
    Gram,
    Range,
    Request,
    Rows,
)

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Answer = tuple[float, float] | tuple[FloatArray, FloatArray] | FloatArray


@dataclass(frozen=True)
class Statistics:
    """What the calibration run found, by request."""

    answers: Mapping[Request, Answer] = field(default_factory=dict)

    def range(self, request: Range) -> tuple[float, float]:
        low, high = self.answers[request]
        return float(low), float(high)

    def channel_range(self, request: ChannelRange) -> tuple[FloatArray, FloatArray]:
        low, high = self.answers[request]
        return np.asarray(low), np.asarray(high)

    def array(self, request: ChannelAbsMax | ChannelMean | ChannelMeanSquare | Rows) -> FloatArray:
        return np.asarray(self.answers[request])

    def gram(self, request: Gram) -> tuple[FloatArray, FloatArray | None]:
        """X'X / rows and, where it was asked for, the drift."""
        answer = self.answers[request]
        return (np.asarray(answer[0]), np.asarray(answer[1])) if request.drift else (np.asarray(answer), None)


class AnswersOnDemand(Mapping[Request, Answer]):
    """Answers that cost nothing until the first of them is looked at: a pass that remembers its results needs none."""

    def __init__(self, find: Callable[[], Statistics]) -> None:
        self._find: Callable[[], Statistics] | None = find
        self._found: Mapping[Request, Answer] = {}

    def __getitem__(self, request: Request) -> Answer:
        return self._answers()[request]

    def __iter__(self) -> Iterator[Request]:
        return iter(self._answers())

    def __len__(self) -> int:
        return len(self._answers())

    def _answers(self) -> Mapping[Request, Answer]:
        if self._find is not None:
            find, self._find = self._find, None
            self._found = find().answers
        return self._found
