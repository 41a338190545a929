"""What one part does to the outputs: the float model with this part quantized, the quantized model with it in float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.diagnosis.cut import CutModel
from qcompiler.diagnosis.errors import Scene
from qcompiler.diagnosis.quantizers import Quantizer
from qcompiler.diagnosis.segments import Segment
from qcompiler.verify.metrics import EXACT_DB, Difference

CACHE = "present"
"""Start of the names of a decoder's cache of keys and values among its outputs."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Effect:
    """SQNR of the worst float output in dB.

    Attributes:
        only: of the float model with this part alone quantized.
        without: of the quantized model with this part alone in float.
    """

    only: float
    without: float


class Effects:
    """Measures parts of one scene; what outputs are in float is computed once."""

    def __init__(self, here: Scene) -> None:
        self._here = here
        self._outputs = [str(value.name) for value in here.reference.graph.outputs]
        self._outputs += _before_labels(here)
        session = CutModel(here.reference, self._outputs, threads=here.threads)
        self._exact = [session.run(feed, index=index) for index, feed in enumerate(here.feeds)]
        session = CutModel(here.lifted.model, self._outputs, threads=here.threads)
        made = [session.run(feed, index=index) for index, feed in enumerate(here.feeds)]
        self.all_outputs = self._compare(made, floats_only=False)
        """How far every output is off as it is, by name."""
        self.outputs = self._compare(made)
        """The float ones of them that are judged by: without a decoder's cache, where there is anything else."""

    @property
    def worst_db(self) -> float:
        """SQNR of the worst float output as it is."""
        return worst_db(self.outputs)

    def is_float(self, output: str) -> bool:
        """Whether an output holds floats."""
        return bool(self._exact[0][output].dtype.kind == "f")

    def of_part(self, part: Segment) -> Effect:
        """The effect of a segment's weights (and of what is quantized inside it)."""
        here = self._here
        alone = CutModel(
            here.lifted.model, [part.lifted], here.fed, instead=here.bypass(), threads=here.threads
        )
        made = [
            alone.run(feed, here.given(index), index=index)[part.lifted]
            for index, feed in enumerate(here.feeds)
        ]
        only = self._down_the_float_model(part.value, self._bounded(part.lifted, made))
        return Effect(worst_db(only), self.without((part,)))

    def of_quantizer(self, quantizer: Quantizer) -> Effect | None:
        """The effect of one activation's codes; None where the float model has no such value, or nothing reads it."""
        here, before = self._here, str(quantizer.before.name)
        if before not in here.fed or not quantizer.behind:
            return None
        behind = [str(value.name) for value in quantizer.behind]
        read = CutModel(here.lifted.model, behind[:1], here.fed, threads=here.threads)
        values = [
            read.run(feed, here.given(index), index=index)[behind[0]] for index, feed in enumerate(here.feeds)
        ]
        only = self._down_the_float_model(here.fed[before], values)
        return Effect(worst_db(only), self.without((quantizer,)))

    def without(self, items: Sequence[Segment | Quantizer]) -> float:
        """SQNR of the worst float output with some parts and activations in float, on the quantized model's values.

        Args:
            items: in the order of the model; quantizers of matched values.
        """
        here = self._here
        replaced: list[dict[str, Array]] = [{} for _ in here.feeds]
        for item in items:
            if isinstance(item, Segment):
                self._compute_in_float(item, replaced)
            else:
                self._leave_in_float(item, replaced)
        session = CutModel(here.lifted.model, self._outputs, replaced[0], threads=here.threads)
        made = []
        for index, feed in enumerate(here.feeds):
            found = session.run(feed, replaced[index], index=index)
            made.append(found | {k: v for k, v in replaced[index].items() if k in self._outputs})
        return worst_db(self._compare(made))

    def _compute_in_float(self, part: Segment, replaced: Sequence[dict[str, Array]]) -> None:
        """Add what the float nodes of ``part`` make of the quantized model's values, some of them replaced already."""
        here, names = self._here, self._here.matches.pairs
        inputs = [name for name in part.twin_inputs if name in here.floats[0] and self._is_made(names[name])]
        exact = CutModel(here.reference, [part.value], inputs, threads=here.threads)
        given = self._made([names[name] for name in inputs], replaced)
        for index, feed in enumerate(here.feeds):
            fed = {name: given[index][names[name]] for name in inputs}
            replaced[index][part.lifted] = exact.run(feed, fed, index=index)[part.value]

    def _leave_in_float(self, quantizer: Quantizer, replaced: Sequence[dict[str, Array]]) -> None:
        """Add what a quantizer is given, in the place of what is read behind it."""
        before = str(quantizer.before.name)
        for values, made in zip(replaced, self._made([before], replaced), strict=True):
            values |= {str(value.name): made[before] for value in quantizer.behind}

    def _made(self, names: Sequence[str], replaced: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """Values of the quantized model with some replaced, within what their quantizers let pass, for every feed."""
        here = self._here
        inputs = {str(value.name) for value in here.lifted.model.graph.inputs}
        wanted = [name for name in names if name not in replaced[0] and name not in inputs]
        session = CutModel(here.lifted.model, wanted, replaced[0], threads=here.threads)
        found = []
        for index, feed in enumerate(here.feeds):
            given = {name: feed[name] for name in names if name in inputs}
            values = {**given, **replaced[index], **session.run(feed, replaced[index], index=index)}
            found.append({name: self._bounded(name, [values[name]])[0] for name in names})
        return found

    def _is_made(self, lifted: str) -> bool:
        return all(value.name != lifted for value in self._here.lifted.model.graph.inputs)

    def _bounded(self, lifted: str, values: Sequence[Array]) -> list[Array]:
        bounds = self._here.bounds().get(lifted)
        return list(values) if bounds is None else [np.clip(array, *bounds) for array in values]

    def _down_the_float_model(self, name: str, values: Sequence[Array]) -> dict[str, Difference]:
        here = self._here
        session = CutModel(here.reference, self._outputs, [name], threads=here.threads)
        made = []
        for index, feed in enumerate(here.feeds):
            found = session.run(feed, {name: values[index]}, index=index)
            made.append({**found, name: values[index]} if name in self._outputs else found)
        return self._compare(made)

    def compared(self, made: Sequence[Mapping[str, Array]]) -> dict[str, Difference]:
        """How far outputs of another run are off, by name; one mapping for every feed."""
        return self._compare(made, floats_only=False)

    def _compare(
        self, made: Sequence[Mapping[str, Array]], *, floats_only: bool = True
    ) -> dict[str, Difference]:
        found = {name: Difference() for name in self._outputs if name in made[0]}
        for exact, values in zip(self._exact, made, strict=True):
            for name, difference in found.items():
                difference.update(exact[name], values[name])
        if not floats_only:
            return found
        floats = [name for name in found if self._exact[0][name].dtype.kind == "f"]
        judged = [name for name in floats if not name.startswith(CACHE)] or floats
        return {name: found[name] for name in judged}


def _before_labels(here: Scene) -> list[str]:
    """Where no output holds floats (labels of an ArgMax), the float values that both models make them of."""
    outputs = here.reference.graph.outputs
    if any(value.dtype in (None, ir.DataType.FLOAT, ir.DataType.FLOAT16) for value in outputs):
        return []
    makers = [maker for value in outputs if (maker := value.producer()) is not None]
    names = dict.fromkeys(
        str(source.name) for maker in makers for source in maker.inputs if source is not None
    )
    return [name for name in names if name in here.floats[0] and here.matches.pairs.get(name) == name]


def worst_db(outputs: Mapping[str, Difference]) -> float:
    """The lowest SQNR; 200 where there is no float output."""
    return min((item.sqnr_db for item in outputs.values()), default=EXACT_DB)
