"""``qcompiler.diagnose``: the driver."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import onnx_ir as ir

from qcompiler.backends.run_feed import run_feed
from qcompiler.calibration.collect import Progress
from qcompiler.data import DataOptions, Feed, input_specs, open_data
from qcompiler.data.words import reading_words
from qcompiler.diagnosis.blame import GOOD_DB, costliest, culprits, is_contradictory, suspects, verdict
from qcompiler.diagnosis.cut import note_types
from qcompiler.diagnosis.effects import Effects
from qcompiler.diagnosis.errors import Scene, measure, scene
from qcompiler.diagnosis.examine import Examiner
from qcompiler.diagnosis.facts import ActivationReport, Culprit, Diagnosis, Group, NodeFacts, OutputFacts
from qcompiler.diagnosis.lift import lift
from qcompiler.diagnosis.match import match
from qcompiler.diagnosis.pairing import pair_models, require_related
from qcompiler.diagnosis.quantizers import Quantizer, quantizers
from qcompiler.diagnosis.recipe import Command, recipe_of
from qcompiler.diagnosis.remedies import remedies
from qcompiler.diagnosis.segments import Segment
from qcompiler.diagnosis.transformed import without_transformed
from qcompiler.errors import CalibrationError
from qcompiler.load import load_model
from qcompiler.verify.metrics import Difference

Model = str | Path | onnx.ModelProto | ir.Model


@dataclass(frozen=True)
class DiagnoseOptions:
    """How closely to look.

    Attributes:
        samples: feeds that are run, where ``data.limit`` does not say; fewer where the float model's values would not
            fit into memory.
        suspects: parts of each kind whose effect on the outputs is measured.
        outlier_ratio: an outlier channel is so many times the median one.
        threads: within an operator.
        data: how the data is read.
    """

    samples: int = 8
    suspects: int = 8
    outlier_ratio: float = 10.0
    threads: int = 1
    data: DataOptions = field(default_factory=DataOptions)


ROUNDS = 3
"""Of looking for culprits behind those that were found."""

USABLE_DB = 20.0
"""Above it the outputs are near enough to float that there is no further culprit to look for."""

GROUP = 4
"""Nodes that are left in float together where none is to blame."""

DEFAULT = DiagnoseOptions()


def diagnose(
    reference: Model,
    quantized: Model,
    data: object | None,
    *,
    options: DiagnoseOptions = DEFAULT,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find the parts of a quantized model that are to blame for what it lost, whoever quantized it.

    Args:
        reference: the float model, a file or a model in memory; not changed.
        quantized: what was made of it: QDQ, QOperator, integer products, MatMulNBits, MatMulBnb4.
        data: a path, a dict of arrays, an iterable of feeds, or a data set; what ``calibration`` takes of
            :func:`qcompiler.compile`.
        options: how closely to look.
        progress: called with a label, steps done, and steps in all where known.

    Raises:
        InputError: the two do not belong together, or nothing in the second is quantized.
        CalibrationError: there is no data, or it does not fit.
        ModelError: a model cannot be read, or the runtime refuses it.
    """
    told = progress or _silent
    pair = pair_models(load_model(reference), load_model(quantized), _named(reference, quantized))
    feeds, described = _feeds(pair.reference, data, options)
    told("lifting", 0, None)
    lifted = lift(pair.quantized)
    note_types(lifted.model)
    found = quantizers(lifted.model)
    float_model, matches = pair.matched(lambda model: match(model, lifted.model, found))
    told("running parts", 0, None)
    here = without_transformed(scene(float_model, lifted, found, matches, feeds, options.threads))
    require_related(here, pair)
    examiner = Examiner(here, measure(here), options.outlier_ratio)
    effects = Effects(here)
    nodes, activations = _with_effects(examiner, effects, options.suspects, told)
    nodes = _believable(nodes, effects.worst_db)
    to_blame, mended = _blamed(here, effects, nodes, activations)
    spread = None if to_blame or effects.worst_db >= GOOD_DB else _group(here, effects, nodes)
    outputs = _outputs(effects, quantized, here)
    where = quantized if isinstance(quantized, str | Path) else None
    recipe = recipe_of(Path(where) if where is not None else None, nodes, activations)
    source = str(data) if isinstance(data, str | Path) else "random"
    command = Command(pair.names[0], source, reading_words(options.data))
    return Diagnosis(
        *pair.names,
        described,
        len(here.feeds),
        outputs,
        verdict(to_blame, nodes, effects.worst_db, mended),
        to_blame,
        mended,
        nodes,
        activations,
        examiner.growth(),
        remedies(command, recipe, to_blame, nodes, activations, (effects.worst_db, mended), spread),
        _notes(here, outputs, len(feeds), invented=isinstance(data, str) and data == "random"),
        examiner.along(),
    )


def _silent(label: str, done: int, total: int | None) -> None:
    del label, done, total


def _named(reference: Model, quantized: Model) -> tuple[str, str]:
    first = str(reference) if isinstance(reference, str | Path) else "FLOAT.onnx"
    return first, str(quantized) if isinstance(quantized, str | Path) else "the quantized model"


def _feeds(model: ir.Model, data: object | None, options: DiagnoseOptions) -> tuple[list[Feed], str]:
    if data is None:
        raise CalibrationError(
            "there is no data to run the models on, and errors depend on it: give samples like those that the model "
            "will see, --data samples.npz."
        )
    given = options.data.limit
    limit = given or options.samples * options.data.batch
    source = open_data(data, input_specs(model), replace(options.data, limit=limit))
    feeds = list(source if given else itertools.islice(source, options.samples))
    if not feeds:
        raise CalibrationError(f"{source.description} holds no sample; give at least one.")
    return feeds, source.description


