"""From errors to facts: nodes, activations, and where errors grow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from qcompiler.diagnosis.activation_faults import activation_facts
from qcompiler.diagnosis.errors import Errors, Scene
from qcompiler.diagnosis.facts import ActivationReport, Growth, NodeFacts
from qcompiler.diagnosis.match import base_names
from qcompiler.diagnosis.quantizers import Quantizer
from qcompiler.diagnosis.segments import Operand, Segment
from qcompiler.diagnosis.transformed import wrong_db
from qcompiler.diagnosis.weight_faults import WeightFacts, weight_facts
from qcompiler.graph.weighted import array_of, is_constant, weighted
from qcompiler.verify.metrics import EXACT_DB

_TRANSFORMED_DB = 15.0
"""A weight that is so much worse than what it makes was scaled before it was quantized, and the activation with it."""

GROWTHS = 5


@dataclass(frozen=True)
class Examiner:
    """Reads facts off one scene.

    Attributes:
        here: the scene.
        errors: of its parts.
        ratio: how many times the median an outlier channel is.
    """

    here: Scene
    errors: Errors
    ratio: float

    def node(self, part: Segment) -> NodeFacts:
        """A quantized part, its effect not measured yet."""
        weights_db = self.errors.weights[part.lifted].sqnr_db
        kinds = [self.here.lifted.stored[item.stored].kind for item in part.operands]
        facts = [
            found for item in part.operands if (found := self._weight(item, part, weights_db)) is not None
        ]
        distant = [item for item in facts if _is_distant(item, weights_db)]
        members = [str(item.twin.name) for item in part.operands if item.twin is not None]
        return NodeFacts(
            part.name,
            tuple(dict.fromkeys(members)) or (part.name,),
            part.op_type,
            part.value,
            next((kind for kind in kinds if not kind.startswith("int32")), ""),
            self.errors.alone[part.lifted].sqnr_db,
            weights_db,
            self.errors.gathered[part.lifted].sqnr_db,
            self.arriving_db(part),
            None,
            tuple(item for item in facts if item not in distant),
            tuple(map(_without_fault, distant)),
        )

    def arriving_db(self, part: Segment) -> float:
        """The worst gathered SQNR of a part's inputs."""
        names = self.here.matches.pairs
        known = [self.errors.gathered.get(names[name]) for name in part.inputs if name in names]
        return min((item.sqnr_db for item in known if item is not None), default=EXACT_DB)

    def _weight(self, operand: Operand, part: Segment, weights_db: float) -> WeightFacts | None:
        if operand.exact is None or not is_constant(operand.exact):
            return None
        made = array_of(self.here.lifted.model.graph.initializers[operand.stored]).astype(np.float32)
        exact = array_of(operand.exact).astype(np.float32)
        facts = weight_facts(
            str(operand.exact.name),
            exact,
            made,
            self.here.lifted.stored[operand.stored],
            output_axis=_output_axis(operand),
            ratio=self.ratio,
        )
        healthy = weights_db >= wrong_db(part) and weights_db >= facts.sqnr_db + 3.0
        return _without_fault(facts) if healthy else facts

    def activation(self, quantizer: Quantizer) -> ActivationReport | None:
        """A quantized activation; None where nothing reads it as floats."""
        before = str(quantizer.before.name)
        found = self.errors.activations.get(before)
        if found is None or not found.batches:
            return None
        name = self.here.fed.get(before, "")
        values = (
            [floats[name] for floats in self.here.floats]
            if name
            else list(self.errors.before.get(before, ()))
        )
        if not values:
            return None
        facts = activation_facts(values, quantizer.written, quantizer.read, found.sqnr_db, ratio=self.ratio)
        maker = self._maker(name)
        readers = set(quantizer.readers)
        names = [part.name for part in self.here.parts if readers & set(part.nodes) and part.operands]
        return ActivationReport(
            name or base_names(before)[-1],
            str(maker.name) if maker is not None else "",
            maker.op_type if maker is not None else "",
            tuple(dict.fromkeys(names)),
            found.sqnr_db,
            None,
            facts,
        )

    def _maker(self, name: str) -> ir.Node | None:
        for node in self.here.reference.graph:
            if any(value.name == name for value in node.outputs):
                return node
        return None

    def along(self) -> tuple[Growth, ...]:
        """The error at every part, in the order of the float model."""
        return tuple(
            Growth(
                part.name,
                part.op_type,
                part.value,
                self.arriving_db(part),
                self.errors.gathered[part.lifted].sqnr_db,
                self.errors.alone[part.lifted].sqnr_db,
            )
            for part in self.here.parts
        )

    def growth(self) -> tuple[Growth, ...]:
        """Where most noise, relative to the signal, is added to what arrives."""
        found = [(_noise(item.after_db) - _noise(item.before_db), item) for item in self.along()]
        worst = sorted(found, key=lambda item: -item[0])[:GROWTHS]
        kept = {item.value for added, item in worst if added > 0 and item.after_db < item.before_db - 1.0}
        return tuple(item for _, item in found if item.value in kept)


def _noise(sqnr_db: float) -> float:
    """Relative to the signal; at 0 dB there is nothing left to lose."""
    return float(min(10 ** (-sqnr_db / 10), 1.0))


def _output_axis(operand: Operand) -> int:
    view = weighted(operand.twin) if operand.twin is not None else None
    return view.output_axis if view is not None else 0


def _is_distant(facts: WeightFacts, weights_db: float) -> bool:
    return facts.sqnr_db < weights_db - _TRANSFORMED_DB and len(facts.shape) > 1


def _without_fault(facts: WeightFacts) -> WeightFacts:
    return replace(facts, fault=None)
