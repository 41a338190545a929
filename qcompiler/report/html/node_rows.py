"""One row a node: what passes decided, what the runtime ran, what it stores, what it costs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.diagnosis.facts import Diagnosis, NodeFacts
from qcompiler.package.manifest import ConfiguredRecord, Manifest, NodeRecord
from qcompiler.report.html.page import NodeRow, State
from qcompiler.report.html.stored_bytes import StoredTensor, type_name
from qcompiler.report.html.times import Profiled
from qcompiler.report.reasons import Reasons, reason_for

MOST_ROWS = 500
"""A larger graph shows nodes that hold weights, that a pass looked at, or that take time."""

SHOWN_SHARE = 0.001
"""Of the time of a run: less is not worth a row in a large graph."""

_DETAIL = re.compile(r"^(?P<format>.+?)(?:, (?P<solver>[^:]+): (?P<bits>[\d.]+) bits.*)?$")
"""What a pass says of a node: ``int4 g32 asymmetric, gptq: 4.63 bits``; or a format alone.

The solver may come with the reason for it: ``mse in the place of gptq, as its rows are looked up``."""

_SLOWER = "put back to float: it made the model slower"


@dataclass(frozen=True)
class Known:
    """What is known of all nodes.

    Attributes:
        reference: the prepared float model.
        target: None where it is another quantizer's.
        before: constants of the float model.
        after: of the compiled one; None where its file does not tell.
        profiles: float and compiled; None where they were not timed.
        reasons: why a search left nodes in float; None where there was none.
        alternatives: what other choices would have cost them, in words.
    """

    reference: ir.Model
    manifest: Manifest | None
    target: Target
    diagnosis: Diagnosis | None
    before: Sequence[StoredTensor]
    after: Sequence[StoredTensor] | None
    profiles: tuple[Profiled, Profiled] | None
    reasons: Reasons | None = None
    alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def node_rows(known: Known) -> tuple[tuple[NodeRow, ...], dict[str, int]]:
    """Rows in the order of the graph, and how many nodes of which operator were left out of a large one."""
    rows = _Rows(known)
    nodes = [node for node in known.reference.graph.all_nodes() if node.op_type != "Constant"]
    made = [rows.row(place, node) for place, node in enumerate(nodes, 1)]
    if len(made) <= MOST_ROWS:
        return tuple(made), {}
    total = sum(item.total_us for item in known.profiles) if known.profiles else 0.0
    kept = [row for row in made if _matters(row, total)]
    places = {row.place for row in kept}
    left = Counter(row.op_type for row in made if row.place not in places)
    return tuple(kept), dict(left.most_common())


def _matters(row: NodeRow, total_us: float) -> bool:
    spent = (row.before_us or 0.0) + (row.after_us or 0.0)
    return bool(row.state != "float" or row.size_before_bytes or spent > SHOWN_SHARE * total_us > 0)


class _Rows:
    """Everything by the name of a node."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.records = {item.name: item for item in known.manifest.nodes} if known.manifest else {}
        self.pipeline = {item.name: item for item in known.manifest.pipeline} if known.manifest else {}
        self.reverted = frozenset(known.manifest.reverted) if known.manifest else frozenset()
        found = known.diagnosis
        self.parts = {name: item for item in found.nodes for name in item.members} if found else {}
        self.along = {item.node: item.after_db for item in found.along} if found else {}
        self.before = _by_owner(known.before)
        self.after = _by_owner(known.after) if known.after is not None else None

    def row(self, place: int, node: ir.Node) -> NodeRow:
        name = str(node.name)
        record, part = self.records.get(name), self.parts.get(name)
        detail = _quantized_detail(record)
        state = _state(record, detail, part, self._kernel(name, record))
        stored = None if self.after is None else self.after.get(name)
        words = _DETAIL.match(detail)
        return NodeRow(
            place=place,
            name=name,
            op_type=node.op_type,
            state=state,
            format=_format(words, part, node, state),
            solver=self._solver(record, words) if detail else "",
            bits=self._bits(words, name, state),
            size_before_bytes=_total(self.before.get(name)),
            size_after_bytes=_total(stored),
            alone_db=part.alone_db if part is not None else None,
            gathered_db=self._gathered(name, record, part),
            kernel=self._kernel(name, record),
            before_us=self._time(0, name),
            after_us=self._time(1, name),
            reason=self._reason(node, record, detail, state),
            alternatives=self.known.alternatives.get(name, ()),
        )

    def _kernel(self, name: str, record: NodeRecord | None) -> str:
        if record is not None and record.kernel:
            return record.kernel
        return self.known.profiles[1].kernels.get(name, "") if self.known.profiles else ""

    def _time(self, which: int, name: str) -> float | None:
        return self.known.profiles[which].by_node.get(name) if self.known.profiles else None

    def _gathered(self, name: str, record: NodeRecord | None, part: NodeFacts | None) -> float | None:
        if name in self.along:
            return self.along[name]
        if part is not None:
            return part.gathered_db
        return record.sqnr_db if record is not None else None

    def _solver(self, record: NodeRecord | None, words: re.Match[str] | None) -> str:
        if words is not None and words["solver"]:
            return str(words["solver"])
        passes = (
            [name for name, text in record.decisions.items() if text.startswith("quantized")]
            if record
            else []
        )
        configured = self.pipeline.get(passes[-1]) if passes else None
        return _settings(configured)

    def _bits(self, words: re.Match[str] | None, name: str, state: State) -> float | None:
        """As the pass counts them; otherwise what is stored, biases apart, over the weights."""
        if words is not None and words["bits"]:
            return float(words["bits"])
        weights = sum(item.elements for item in self.before.get(name, []) if _is_weight(item))
        if not weights or self.after is None or name not in self.after:
            return None
        stored = [
            item for item in self.after[name] if not (item.rank < 2 if state == "float" else _is_bias(item))
        ]
        return 8 * sum(item.size_bytes for item in stored) / weights

    def _unseen(self, node: ir.Node) -> str:
        """Why no pass looked at a node."""
        profiles = self.known.profiles
        if profiles is not None and str(node.name) not in profiles[1].by_node:
            return "merged into a neighbour, or not needed at run time"
        return self.known.target.support(node).reason or "no pass of the pipeline takes this operator"

    def _reason(self, node: ir.Node, record: NodeRecord | None, detail: str, state: State) -> str:
        if str(node.name) in self.reverted:
            return _SLOWER
        if record is None:
            if self.known.manifest is None or state != "float":
                return ""
            return self._unseen(node)
        said = dict.fromkeys(
            reason_for(text.removeprefix("skipped: "), record.name, self.known.reasons)
            for text in record.decisions.values()
            if text.startswith("transformed: ") or (text.startswith("skipped: ") and not detail)
        )
        notes = [record.note] if record.note else []
        if state == "stored" and not record.note:
            notes = [f"runs as {record.kernel} in float" if record.kernel else "no integer kernel"]
        return "; ".join([*notes, *said])


