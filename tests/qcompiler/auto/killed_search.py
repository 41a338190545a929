"""A search in a process of its own that is killed at some point: arguments are model, output, target, point."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from qcompiler.auto import compiled, judge
from qcompiler.auto import search as search_module
from qcompiler.auto.facts import Bounds
from qcompiler.auto.outcome import SearchResult
from qcompiler.auto.search import SearchOptions
from qcompiler.request import CompileOptions
from tests.qcompiler.auto.workbench import rows

CHOICES = ("int8_static", *(f"int{bits}:group=32:solver=gptq:sequential=false" for bits in (4, 2)))
UNIFORM = len(CHOICES)
"""Models of one choice everywhere that the search below judges before its first candidate."""

POINTS: dict[str, tuple[object, str, int]] = {
    "measuring": (judge.Judge, "judge", 3),
    "compiling": (compiled, "file_record", 2),
    "judging": (judge.Judge, "judge", UNIFORM + 2),
    "publishing": (search_module, "publish", 1),
}
"""What is called when the process is killed, and for which time: the second candidate is compiled when its manifest is
looked at, and recorded when it is judged."""


def searched(model: Path, output: Path, target: str) -> SearchResult:
    """A search in few formats, with a bound for which several candidates are compiled; timings are short."""
    few = mock.patch("qcompiler.auto.problem.choices.candidate_words", return_value=CHOICES)
    with few, mock.patch("qcompiler.auto.latency.in_situ.ROUNDS", 5):
        return search_module.search(
            model,
            rows(80),
            bounds=Bounds(max_drop=0.15),
            metric="relative_error",
            target=target,
            output=output,
            options=SearchOptions(CompileOptions(min_cosine=0.0), rounds=4),
        )


def _killing(real: Callable[..., Any], count: int) -> Callable[..., Any]:
    """``real``, but that the process ends instead of the call of this number."""
    calls = 0

    def called(*given: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **options)

    return called


def main(model: str, output: str, target: str, point: str) -> None:
    """Search until the point."""
    holder, name, count = POINTS[point]
    with mock.patch.object(holder, name, _killing(getattr(holder, name), count)):
        searched(Path(model), Path(output), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
