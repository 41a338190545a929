"""One session in which every quantized group can be put to float or to its codes, without building it again.

A uniformly quantized dialect model is changed so that

- every weight that is made of codes becomes an input, fed with the float weight or with what its codes stand for;
- behind every quantizer of an activation stands ``Where(flag, quantized, float)``;
- behind every product whose bias was corrected stands the Sub that takes the correction back while its group is off.

A quantizer belongs to the groups that read what it gives; where none does (a residual sum in integers), to the groups
before it.  With every switch off the model is the float one up to rounding, which is checked, because a pass may have
changed more than weights and activations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.auto.facts import Group
from qcompiler.backends.base import Session
from qcompiler.backends.run_feed import run_feed
from qcompiler.calibration.tapgraph import keep_outputs
from qcompiler.diagnosis.quantizers import Quantizer, quantizers
from qcompiler.graph.qdq import FLOAT_WEIGHT
from qcompiler.low_bit.order import ORDERED
from qcompiler.passes.bias_correction import CORRECTED
from qcompiler.prepare.clean import remove_unused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qcompiler.data.feeds import Feed

Array = npt.NDArray[Any]
CHUNK_BYTES = 256 << 20
"""Of dequantized weights in memory at a time."""


@dataclass(frozen=True)
class _Weight:
    """A weight that is made of codes, and whose it is."""

    name: str
    exact: ir.TensorProtocol
    groups: frozenset[str]
    readers: frozenset[str]
    reordered: bool


def _weight(value: ir.Value, owners: Owners) -> _Weight:
    readers = owners.readers_of_weight(value)
    inputs = (node.inputs[0] for node in readers if node.inputs)
    makers = (source.producer() for source in inputs if source is not None)
    reordered = any(maker is not None and ORDERED in maker.metadata_props for maker in makers)
    names = frozenset(str(node.name) for node in readers)
    return _Weight(str(value.name), value.meta[FLOAT_WEIGHT], owners.of_weight(value), names, reordered)


class Switchboard(Session):
    """A session of the model with the switches of some groups on; :meth:`switch` says which."""

    def __init__(self, dialect: ir.Model, groups: Sequence[Group], *, threads: int) -> None:
        from qcompiler.backends.onnxruntime.session import open_model, session_options

        self._dialect, self._threads = dialect, threads
        owners = Owners(dialect, groups)
        places = {group.name: place for place, group in enumerate(groups)}
        made = (
            value
            for node in dialect.graph
            for value in node.outputs
            if value.meta.get(FLOAT_WEIGHT) is not None
        )
        self._weights = sorted(
            (_weight(value, owners) for value in made),
            key=lambda weight: min((places[name] for name in weight.groups), default=len(groups)),
        )
        """In the order of their groups, in which they will be asked for."""
        model = dialect.clone()
        self._inputs = _weights_as_inputs(model, [weight.name for weight in self._weights])
        self._flags = _with_flags(model, owners)
        self._shifts = _with_shifts(model, dialect, owners)
        remove_unused(model)
        self._session = open_model(model, session_options(threads=threads))
        self._fed: dict[str, Array] = {}
        self._chunk: tuple[frozenset[str], dict[str, Array]] = (frozenset(), {})
        switches = {*self._inputs.values(), *self._flags, *self._shifts}
        self.input_names = [name for name in self._session.input_names if name not in switches]
        self.output_names = self._session.output_names
        self.switch(())

    def switch(self, on: Sequence[str]) -> None:
        """Put the groups ``on`` to their codes, and all others to float."""
        chosen = frozenset(on)
        for weight in self._weights:
            if not weight.groups & chosen:
                self._fed[self._inputs[weight.name]] = np.ascontiguousarray(weight.exact.numpy(), np.float32)
        self._fed |= {self._inputs[name]: array for name, array in self._dequantized(chosen).items()}
        self._fed |= {flag: np.array(bool(groups & chosen)) for flag, groups in self._flags.items()}
        for name, (group, shift) in self._shifts.items():
            self._fed[name] = np.zeros_like(shift) if group in chosen else shift

    def touches(self, group: str) -> bool:
        """Whether anything is switched with a group; what is not quantized has no switch."""
        groups_of = (*self._flags.values(), *(weight.groups for weight in self._weights))
        return any(group in groups for groups in groups_of)

    def errors(self, group: Group) -> dict[str, Array] | None:
        """``W_q - W`` as stored, by name of the node that reads it; None where the inputs of one are in another order.

        Nodes whose weight was left in float have an error of zeros.
        """
        if any(group.name in weight.groups and weight.reordered for weight in self._weights):
            return None
        own = [weight for weight in self._weights if group.name in weight.groups]
        made = self._dequantized(frozenset([group.name]))
        found: dict[str, Array] = {}
        for weight in own:
            error = made[weight.name] - np.asarray(weight.exact.numpy(), np.float32)
            found |= {node: error for node in group.nodes if node in weight.readers}
        return found if set(found) == set(group.nodes) else None

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        known = set(self._session.input_names)
        return self._session.run({**feeds, **{k: v for k, v in self._fed.items() if k in known}})

    def outputs(self, feeds: Iterable[Feed]) -> Iterator[Mapping[str, Array]]:
        """What the model gives for each feed."""
        return (run_feed(self, feed, index) for index, feed in enumerate(feeds))

    def _dequantized(self, groups: frozenset[str]) -> dict[str, Array]:
        """What the codes of some groups stand for; computed for many groups at once."""
        wanted = {weight.name for weight in self._weights if weight.groups & groups}
        if not wanted <= self._chunk[0]:
            names = self._chunk_with(wanted)
            self._chunk = (names, constants(self._dialect, names, threads=self._threads))
        return {name: self._chunk[1][name] for name in wanted}

    def _chunk_with(self, wanted: set[str]) -> frozenset[str]:
        """``wanted`` and the weights behind them, as many as fit into :data:`CHUNK_BYTES`."""
        names, size = set(wanted), 0
        start = min(index for index, weight in enumerate(self._weights) if weight.name in wanted)
        for weight in self._weights[start:]:
            size += 4 * weight.exact.size
            if size > CHUNK_BYTES:
                break
            names.add(weight.name)
        return frozenset(names)


def constants(model: ir.Model, names: Collection[str], *, threads: int) -> dict[str, Array]:
    """Values of a model that depend on no input, by name, as its nodes compute them."""
    from qcompiler.backends.onnxruntime.session import open_model, session_options

    alone = model.clone()
    keep_outputs(alone, [value for node in alone.graph for value in node.outputs if value.name in names])
    alone.graph.inputs.clear()
    return open_model(alone, session_options(threads=threads, optimize=False)).run({})


class Owners:
    """Whose a weight or a quantizer is: the nearest nodes of groups behind it, else those before it."""

    def __init__(self, model: ir.Model, groups: Sequence[Group]) -> None:
        self._group_of = {node: group.name for group in groups for node in group.nodes}

    def group_of(self, node: str) -> str | None:
        """The group that a node is in."""
        return self._group_of.get(node)

    def of_weight(self, value: ir.Value) -> frozenset[str]:
        """Groups that read a weight, through whatever lays it out."""
        return frozenset(self._group_of[str(node.name)] for node in self.readers_of_weight(value))

    def readers_of_weight(self, value: ir.Value) -> list[ir.Node]:
        """Nodes of groups that read a weight."""
        return self._readers(value, through=("Transpose", "Reshape", "Cast", "Identity"))

    def of_quantizer(self, quantizer: Quantizer) -> frozenset[str]:
        """Groups that read an activation's codes; where none does, the nearest before it."""
        found = {
            self._group_of[str(node.name)]
            for value in quantizer.behind
            for node in self._readers(value, through=("Mul", "Transpose", "Reshape", "Identity", "Where"))
        }
        return frozenset(found or self._makers(quantizer.before))

    def _readers(self, value: ir.Value, *, through: tuple[str, ...]) -> list[ir.Node]:
        found: list[ir.Node] = []
        for node in dict.fromkeys(use.node for use in value.uses()):
            if str(node.name) in self._group_of:
                found.append(node)
            elif node.op_type in through:
                found += self._readers(node.outputs[0], through=through)
        return found

    def _makers(self, value: ir.Value) -> set[str]:
        found: set[str] = set()
        seen: set[ir.Node] = set()
        pending = [value.producer()]
        while pending:
            node = pending.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if str(node.name) in self._group_of:
                found.add(self._group_of[str(node.name)])
            else:
                pending += [source.producer() for source in node.inputs if source is not None]
        return found