def _by_owner(tensors: Sequence[StoredTensor]) -> Mapping[str, list[StoredTensor]]:
    found: dict[str, list[StoredTensor]] = defaultdict(list)
    for item in tensors:
        if item.owners:
            found[item.owners[0]].append(item)
    return found


def _total(tensors: Sequence[StoredTensor] | None) -> int | None:
    """Bytes; None where there is nothing."""
    return sum(item.size_bytes for item in tensors) if tensors else None


def _is_weight(item: StoredTensor) -> bool:
    return item.rank > 1 and item.dtype.startswith(("float", "bfloat"))


def _is_bias(item: StoredTensor) -> bool:
    return item.dtype == "int32" or (item.dtype.startswith("float") and item.rank < 1)


def _quantized_detail(record: NodeRecord | None) -> str:
    """What the last pass that quantized a node says of it; "" where none did."""
    texts = record.decisions.values() if record is not None else ()
    done = [text.removeprefix("quantized: ") for text in texts if text.startswith("quantized: ")]
    return done[-1] if done else ""


def _state(record: NodeRecord | None, detail: str, part: NodeFacts | None, kernel: str) -> State:
    if record is None:
        return "float" if part is None else "integer" if _looks_integer(kernel) else "stored"
    if not detail:
        return "float"
    return "integer" if record.integer else "stored"


def _looks_integer(kernel: str) -> bool:
    """Of a file of another quantizer, whose kernels only the profile names."""
    return (
        kernel.startswith(("QLinear", "QGemm", "QAttention", "DynamicQuantize"))
        or "Integer" in kernel
        or (kernel in ("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"))
    )


def _format(words: re.Match[str] | None, part: NodeFacts | None, node: ir.Node, state: State) -> str:
    if state != "float":
        return str(words["format"]) if words is not None else (part.kind if part is not None else "quantized")
    values = (*(value for value in node.inputs if value is not None and value.const_value), *node.outputs)
    kinds = [value.dtype for value in values if value.dtype is not None]
    chosen = next((kind for kind in kinds if kind.is_floating_point()), kinds[0] if kinds else None)
    return type_name(chosen) if chosen is not None else "not quantized"


def _settings(configured: ConfiguredRecord | None) -> str:
    """The options of a pass that decide codes, in short."""
    if configured is None:
        return ""
    options = configured.options
    if options.get("solver") is not None:  # int8 weights are rounded: their ranges are what was chosen
        return str(options["solver"])
    words = ["mse" if options.get("clip_mse") else "rtn"]
    return ", ".join([*words, f"ranges {options['calibrator']}"] if "calibrator" in options else words)
