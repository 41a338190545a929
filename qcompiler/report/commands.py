"""A compile as it was typed, and the same with something changed: what hints are made of."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qcompiler.data.words import plain_words
from qcompiler.package.manifest import Manifest
from qcompiler.pipeline.registry import pass_class
from qcompiler.report.facts import Hint
from qcompiler.report.html.provenance import command_of
from qcompiler.report.spelling import settings

RANDOM = "random"
"""Data that every model has: stands where none is known, so that a command can be pasted as it is."""

_SEARCH = (
    *("--passes", "--recipe", "--target", "--include", "--exclude", "--report"),
    *("--max-drop", "--max-size", "--max-latency", "--bits", "--prefer", "--metric", "--metric-data"),
)
"""Options with a value that a recipe replaces, or that are for a search alone."""

_SEARCH_FLAGS = ("--pareto", "--no-pareto", "--size-first", "--estimate", "--no-estimate")


@dataclass(frozen=True)
class Step:
    """One pass.

    Attributes:
        name: of the pass.
        options: that are not the default, ``key=value`` each.
    """

    name: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ":".join((self.name, *self.options))

    def having(self, key: str, value: str) -> Step:
        """The same with one option set."""
        others = tuple(item for item in self.options if not item.startswith(f"{key}="))
        return Step(self.name, (*others, f"{key}={value}"))

    def without(self, key: str) -> Step:
        """The same with one option as it is by default."""
        return Step(self.name, tuple(item for item in self.options if not item.startswith(f"{key}=")))


@dataclass(frozen=True)
class Command:
    """A compile.

    Attributes:
        words: behind ``qcompile``: the model, and options as typed.
        steps: its passes.
        partial: whether passes are for nodes of their own, which ``--passes`` cannot say.
    """

    words: tuple[str, ...] = ("MODEL",)
    steps: tuple[Step, ...] = ()
    partial: bool = False

    def __str__(self) -> str:
        return shlex.join(("qcompile", *self.words))

    @classmethod
    def of(cls, manifest: Manifest, model: str, typed: Sequence[str] = ()) -> Command:
        """The command of a result: as typed, or as its manifest says it."""
        words = tuple(typed) or tuple(shlex.split(command_of(manifest, model, None))[1:])
        steps = tuple(Step(item.name, settings(item, pass_class)) for item in manifest.pipeline)
        return cls(words, steps, any(item.include or item.exclude for item in manifest.pipeline))

    @property
    def model(self) -> str:
        """The float model."""
        words = self.words[1:] if self.words[:1] == ("compile",) else self.words
        return words[0] if words else "MODEL"

    @property
    def data(self) -> str:
        """What it was calibrated or verified with."""
        return value_of(self.words, "--calib") or value_of(self.words, "--verify-data") or RANDOM

    @property
    def invents(self) -> bool:
        """Whether it calibrates on random numbers, which the user has to replace."""
        return value_of(self.words, "--calib") == RANDOM

    @property
    def names(self) -> frozenset[str]:
        """Of its passes."""
        return frozenset(step.name for step in self.steps)

    def through(self, steps: Sequence[Step], *, calibrated: bool = False) -> Command:
        """The same with other passes.

        Args:
            steps: the passes.
            calibrated: whether they need data.
        """
        words = _with(_without(self.words, ("--recipe",)), "--passes", ",".join(map(str, steps)))
        if calibrated and value_of(words, "--calib") is None:
            words = _with(words, "--calib", RANDOM)
        return replace(self, words=words, steps=tuple(steps))

    def behind(self, *names: str, calibrated: bool = False) -> Command:
        """The same with more passes behind."""
        return self.through((*self.steps, *map(Step, names)), calibrated=calibrated)

    def leaving(self, node: str) -> Command:
        """The same with one more node left in float."""
        return replace(self, words=(*self.words, "--exclude", node))

    def having_value(self, option: str, value: str) -> Command:
        """The same with an option set."""
        return replace(self, words=_with(self.words, option, value))

    def having(self, flag: str) -> Command:
        """The same with one more flag."""
        return replace(self, words=(*self.words, flag))

    def diagnosis(self, result: str) -> str:
        """The command that says which nodes cost most."""
        return shlex.join(
            ("qcompile", "diagnose", self.model, result, "--data", self.data, *plain_words(self.words))
        )

    def by_recipe(self, recipe: str) -> Command:
        """What gives the result of a search again, without searching."""
        words = _without(self.words, _SEARCH)
        kept = tuple(word for word in words if word not in _SEARCH_FLAGS)
        return Command((*kept, "--recipe", recipe), partial=True)


def hint(text: str, command: Command) -> Hint:
    """A sentence and a command; says so where samples of the user's must still be put in."""
    yours = " (with samples of yours in the place of random)" if command.invents else ""
    return Hint(f"{text}{yours}", str(command))


def value_of(words: Sequence[str], option: str) -> str | None:
    """The value of an option, ``--name value`` or ``--name=value``; None where it is not among ``words``."""
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _without(words: Sequence[str], options: Sequence[str]) -> tuple[str, ...]:
    """The words without options and their values."""
    kept: list[str] = []
    behind = False
    for word in words:
        if not behind and word not in options and word.partition("=")[0] not in options:
            kept.append(word)
        behind = not behind and word in options
    return tuple(kept)


def _with(words: Sequence[str], option: str, value: str) -> tuple[str, ...]:
    return (*_without(words, (option,)), option, value)