def _weights_as_inputs(model: ir.Model, names: Sequence[str]) -> dict[str, str]:
    """Let readers of the values ``names`` read inputs instead; their names by those of the values."""
    made = {str(value.name): value for node in model.graph for value in node.outputs}
    inputs = {}
    for name in names:
        fed = ir.Value(name=f"{name}_switched", type=ir.TensorType(ir.DataType.FLOAT), shape=made[name].shape)
        for use in list(made[name].uses()):
            use.node.replace_input_with(use.idx, fed)
        model.graph.inputs.append(fed)
        inputs[name] = f"{name}_switched"
    return inputs


def _with_flags(model: ir.Model, owners: Owners) -> dict[str, frozenset[str]]:
    """Put a choice behind every quantizer of an activation; the groups of each flag."""
    flags: dict[str, frozenset[str]] = defaultdict(frozenset)
    outputs = list(model.graph.outputs)
    for number, quantizer in enumerate(quantizers(model)):
        name = f"qcompiler_flag_{number}"
        flag = ir.Value(name=name, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
        flags[name] = owners.of_quantizer(quantizer)
        model.graph.inputs.append(flag)
        for value in quantizer.behind:
            node = ir.node("Where", [flag, value, quantizer.before], name=f"{value.name}_choice")
            _stand_behind(model, value, node, outputs)
    return dict(flags)


def _with_shifts(model: ir.Model, dialect: ir.Model, owners: Owners) -> dict[str, tuple[str, Array]]:
    """Let what a correction added to outputs be subtracted again; the group and shift by the name of its input."""
    shifts = {str(node.name): node.meta[CORRECTED] for node in dialect.graph if CORRECTED in node.meta}
    outputs = list(model.graph.outputs)
    found: dict[str, tuple[str, Array]] = {}
    for node in [node for node in model.graph if node.name in shifts]:
        group, value = owners.group_of(str(node.name)), node.outputs[0]
        if group is None:
            continue
        behind = len(value.shape or ()) - 2 if node.op_type == "Conv" else 0
        shift = np.asarray(shifts[str(node.name)], np.float32).reshape(-1, *[1] * behind)
        name = f"{value.name}_shift"
        fed = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shift.shape))
        model.graph.inputs.append(fed)
        _stand_behind(model, value, ir.node("Sub", [value, fed], name=f"{value.name}_uncorrected"), outputs)
        found[name] = group, shift
    return found


def _stand_behind(model: ir.Model, value: ir.Value, node: ir.Node, outputs: Sequence[ir.Value]) -> None:
    """Let everything that reads a value read what ``node`` makes of it."""
    uses = [use for use in value.uses() if use.node is not node]
    made, producer = node.outputs[0], value.producer()
    assert producer is not None
    made.name, made.type, made.shape = f"{value.name}_chosen", value.type, value.shape
    model.graph.insert_after(producer, node)
    for use in uses:
        use.node.replace_input_with(use.idx, made)
    if value in outputs:
        _rename_output(model, value, made)


def _rename_output(model: ir.Model, value: ir.Value, chosen: ir.Value) -> None:
    """Make ``chosen`` the output that ``value`` was, under its name."""
    place = list(model.graph.outputs).index(value)
    value.name, chosen.name = f"{value.name}_quantized", value.name
    model.graph.outputs[place] = chosen
