"""Building models of assignments: what was calibrated, solved or built once is not again."""

from __future__ import annotations

import hashlib
import itertools
import math
import shutil
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from qcompiler.auto.facts import Assignment, Problem
from qcompiler.auto.problem.form import form_for
from qcompiler.auto.recipe import recipe_text, words
from qcompiler.auto.schedule import Schedule
from qcompiler.auto.variants import Variant
from qcompiler.backends.base import Target
from qcompiler.build import Build, build, lower
from qcompiler.calibration.collect import Progress
from qcompiler.calibration.requests import Request
from qcompiler.calibration.statistics import Answer
from qcompiler.package.write import write_model
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.journal import Journal
from qcompiler.pipeline.run import Pipeline, is_sequential
from qcompiler.pipeline.selected import Selected, selections
from qcompiler.samples import Samples
from qcompiler.sequential import SEARCH
from qcompiler.sequential.work import FLOAT_FOLDER

if TYPE_CHECKING:
    from qcompiler.auto.least import Least

TELL_SECONDS = 0.5
"""Between two estimates of the time that is left."""
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
        seen: statistics of the float model.
        progress: whom to tell.
        variant: the pipeline that is built where no other is asked for.
        schedule: how long all takes.
        name: of the files; an index and weights beside a graph are as long as the names in them, so it is the output's.
        external: whether weights go to a file of their own; None decides by size.
        least: the smallest model, where a size is bounded.
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
    schedule: Schedule = field(default_factory=Schedule)
    name: str = ""
    external: bool | None = None
    least: Least | None = None
    _kept: OrderedDict[str, Build] = field(default_factory=OrderedDict)
    seen: dict[Request, Answer] = field(default_factory=dict)
    _told: float = -math.inf

    @property
    def float_path(self) -> Path:
        """The prepared float model, written when it is first asked for."""
        path = self.folder / FLOAT_FOLDER / "float.onnx"
        if not path.exists():
            unfinished = path.parent.with_name(
                f"{FLOAT_FOLDER}.tmp"
            )  # a search that is killed here finds none
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            write_model(self.reference.clone(), unfinished / path.name)
            unfinished.rename(path.parent)
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

    def tell(self, label: str, done: int = 0, total: int | None = None) -> None:
        """Say what is done to whoever follows the progress, and about how much time the whole search still takes."""
        if self.progress is None:
            return
        self.schedule.follow(label, done, total)
        self.progress(label, done, total)
        now = time.monotonic()
        if now - self._told > TELL_SECONDS:
            self._told = now
            self.progress(SEARCH, *self.schedule.in_tenths())

    def apart(self, samples: Samples, folder: Path) -> Builds:
        """Builds of the same problem in a folder of their own, with other data, that leave nothing behind."""
        return Builds(
            self.reference,
            self.problem,
            self.target,
            samples,
            self.selected,
            folder,
            Journal(),
            self.threads,
            name=self.name,
            external=self.external,
        )

    def lowered(self, assignment: Assignment, *, rounded: bool = False) -> ir.Model:
        """The model of an assignment as its target would write it, in memory alone."""
        steps = self.variant.steps(self.problem, self.reference, assignment, rounded=rounded)
        return lower(self._pipeline(steps)).deployed

    def _build(self, steps: Sequence[Selected], folder: Path) -> Build:
        folder.mkdir(parents=True, exist_ok=True)
        name = self.name or f"model{self.target.suffix}"
        return build(self._pipeline(steps), folder / name, (), external=self.external)

    def _pipeline(self, steps: Sequence[Selected]) -> Pipeline:
        return Pipeline(
            self.reference,
            [step.item for step in steps],
            form_for(self.target, steps),
            self.selected,
            self.samples.calibration,
            self.samples.batches,
            None if self.progress is None else self.tell,
            self.journal,
            own=selections(self.reference, steps),
            owners=owners_of(steps),
            seen=self.seen,
        )


def owners_of(steps: Sequence[Selected]) -> list[str]:
    """What decides the codes that a pass solves: its words, those of its kind beside it, and transforms before.

    What transforms find themselves depends on what follows them; and so does everything behind one that is for some
    nodes alone (awq prepares them for their formats): these share nothing with other pipelines.  Nor do pipelines that
    go segment by segment, where codes depend on those of every node before.
    """
    spelled = [words(step.item, step.item.name) for step in steps]
    transforms = [not step.item.quantizes for step in steps]
    whole = hashlib.sha256(recipe_text(steps, "").encode()).hexdigest()[:16]
    prepared = any(step.is_partial and transform for step, transform in zip(steps, transforms, strict=True))
    if prepared or is_sequential([step.item for step in steps]):
        return [f"{whole} {text}" for text in spelled]
    before = " ".join(itertools.compress(spelled, transforms))
    own = [f"{before} {text}".strip() for text in spelled]
    kinds = [type(step.item) for step in steps]
    of_kind = {
        kind: " ".join(text for text, each in zip(own, kinds, strict=True) if each is kind) for kind in kinds
    }
    return [
        f"{whole} {text}" if transform else text if issubclass(kind, WeightOnly) else of_kind[kind]
        for text, kind, transform in zip(own, kinds, transforms, strict=True)
    ]
