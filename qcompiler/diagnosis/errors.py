"""The error of every part alone, fed with the float model's values, and the error that has gathered up to there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.data.feeds import Feed
from qcompiler.diagnosis.activation_faults import MASK
from qcompiler.diagnosis.cut import CutModel
from qcompiler.diagnosis.match import Matches
from qcompiler.diagnosis.quantizers import Quantizer
from qcompiler.diagnosis.segments import Segment, segments
from qcompiler.diagnosis.stored import Lifted
from qcompiler.verify.metrics import Difference

Array = npt.NDArray[Any]

MOST_BYTES = 512 << 20
"""What the float model's values may take in memory; fewer feeds are used where they would take more."""


@dataclass(frozen=True)
class Scene:
    """Two models side by side, and the float model's values on some feeds.

    Attributes:
        reference: the float model.
        lifted: the quantized one, lifted.
        quantizers: of the lifted model.
        matches: values that both have.
        parts: what can be run alone.
        feeds: the data.
        floats: the float model's value of every match, for every feed.
        threads: within an operator.
    """

    reference: ir.Model
    lifted: Lifted
    quantizers: tuple[Quantizer, ...]
    matches: Matches
    parts: tuple[Segment, ...]
    feeds: tuple[Feed, ...]
    floats: tuple[Mapping[str, Array], ...]
    threads: int = 1

    @property
    def fed(self) -> dict[str, str]:
        """Name in the lifted model of every matched value -> its name in the float model."""
        return {lifted: name for name, lifted in self.matches.pairs.items() if name in self.floats[0]}

    def given(self, index: int, names: Iterable[str] | None = None) -> dict[str, Array]:
        """The float model's values under the names of the lifted model."""
        fed = self.fed
        return {name: self.floats[index][fed[name]] for name in (fed if names is None else names)}

    def bypass(self) -> dict[str, str]:
        """What is read instead of every dequantized activation to leave it in float."""
        return {str(value.name): str(item.before.name) for item in self.quantizers for value in item.behind}

    def bounds(self) -> dict[str, tuple[float, float]]:
        """By lifted name, the range outside of which a value is cut by its quantizer, wherever float lies inside it.

        A quantizer stands for Relu and Clip, which then are not in the file any more.
        """
        found = {}
        for item in self.quantizers:
            name = self.fed.get(str(item.before.name))
            if item.written is not None and name is not None:
                low = min(float(values[name].min(initial=0)) for values in self.floats)
                high = max(float(values[name].max(initial=0)) for values in self.floats)
                found[str(item.before.name)] = min(low, item.written.low), max(high, item.written.high)
        return found


@dataclass(frozen=True)
class Errors:
    """By the lifted name of a value.

    Attributes:
        alone: of a segment whose inputs are float but quantized on the way in.
        weights: of a segment whose activations stay float.
        gathered: of the quantized model as it is.
        activations: of a quantizer on float values, by the name of what it quantizes.
        before: what a quantizer without a match was given, for every feed.
    """

    alone: Mapping[str, Difference]
    weights: Mapping[str, Difference]
    gathered: Mapping[str, Difference]
    activations: Mapping[str, Difference]
    before: Mapping[str, Sequence[Array]] = field(default_factory=dict)


def scene(
    reference: ir.Model,
    lifted: Lifted,
    found: Sequence[Quantizer],
    matches: Matches,
    feeds: Sequence[Feed],
    threads: int,
) -> Scene:
    """Run the float model, and leave out what is no float or was transformed.

    Raises:
        CalibrationError: a feed does not fit.
    """
    makers = {str(value.name) for node in reference.graph for value in node.outputs}
    inputs = {str(value.name) for value in reference.graph.inputs}
    session = CutModel(reference, [name for name in matches.pairs if name in makers], threads=threads)
    floats: list[dict[str, Array]] = []
    taken = 0
    for index, feed in enumerate(feeds):
        values = {
            **{name: feed[name] for name in matches.pairs if name in inputs and name in feed},
            **session.run(feed, index=index),
        }
        values = {name: array for name, array in values.items() if array.dtype.kind == "f"}
        taken += sum(array.nbytes for array in values.values())
        if floats and taken > MOST_BYTES:
            break
        floats.append(values)
    kept = matches.without([name for name in matches.pairs if name not in floats[0]])
    used = tuple(feeds[: len(floats)])
    bare = Scene(reference, lifted, tuple(found), kept, (), used, tuple(floats), threads)
    return with_matches(bare, kept)


