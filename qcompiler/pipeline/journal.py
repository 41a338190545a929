"""Remembering what a pass has solved, so that nothing is solved twice.

A pass hands every expensive result over as named arrays.  Within one compile that makes a rebuild with fewer nodes
cheap; with a folder behind it, a run that was killed goes on where it stopped and gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass
class Journal:
    """Results by key, in memory."""

    _known: dict[str, Arrays] = field(default_factory=dict)

    def recall(self, key: str, solve: Callable[[], Arrays]) -> Arrays:
        """What was solved under ``key`` before, else what ``solve`` returns.

        Statistics may be missing where the answer is known: touch them inside ``solve`` only.
        """
        if key not in self._known:
            self._known[key] = solve()
        return self._known[key]
