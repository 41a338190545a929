"""A workbench over a small model: builds assignments as a search does, without its recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qcompiler.auto.facts import FLOAT, Choice, Group, Problem
from qcompiler.backends.base import Target
from qcompiler.build import Build, build
from qcompiler.graph.weighted import weighted_nodes
from qcompiler.package.write import write_model
from qcompiler.pipeline.base import Pass
from qcompiler.pipeline.journal import Journal
from qcompiler.pipeline.parse import parse_passes, parse_target
from qcompiler.pipeline.run import Pipeline
from qcompiler.prepare import prepare
from qcompiler.request import CompileOptions
from qcompiler.samples import Samples, open_samples


@dataclass
class StandInBench:
    """What :class:`qcompiler.auto.facts.Workbench` asks for.

    Attributes:
        builds: how often a model was built.
    """

    reference: ir.Model
    samples: Samples
    folder: Path
    problem: Problem
    target: Target
    threads: int = 1
    journal: Journal = field(default_factory=Journal)
    builds: int = 0
    _built: dict[tuple[tuple[tuple[str, str], ...], bool], Build] = field(default_factory=dict)

    @property
    def float_path(self) -> Path:
        path = self.folder / "float.onnx"
        if not path.exists():
            write_model(self.reference.clone(), path)
        return path

    def build(self, assignment: Mapping[str, str], *, rounded: bool = False) -> Build:
        key = (tuple(sorted(assignment.items())), rounded)
        if key not in self._built:
            self.builds += 1
            place = self.folder / f"built_{self.builds}"
            place.mkdir()
            self._built[key] = build(self._pipeline(assignment, rounded), place / "m.onnx", (), external=None)
        return self._built[key]

    def _pipeline(self, assignment: Mapping[str, str], rounded: bool) -> Pipeline:
        words = {choice.name: choice.words for choice in self.problem.choices}
        passes: list[Pass] = []
        own: list[frozenset[str] | None] = []
        for name in dict.fromkeys(value for value in assignment.values() if value != FLOAT):
            text = words[name].partition(":solver=")[0] if rounded else words[name]
            groups = (group for group in self.problem.groups if assignment.get(group.name) == name)
            passes += parse_passes(text)
            own.append(frozenset(node for group in groups for node in group.nodes))
        names = frozenset(str(node.name) for node in self.reference.graph.all_nodes())
        return Pipeline(
            self.reference,
            passes,
            self.target,
            names,
            self.samples.calibration,
            own=own,
        )

    def tell(self, label: str, done: int = 0, total: int | None = None) -> None:
        """Nobody follows the progress."""


def bench_of(
    model: ir.Model,
    data: Mapping[str, object] | str | Path,
    choices: list[str],
    folder: Path,
    target: str = "ort-cpu",
) -> tuple[Problem, StandInBench]:
    """A problem with one group for each node with a weight, and its bench; ``model`` is prepared in place."""
    samples = open_samples(model, data, CompileOptions())
    prepare(model, opset=21)
    groups = tuple(
        Group(view.name, (view.name,), view.node.op_type, int(np.prod(view.weight_shape)))
        for view in weighted_nodes(model)
    )
    made = (
        Choice(FLOAT, ""),
        *(Choice(words, words, not words.startswith(("int8_static", "int8_dynamic"))) for words in choices),
    )
    allowed = np.ones((len(groups), len(made)), np.bool_)
    problem = Problem(groups, made, allowed, np.zeros(allowed.shape))
    folder.mkdir(exist_ok=True)
    return problem, StandInBench(model, samples, folder, problem, parse_target(target).resolved())


MLP = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 32] x) => (float[N, 8] y)
<float[32, 64] w1 = {0}, float[64, 64] w2 = {0}, float[64, 8] w3 = {0}> {
    [first] a = MatMul(x, w1)
    [act] b = Relu(a)
    [second] c = MatMul(b, w2)
    [skip] d = Add(c, b)
    [third] y = MatMul(d, w3)
}"""


def mlp(seed: int = 0) -> ir.Model:
    """Three products and a residual sum, with random weights."""
    model = ir.from_onnx_text(MLP)
    generator = np.random.default_rng(seed)
    for name, shape in (("w1", (32, 64)), ("w2", (64, 64)), ("w3", (64, 8))):
        array = (generator.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        value = model.graph.initializers[name]
        value.const_value = ir.tensor(array, name=name)
    return model


def rows(count: int = 40, width: int = 32, seed: int = 1) -> dict[str, object]:
    """Normal samples for :func:`mlp`."""
    return {"x": np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)}
