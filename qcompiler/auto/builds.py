"""Building models of assignments: what was calibrated, solved or built once is not again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from qcompiler.auto.facts import Assignment, Problem
from qcompiler.auto.recipe import recipe_text, words
from qcompiler.auto.variants import Variant
from qcompiler.backends.base import Target
from qcompiler.build import Build, build
from qcompiler.calibration.collect import Progress
from qcompiler.calibration.requests import Request
from qcompiler.calibration.statistics import Answer
from qcompiler.package.write import write_model
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.journal import Journal
from qcompiler.pipeline.run import Pipeline
from qcompiler.pipeline.selected import Selected, selections
from qcompiler.samples import Samples
from qcompiler.sequential import SEARCH
from qcompiler.sequential.work import FLOAT_FOLDER

KEPT_BUILDS = 3
"""Builds whose graphs stay in memory; the files of all stay."""


@dataclass
class Builds:
    """The builds of one search.

    Attributes:
        reference: the prepared float model; never changed.
        problem: what is decided.
        target: what it will run on.
        samples: data.
        selected: nodes that may be quantized.
        folder: for models and what is remembered.
        journal: what was solved and measured.
        threads: of sessions that are measured.
        progress: whom to tell.
        variant: the pipeline that is built where no other is asked for.
        total: steps of the whole search, as far as can be told.
        done: those that are done.
    """

    reference: ir.Model
    problem: Problem
    target: Target
    samples: Samples
    selected: frozenset[str]
    folder: Path
    journal: Journal
    threads: int = 1
    progress: Progress | None = None
    variant: Variant = field(default_factory=Variant)
    total: int = 1
    done: int = 0
    _kept: OrderedDict[str, Build] = field(default_factory=OrderedDict)
    _seen: dict[Request, Answer] = field(default_factory=dict)

    @property
    def float_path(self) -> Path:
        """The prepared float model, written when it is first asked for."""
        path = self.folder / FLOAT_FOLDER / "float.onnx"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_model(self.reference.clone(), path)
        return path

    def build(self, assignment: Assignment, *, rounded: bool = False) -> Build:
        """The deployed model of an assignment, at a path of its own."""
        return self.build_variant(assignment, self.variant, rounded=rounded)

    def build_variant(self, assignment: Assignment, variant: Variant, *, rounded: bool = False) -> Build:
        """The same of one way of making a pipeline of it."""
        steps = variant.steps(self.problem, self.reference, assignment, rounded=rounded)
        text = recipe_text(steps, words(self.target, self.target.name), "")
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        if key not in self._kept:
            self._kept[key] = self._build(steps, self.folder / "builds" / key)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT_BUILDS:
            self._kept.popitem(last=False)
        return self._kept[key]

    def advance(self, steps: int = 1) -> None:
        """Say that so many steps of the whole search are done: a build with what is measured of it is one."""
        self.done += steps
        self.total = max(self.total, self.done + 1)
        self.tell(SEARCH, self.done, self.total)

    def tell(self, label: str, done: int = 0, total: int | None = None) -> None:
        """Say what is done to whoever follows the progress."""
        if self.progress is not None:
            self.progress(label, done, total)

    def _build(self, steps: Sequence[Selected], folder: Path) -> Build:
        pipeline = Pipeline(
            self.reference,
            [step.item for step in steps],
            self.target,
            self.selected,
            self.samples.calibration,
            self.samples.batches,
            self.progress,
            self.journal,
            own=selections(self.reference, steps),
            owners=_owners(steps),
            seen=self._seen,
        )
        folder.mkdir(parents=True, exist_ok=True)
        return build(pipeline, folder / f"model{self.target.suffix}", (), external=None)


def _owners(steps: Sequence[Selected]) -> list[str]:
    """What decides the codes that a pass solves: its words, those of its kind beside it, and transforms before."""
    before = " ".join(words(step.item, step.item.name) for step in steps if not step.item.quantizes)
    spelled = [f"{before} {words(step.item, step.item.name)}".strip() for step in steps]
    kinds = [type(step.item) for step in steps]
    static = [
        " ".join(text for text, kind in zip(spelled, kinds, strict=True) if kind is own) for own in kinds
    ]
    return [
        text if issubclass(kind, WeightOnly) else both
        for text, kind, both in zip(spelled, kinds, static, strict=True)
    ]
