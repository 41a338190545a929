"""Choices that fail where they are tried: said and left out, so that one of them does not end a search.

A choice fails where its uniform model cannot be built, or is one that the runtime does not run.  What is left is
searched; only where nothing is left is the first failure the search's.  A full disk is no choice's fault.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Assignment, Problem
from qcompiler.auto.judge import Judge
from qcompiler.auto.variants import Variant
from qcompiler.backends.run_feed import run_feed
from qcompiler.errors import OutputError, QCompilerError

logger = logging.getLogger(__name__)

Found = TypeVar("Found")


def without_failing(bench: Builds, said: list[str], measure: Callable[[], Found]) -> Found:
    """What ``measure`` gives; where it fails, what it gives without the choices that fail.

    Args:
        bench: its problem is the one without them afterwards.
        said: what was left out and why is added.
        measure: tries every choice of the problem of ``bench``.

    Raises:
        QCompilerError: the failure is none of a choice, or all choices fail.
    """
    try:
        return measure()
    except OutputError:
        raise
    except QCompilerError as error:
        failing = _failing(bench)
        if not failing:
            raise
        leave_out(bench, failing, error, said)
    return measure()


def leave_out(
    bench: Builds, failing: Mapping[str, QCompilerError], first: QCompilerError, said: list[str]
) -> None:
    """Let no group take some choices.

    Args:
        bench: whose problem is narrowed.
        failing: names of choices, and why.
        first: raised where nothing is left.
        said: what was left out is added.
    """
    bench.problem = narrowed(bench.problem, failing)
    if not bench.problem.allowed[:, 1:].any():
        raise first
    for name, error in failing.items():
        say(said, f"{name} is left out of the search: {error}")


def say(said: list[str], words: str) -> None:
    """Tell whoever follows the search, and remember it for the report."""
    logger.warning("%s", words)
    said.append(words)


def narrowed(problem: Problem, names: Collection[str]) -> Problem:
    """The problem in which no group may take some choices, nor their forms after transforms."""
    plain = {choice.words for choice in problem.choices if choice.name in names}
    columns = [
        at
        for at, choice in enumerate(problem.choices)
        if choice.name in names or (choice.transforms and choice.quantizing in plain)
    ]
    allowed, stored = problem.allowed.copy(), problem.stored_bits.copy()
    allowed[:, columns], stored[:, columns] = False, np.nan
    return replace(problem, allowed=allowed, stored_bits=stored)


def runs(bench: Builds, assignment: Assignment, *, rounded: bool = False) -> QCompilerError | None:
    """Why the model of an assignment cannot be built, opened or run on a sample; None where it can."""
    try:
        built = bench.build(assignment, rounded=rounded)
        if not bench.target.caveat():
            session = bench.target.session(built.path, threads=bench.threads)
            for index, feed in enumerate(itertools.islice(bench.samples.held_out, 1)):
                run_feed(session, feed, index)
    except OutputError:
        raise
    except QCompilerError as error:
        return error
    return None


def surrogate_of(judge: Judge, assignment: Assignment, variant: Variant) -> tuple[float, str]:
    """What a model loses that is only compared with others, and that in words; infinitely much where it fails."""
    try:
        loss = judge.surrogate(assignment, variant)
    except OutputError:
        raise
    except QCompilerError as error:
        return math.inf, f"fails: {error}"
    return loss, f"surrogate {loss:.5f}"


def _failing(bench: Builds) -> dict[str, QCompilerError]:
    """Choices whose uniform models fail with rounded codes; none where the float model fails too."""
    if runs(bench, {}, rounded=True) is not None:
        return {}
    problem = bench.problem
    names = [
        choice.name
        for at, choice in enumerate(problem.choices)
        if choice.words and problem.allowed[:, at].any()
    ]
    found = {name: runs(bench, problem.uniform(name), rounded=True) for name in names}
    return {name: error for name, error in found.items() if error is not None}