def _with_effects(
    examiner: Examiner, effects: Effects, most: int, progress: Progress
) -> tuple[tuple[NodeFacts, ...], tuple[ActivationReport, ...]]:
    """Facts of all quantized parts; of the suspects also what they do to the outputs."""
    parts = [part for part in examiner.here.parts if part.quantized]
    nodes = [examiner.node(part) for part in parts]
    known = [(item, report) for item in examiner.here.quantizers if (report := examiner.activation(item))]
    activations = [report for _, report in known]
    chosen = suspects(nodes, activations, most)
    total = len(chosen.nodes) + len(chosen.activations)
    for done, index in enumerate(chosen.nodes):
        progress("measuring suspects", done, total)
        nodes[index] = replace(nodes[index], effect=effects.of_part(parts[index]))
    for done, index in enumerate(chosen.activations, len(chosen.nodes)):
        progress("measuring suspects", done, total)
        activations[index] = replace(activations[index], effect=effects.of_quantizer(known[index][0]))
    return tuple(nodes), tuple(activations)


def _believable(nodes: Sequence[NodeFacts], outputs_db: float) -> tuple[NodeFacts, ...]:
    """The nodes, without faults where these were seen to be transforms: then what was not measured may be one too."""
    doubtful = [item.effect is not None and is_contradictory(item.effect, outputs_db) for item in nodes]
    unsure = any(doubtful)
    return tuple(
        replace(item, weights=tuple(replace(facts, fault=None) for facts in item.weights))
        if doubt or (unsure and item.effect is None)
        else item
        for item, doubt in zip(nodes, doubtful, strict=True)
    )


def _blamed(
    here: Scene, effects: Effects, nodes: Sequence[NodeFacts], activations: Sequence[ActivationReport]
) -> tuple[tuple[Culprit, ...], float | None]:
    """The culprits, those that only show once the first are in float included, and the outputs without them all."""
    found: dict[tuple[str, str], Culprit] = {}
    level, mended = effects.worst_db, None
    for _ in range(ROUNDS):
        more = {(item.kind, item.name): item for item in culprits(nodes, activations, level)}
        if not more.keys() - found.keys():
            break
        found |= {key: item for key, item in more.items() if key not in found}
        mended = _mended(here, effects, list(found.values()))
        if mended is None or mended < level + 1.0 or mended >= USABLE_DB:
            break
        level = mended
    return tuple(found.values()), mended


def _group(here: Scene, effects: Effects, nodes: Sequence[NodeFacts]) -> Group | None:
    """The costliest nodes together, where none is to blame."""
    chosen = costliest(nodes, GROUP)
    if not chosen:
        return None
    values = {item.value for item in chosen}
    reached = effects.without([part for part in here.parts if part.value in values])
    return Group(tuple(dict.fromkeys(name for item in chosen for name in item.members)), reached)


def _mended(here: Scene, effects: Effects, found: Sequence[Culprit]) -> float | None:
    """SQNR of the worst output with all culprits in float."""
    parts = {item.value for item in found if item.kind == "weight"}
    activations = {item.value for item in found if item.kind == "activation"}
    wrong = {here.fed.get(str(item.before.name)): item for item in here.quantizers if item.behind}
    chosen: list[Segment | Quantizer] = [
        wrong[name] for name in _inputs(here) if name in activations & set(wrong)
    ]
    for part in here.parts:
        chosen += [part] if part.value in parts else []
        chosen += [wrong[part.value]] if part.value in activations and part.value in wrong else []
    return effects.without(chosen) if chosen else None


def _inputs(here: Scene) -> list[str]:
    return [str(value.name) for value in here.reference.graph.inputs]


def _outputs(effects: Effects, quantized: Model, here: Scene) -> tuple[OutputFacts, ...]:
    deployed = _deployed(quantized, effects, here) if isinstance(quantized, str | Path) else {}
    return tuple(
        OutputFacts(
            name,
            item.sqnr_db,
            item.cosine,
            deployed[name].sqnr_db if name in deployed else None,
            item.exact_share,
            effects.is_float(name),
        )
        for name, item in effects.all_outputs.items()
    )


def _deployed(quantized: str | Path, effects: Effects, here: Scene) -> dict[str, Difference]:
    from qcompiler.backends.onnxruntime.session import open_file, session_options

    session = open_file(Path(quantized), session_options(threads=here.threads))
    return effects.compared([run_feed(session, feed, index) for index, feed in enumerate(here.feeds)])


def _notes(here: Scene, outputs: Sequence[OutputFacts], wanted: int, *, invented: bool) -> tuple[str, ...]:
    found = []
    if len(here.feeds) < wanted:
        found.append(
            f"only {len(here.feeds)} of {wanted} samples were run: more values would not fit into memory."
        )
    if invented:
        found.append("the data is made up of random numbers: ranges and errors on real data will be others.")
    if here.lifted.opaque:
        found.append(f"looked at from outside only: {', '.join(here.lifted.opaque)}.")
    lost = [
        item for item in outputs if item.deployed_db is not None and item.deployed_db < item.sqnr_db - 6.0
    ]
    if lost and lost[0].deployed_db is not None:
        found.append(
            f"the kernels of this machine lose more than the file says: output {lost[0].value!r} is at "
            f"{lost[0].deployed_db:.1f} dB as run, {lost[0].sqnr_db:.1f} dB as written (uint8 x int8 products saturate "
            "on processors without VNNI); compiled for ort-cpu it would not be."
        )
    return tuple(found)
