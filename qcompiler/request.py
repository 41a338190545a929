"""What the user asked for, resolved and checked before anything is read or run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from qcompiler.backends.base import Target
from qcompiler.data.options import DataOptions
from qcompiler.errors import OptionError, UnsupportedError, suggest
from qcompiler.pipeline.base import Pass
from qcompiler.pipeline.parse import Recipe, make_pass, parse_passes, parse_target, read_recipe, recipe_passes
from qcompiler.pipeline.selected import Selected, selected

VerifyLevel = Literal["none", "numerics", "speed"]
DEFAULT_TARGET = "ort-cpu"
LOWEST_COSINE = 0.9
"""Below this cosine between an output and the float model's the result is called wrong, not quantized."""


@dataclass(frozen=True)
class CompileOptions:
    """Settings that are not part of the pipeline; an impossible one raises an OptionError.

    Attributes:
        verify: ``numerics`` makes the three comparisons, ``speed`` also times the result against float and
            puts nodes back to float until it is not slower.
        verify_data: data to verify on; by default part of the calibration data is held out for it.
        strict: anything that would be a warning is an error.
        min_cosine: lowest cosine accepted between an output and the float model's.
        threads: threads of the sessions that are timed and verified.
        data: how calibration and verification data are read.
        opset: lowest opset of the result.
        external: weights in a file of their own; None: above 100 MB.
        max_ram_bytes: refuse at the start what is estimated to take more; also bounds statistics.
    """

    verify: VerifyLevel = "numerics"
    verify_data: object | None = None
    strict: bool = False
    min_cosine: float = LOWEST_COSINE
    threads: int = 1
    data: DataOptions = field(default_factory=DataOptions)
    opset: int = 21
    external: bool | None = None
    max_ram_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.verify not in get_args(VerifyLevel):
            raise OptionError(f"verify is {self.verify!r}.{suggest(str(self.verify), get_args(VerifyLevel))}")
        if not -1 <= self.min_cosine <= 1:
            raise OptionError(f"min_cosine is {self.min_cosine}, expected between -1 and 1.")
        if self.threads < 1:
            raise OptionError(f"threads is {self.threads}, expected at least 1.")
        if self.max_ram_bytes is not None and self.max_ram_bytes < 1:
            raise OptionError(f"max_ram_bytes is {self.max_ram_bytes}, expected at least 1.")


@dataclass(frozen=True)
class Request:
    """A pipeline for a target, and the nodes it applies to."""

    steps: tuple[Selected, ...]
    """Passes in order, each with the nodes that it is for where it has a selection of its own."""
    target: Target
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What was added to the user's words."""

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The passes alone."""
        return tuple(step.item for step in self.steps)

    @property
    def least_opset(self) -> int:
        """Lowest opset that the formats asked for need."""
        return max(item.least_opset(self.target) for item in self.passes)


def resolve(
    passes: str | Sequence[str | Pass | Selected] | None,
    recipe: str | Path | None,
    target: str | Target | None,
    include: str | Sequence[str],
    exclude: str | Sequence[str],
) -> Request:
    """Make passes and target; what is given beside a recipe wins over or adds to it.

    Raises:
        OptionError: neither passes nor recipe, both, or anything unknown in them.
        UnsupportedError: the target cannot be used on this machine.
    """
    if (passes is None) == (recipe is None):
        raise OptionError("give either passes or a recipe; for example --passes int8_dynamic.")
    written = read_recipe(Path(recipe)) if recipe is not None else Recipe(passes=[])
    given = recipe_passes(written) if recipe is not None else _made(passes)
    chosen = target if target is not None else written.target or DEFAULT_TARGET
    resolved = (parse_target(chosen) if isinstance(chosen, str) else chosen).resolved()
    reason = resolved.available()
    if reason is not None:
        raise UnsupportedError(f"target {resolved.name} cannot be used here: {reason}.")
    made, notes = _completed(given, resolved)
    for index, step in enumerate(made):
        step.item.check(resolved)
        step.item.check_following(_quantizing(made[index + 1 :], resolved))
    return Request(
        tuple(made),
        resolved,
        (*written.include, *globs(include)),
        (*written.exclude, *globs(exclude)),
        notes,
    )


def _made(passes: str | Sequence[str | Pass | Selected] | None) -> list[Selected]:
    given = [passes] if isinstance(passes, str) else passes or ()
    parts = (parse_passes(part) if isinstance(part, str) else [part] for part in given)
    made = [selected(item) for items in parts for item in items]
    if not made:
        raise OptionError("no pass is given; for example passes='int8_dynamic'.")
    return made


def _quantizing(steps: Sequence[Selected], target: Target) -> list[Pass]:
    """Those that quantize weights."""
    return [step.item for step in steps if step.item.weight_bits(target) is not None]


def _completed(made: list[Selected], target: Target) -> tuple[list[Selected], tuple[str, ...]]:
    """``made``, with a quantizing pass behind a transform that needs one and has none; and a note that says so."""
    alone = [
        step.item
        for index, step in enumerate(made)
        if step.item.completed_by and not _quantizing(made[index + 1 :], target)
    ]
    if not alone:
        return made, ()
    if before := _quantizing(made, target):
        raise OptionError(
            f"{alone[0].name} prepares weights for a pass that quantizes, and {before[0].name} comes before it; "
            f"write {alone[0].name},{before[0].name}."
        )
    added = make_pass(alone[0].completed_by, {})
    note = f"{added.name} was added: {alone[0].name} prepares weights for a pass that quantizes, and none followed."
    return [*made, Selected(added)], (note,)


def globs(given: str | Sequence[str]) -> tuple[str, ...]:
    """One glob is a sequence of letters too, and never meant so."""
    return (given,) if isinstance(given, str) else tuple(given)
