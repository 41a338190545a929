"""What flows into a segment: computed with the model as it stands, kept in one file, replaced by the next."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from qcompiler.calibration.collect import Feed, Progress, collect
from qcompiler.calibration.requests import Gram, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.calibration.tapgraph import tappable_values
from qcompiler.sequential.boundary import Boundary, FeedsBehind, read_boundary, write_boundary
from qcompiler.sequential.cuts import Segment
from qcompiler.sequential.reads import same_state, state_of
from qcompiler.sequential.slice import FLOAT_TWIN, beside, slice_model


@dataclass(frozen=True)
class Calibration:
    """The user's data: feeds, how many where known, and whom to tell of each."""

    feeds: Iterable[Feed] | None
    batches: int | None = None
    progress: Progress | None = None

    def labelled(self, label: str) -> Calibration:
        """The same, with every step told under one label."""
        tell = self.progress
        if tell is None:
            return self
        return Calibration(self.feeds, self.batches, lambda _, done, total: tell(label, done, total))


class Activations:
    """Runs the parts of one model, and of its float twin where there is one, from boundary to boundary.

    Nothing is run before an answer is needed.  Boundaries are always computed one after another, from the one before,
    whether a run goes through or is resumed: other cuts would let the runtime fuse, and so round, differently.
    """

    def __init__(
        self,
        model: ir.Model,
        twin: ir.Model | None,
        parts: Sequence[Segment],
        data: Calibration,
        folder: Path,
    ) -> None:
        """``folder`` keeps the files; those of an earlier run with the same model and data are used again."""
        self._model, self._twin, self._parts, self._data = model, twin, parts, data
        self._folder = folder
        self._held: tuple[int, Boundary] | None = None
        self._generation = 0

    def sliced(self, index: int, wanted: Sequence[str], twin_wanted: Sequence[str] = ()) -> ir.Model:
        """What computes ``wanted`` from the entry of segment ``index``; the same of the twin beside it."""
        known = self._parts[index].entry
        current = slice_model(self._model, known, wanted)
        if self._twin is None or not twin_wanted:
            return current
        present = tappable_values(self._twin)
        twin_wanted = [name for name in twin_wanted if name in present]
        return beside(current, slice_model(self._twin, known, twin_wanted), known) if twin_wanted else current

    def statistics(self, index: int, sliced: ir.Model, requests: Sequence[Request]) -> Statistics:
        """Answer ``requests`` on a slice that begins at the entry of segment ``index``."""
        data = self._labelled(index)
        made = {str(output.name) for node in sliced.graph for output in node.outputs}
        made |= {str(value.name) for value in sliced.graph.inputs}
        drifting = [item.value for item in requests if isinstance(item, Gram) and item.drift]
        twins = {name: f"{FLOAT_TWIN}{name}" for name in drifting if f"{FLOAT_TWIN}{name}" in made}
        fed = {str(value.name) for value in sliced.graph.inputs} - set(self._parts[index].entry)
        twins |= {name: name for name in drifting if name in fed}  # the model's inputs are the same in both
        feeds = self._feeds(index)
        return collect(sliced, requests, feeds, batches=data.batches, progress=data.progress, twins=twins)

    def state(self, index: int) -> list[list[object]]:
        """All that decides what flows into segment ``index``, to be given to :meth:`keep_if`."""
        models = [self._model, *([self._twin] if self._twin is not None else [])]
        states = []
        for model in models:
            values = tappable_values(model)
            states.append(state_of(values[name] for name in self._parts[index].entry if name in values))
        return states

    def keep_if(self, index: int, state: list[list[object]]) -> None:
        """Forget what is kept where a pass changed something before segment ``index`` since ``state``."""
        if not all(map(same_state, state, self.state(index))):
            self._generation += 1
            self._replace(None)

    def close(self) -> None:
        """Remove the file."""
        self._replace(None)

    def _feeds(self, index: int) -> FeedsBehind:
        if self._data.feeds is None:
            raise AssertionError("data was checked before the first pass ran")
        return FeedsBehind(self._data.feeds, self._entry(index))

    def _entry(self, index: int) -> Boundary | None:
        """The boundary in front of segment ``index``, computed from the last one there is."""
        start, boundary = self._held or self._found(index)
        for part in range(start, index):
            names = tappable_values(self._model)
            handed_on = [name for name in self._parts[part].exit if name in names]
            sliced = self.sliced(part, handed_on, handed_on)
            feeds = FeedsBehind(self._data.feeds or (), boundary)
            boundary = write_boundary(self._path(part + 1), self._outputs(sliced, feeds, part))
            self._replace((part + 1, boundary))
        return boundary

    def _found(self, index: int) -> tuple[int, Boundary | None]:
        """The last boundary that an earlier run left."""
        for part in range(index, 0, -1):
            boundary = read_boundary(self._path(part))
            if boundary is not None:
                self._held = part, boundary
                return self._held
        return 0, None

    def _outputs(self, sliced: ir.Model, feeds: FeedsBehind, part: int) -> Iterator[Feed]:
        from qcompiler.backends.onnxruntime.session import open_model, session_options
        from qcompiler.backends.run_feed import run_feed

        data = self._labelled(part)
        session = open_model(sliced, session_options(threads=os.cpu_count() or 1, keep_int8=True))
        for index, feed in enumerate(feeds):
            yield run_feed(session, feed, index)
            if data.progress is not None:
                data.progress("", index + 1, data.batches)

    def _replace(self, new: tuple[int, Boundary] | None) -> None:
        if self._held is not None:
            self._held[1].remove()
        self._held = new

    def _path(self, part: int) -> Path:
        return self._folder / f"boundary_{part:04d}_{self._generation}"

    def _labelled(self, part: int) -> Calibration:
        return self._data.labelled(f"segment {part + 1} of {len(self._parts)}")
