"""Running a large model a segment at a time, so that the weights of one segment are in memory and no others.

The cuts are found in the float model (:mod:`qcompiler.sequential.cuts`) and are names of values, which the dialect
made of it has too.  They are noted in ``ir.Graph.meta``, which clones inherit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from qcompiler.backends.base import Array, Session
from qcompiler.calibration.tapgraph import tappable_values
from qcompiler.sequential.cuts import segments
from qcompiler.sequential.reads import reads
from qcompiler.sequential.slice import slice_model
from qcompiler.verify.recorded import Recording

if TYPE_CHECKING:
    from qcompiler.backends.onnxruntime.session import OrtSession

LARGE_BYTES = 1 << 30
"""Float weights from which on a model is run in segments; below, holding all of them is faster."""

_CUTS = "qcompiler.cuts"


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all constants."""
    values = [value for graph in model.graphs() for value in graph.initializers.values()]
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)


def note_cuts(model: ir.Model, *, large_bytes: int | None = None) -> bool:
    """Let oracles of ``model``, and of what is made of clones of it, run in segments if it is large; say whether."""
    limit = LARGE_BYTES if large_bytes is None else large_bytes
    cuts = [part.exit for part in segments(model)[:-1]] if weight_bytes(model) > limit else []
    if cuts:
        model.graph.meta[_CUTS] = cuts
    return bool(cuts)


def noted_cuts(model: ir.Model) -> Sequence[Sequence[str]]:
    """For every cut the values that pass it; none for a model to be run as a whole."""
    cuts: Sequence[Sequence[str]] = model.graph.meta.get(_CUTS, ())
    return cuts


class SegmentedSession(Session):
    """A model run from cut to cut as it is written, once for each feed: all that a run makes is kept.

    A run opens and closes a session for each segment. ``recording`` is shared by the sessions of one model.
    """

    def __init__(
        self,
        model: ir.Model,
        names: Iterable[str],
        cuts: Sequence[Sequence[str]],
        *,
        threads: int,
        recording: Recording | None = None,
    ) -> None:
        """``names`` are the outputs: values of the main graph. ``model`` must not change afterwards."""
        self.output_names = list(dict.fromkeys(names))
        self.input_names = [
            str(value.name) for value in model.graph.inputs if value.name not in model.graph.initializers
        ]
        self._model, self._cuts, self._threads = model, cuts, threads
        self._recording = recording or Recording()
        self._read = self._recording.read

    def outlines(self) -> SegmentedSession:
        """The same, giving arrays of the right types and shapes that hold nothing and take no memory."""
        session = copy.copy(self)
        session._read = self._recording.outlines
        return session

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if self._recording.missing(feeds, self.output_names):
            wanted = dict.fromkeys([*self.output_names, *_depending_on_inputs(self._model)])
            self._run(feeds, self._recording.missing(feeds, wanted))
        return self._read(feeds, self.output_names)

    def _run(self, feeds: Mapping[str, Array], names: Sequence[str]) -> None:
        known, wanted = dict(feeds), set(names)
        for part in slices(self._model, names, self._cuts):
            session = self._open(part)
            made = session.run({name: known[name] for name in session.input_names})
            del session
            self._recording.keep(feeds, {name: array for name, array in made.items() if name in wanted})
            handed_on = {name for cut in self._cuts for name in cut}
            known |= {name: array for name, array in made.items() if name in handed_on}

    def _open(self, part: ir.Model) -> OrtSession:
        from qcompiler.backends.onnxruntime.session import open_model, session_options

        options = session_options(threads=self._threads, optimize=False)
        options.enable_cpu_mem_arena = False  # an arena keeps the largest segment's memory, and more
        return open_model(part, options)


def _depending_on_inputs(model: ir.Model) -> list[str]:
    """Values of the main graph that are not the same for every feed: no restored weights."""
    public = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    depending = set(public)
    names = []
    for node in model.graph:
        if not depending.isdisjoint(reads(node)):
            made = [output for output in node.outputs if output.name]
            depending.update(made)
            names += [str(output.name) for output in made]
    return names


def slices(model: ir.Model, names: Sequence[str], cuts: Sequence[Sequence[str]]) -> list[ir.Model]:
    """The models to run one after another, up to the last that makes one of ``names``."""
    values = tappable_values(model)
    present = [[name for name in cut if name in values] for cut in cuts]
    at = _parts(model, present)
    last = max(at[name] for name in names)
    found = []
    for index in range(last + 1):
        handed_on = present[index] if index < last else []
        wanted = dict.fromkeys([*handed_on, *(name for name in names if at[name] == index)])
        known = present[index - 1] if index else []
        unknown = [name for name in wanted if name not in known]
        if unknown:
            found.append(slice_model(model, known, unknown))
    return found


def _parts(model: ir.Model, cuts: Sequence[Sequence[str]]) -> dict[str, int]:
    """The segment in which every value is made: one behind the last cut that anything it is made of passes."""
    behind = {name: index + 1 for index, cut in enumerate(cuts) for name in cut}
    parts: dict[str, int] = {}
    for node in model.graph:
        part = 0
        for value in reads(node):
            name = str(value.name)
            part = max(part, behind.get(name, parts.get(name, 0)))
        for output in node.outputs:
            parts[str(output.name)] = part
    # What passes a cut is made right before it, even where it depends on nothing behind the cut before.
    return parts | {name: index for index, cut in enumerate(cuts) for name in cut}
