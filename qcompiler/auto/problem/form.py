"""The target's form for weights in few bits: the smallest where bytes count and the user has named no target."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from qcompiler.auto.facts import Bounds
from qcompiler.auto.recipe import words
from qcompiler.backends.base import Target
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.selected import Selected

SMALLEST = ("size_first", "packed")
"""Options of targets that make files smaller and something else worse."""


def smallest_form(target: Target, bounds: Bounds) -> tuple[Target, list[str]]:
    """The target that a search is for where none is named, and what to say about it."""
    small = bounds.max_size_bytes is not None or bounds.max_bits is not None
    found = _with(target, on=True) if small or bounds.prefer in (None, "size") else target
    if found == target:
        return target, []
    return found, [f"weights in few bits take their smallest form: --target {words(found, found.name)}."]


def form_for(target: Target, steps: Sequence[Selected]) -> Target:
    """The target of one pipeline: without the options that nothing in it is subject to."""
    if any(isinstance(step.item, WeightOnly) for step in steps):
        return target
    return _with(target, on=False)


def _with(target: Target, *, on: bool) -> Target:
    names = [item.name for item in dataclasses.fields(target) if item.name in SMALLEST]  # type: ignore[arg-type]
    return dataclasses.replace(target, **dict.fromkeys(names, on)) if names else target  # type: ignore[type-var]
