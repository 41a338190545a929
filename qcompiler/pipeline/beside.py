"""Statistics of passes that quantize disjoint nodes side by side: of the model before the first of them.

What one of them observes then does not depend on which nodes the others serve, nor on their order; and one run over
the data answers them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.calibration.requests import Request
from qcompiler.calibration.statistics import Statistics


@dataclass
class Beside:
    """The model before a run of such passes.

    Attributes:
        first: index of the first of them.
        model: a copy.
        requests: of all of them.
    """

    first: int
    model: ir.Model
    requests: frozenset[Request]
    _found: Statistics | None = field(default=None, repr=False)

    def knows(self, requests: Sequence[Request]) -> bool:
        """Whether all these are answered together."""
        return self.requests.issuperset(requests)

    def answers(self, measure: Callable[[int, Sequence[Request], ir.Model], Statistics]) -> Statistics:
        """All answers; ``measure`` is called once, with the index of the first pass, the requests and the model."""
        if self._found is None:
            self._found = measure(self.first, sorted(self.requests, key=repr), self.model)
        return self._found
