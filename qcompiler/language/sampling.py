"""Choosing the next token: greedy, or drawn after temperature, top-k and top-p (arXiv:1904.09751)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import OptionError


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen from logits; the filters apply in the order of the fields.

    Attributes:
        temperature: logits are divided by it; 0 takes the most probable token.
        top_k: only the k most probable tokens are left; None leaves all.
        top_p: then only the fewest tokens whose probabilities sum to at least p; None leaves all.

    Raises:
        OptionError: a value outside its range, or a filter where nothing is drawn.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise OptionError(f"--temperature {self.temperature} must be 0 or more; 0 is greedy.")
        if self.top_k is not None and self.top_k < 1:
            raise OptionError(f"--top-k {self.top_k} must be 1 or more; leave it out to keep every token.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise OptionError(f"--top-p {self.top_p} must be above 0 and at most 1.")
        if self.greedy and (self.top_k is not None or self.top_p is not None):
            raise OptionError(
                "--top-k and --top-p have no effect on greedy decoding; add --temperature, such as 0.8."
            )

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature == 0

    def choose(self, logits: npt.NDArray[np.generic], generator: np.random.Generator) -> int:
        """Return a token id from ``logits`` ``[vocabulary]``."""
        if self.greedy:
            return int(np.argmax(logits))
        weights = probabilities(logits, self)
        return int(generator.choice(weights.size, p=weights))


def probabilities(logits: npt.NDArray[np.generic], sampling: Sampling) -> npt.NDArray[np.float64]:
    """The distribution ``[vocabulary]`` that a token is drawn from; sums to 1.

    Ties at the edge of a filter go to the smaller id, so that exactly the number asked for is left.
    """
    given = logits.astype(np.float64)
    order = np.argsort(-given, kind="stable")  # of what is given: scaling rounds small differences away
    weights: npt.NDArray[np.float64] = np.exp((given - given.max()) / sampling.temperature)
    if sampling.top_k is not None:
        weights[order[sampling.top_k :]] = 0
    weights /= weights.sum()
    if sampling.top_p is not None:
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[before >= sampling.top_p]] = 0
        weights /= weights.sum()
    return weights