def with_matches(here: Scene, matches: Matches) -> Scene:
    """The scene with other matches, and so other parts."""
    parts = segments(here.reference, here.lifted, matches, list(here.quantizers))
    return replace(here, matches=matches, parts=tuple(parts))


def weight_errors(here: Scene) -> dict[str, Difference]:
    """The error of every segment whose inputs and activations are float, by lifted name."""
    names = [part.lifted for part in here.parts]
    session = CutModel(here.lifted.model, names, here.fed, instead=here.bypass(), threads=here.threads)
    found = {name: Difference() for name in names}
    for index, feed in enumerate(here.feeds):
        made = session.run(feed, here.given(index), index=index)
        _compare(here, found, made, index)
    return found


def measure(here: Scene) -> Errors:
    """All errors.

    Raises:
        CalibrationError: a feed does not fit.
    """
    names = [part.lifted for part in here.parts]
    behind = {str(item.before.name): str(item.behind[0].name) for item in here.quantizers if item.behind}
    inner = [name for name in behind if name not in here.fed]
    graph_inputs = {str(value.name) for value in here.lifted.model.graph.inputs}
    inner = [name for name in inner if name not in graph_inputs]
    wanted = [*names, *behind.values(), *inner]
    alone = {name: Difference() for name in names}
    activations = {name: Difference() for name in behind}
    before: dict[str, list[Array]] = {name: [] for name in inner}
    session = CutModel(here.lifted.model, wanted, here.fed, threads=here.threads)
    for index, feed in enumerate(here.feeds):
        made = session.run(feed, here.given(index), index=index)
        _compare(here, alone, made, index)
        for name, read in behind.items():
            exact = here.floats[index][here.fed[name]] if name in here.fed else made.get(name)
            if exact is not None:
                activations[name].update(exact, made[read])
        for name in inner:
            before[name].append(made[name])
    weights = weight_errors(here)
    return Errors(alone, weights, gathered_errors(here), activations, before)


def gathered_errors(here: Scene) -> dict[str, Difference]:
    """The error that the quantized model, as it is, has gathered at every part, by lifted name."""
    names = [part.lifted for part in here.parts]
    session = CutModel(here.lifted.model, names, threads=here.threads)
    found = {name: Difference() for name in names}
    for index, feed in enumerate(here.feeds):
        _compare(here, found, session.run(feed, index=index), index)
    return found


def _without_mask(exact: Array, made: Array) -> tuple[Array, Array]:
    """Both with zeros where a mask was added to them: beside it every error would look small."""
    magnitude = np.abs(exact)
    if exact.shape != made.shape or not exact.size or not magnitude.max() > MASK:
        return exact, made
    masked = magnitude > MASK * max(float(np.median(magnitude)), 1.0)
    masked &= np.abs(made) > 0.5 * MASK
    return np.where(masked, 0, exact), np.where(masked, 0, made)


def _compare(here: Scene, found: Mapping[str, Difference], made: Mapping[str, Array], index: int) -> None:
    bounds, fed = here.bounds(), here.fed
    for name, difference in found.items():
        array = made[name]
        if name in bounds and array.shape == here.floats[index][fed[name]].shape:
            array = np.clip(array, *bounds[name])
        difference.update(*_without_mask(here.floats[index][fed[name]], array))
