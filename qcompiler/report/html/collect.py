"""Gathering what a page says: runs the float and the compiled model, and writes nothing."""

from __future__ import annotations

import datetime
import platform
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from qcompiler.calibration.collect import Progress
from qcompiler.diagnosis.facts import Diagnosis
from qcompiler.load import load_model
from qcompiler.measure.size import model_size_bytes
from qcompiler.package.deployed import deployed_files, is_deployed
from qcompiler.prepare import prepare
from qcompiler.report.facts import SpeedFacts, ValueFacts
from qcompiler.report.html import provenance
from qcompiler.report.html.measure import TIMED_FEEDS, Measurements, float_file
from qcompiler.report.html.node_rows import Known, node_rows
from qcompiler.report.html.page import BytesPart, NodeRow, Page, Spread, Times
from qcompiler.report.html.searched import alternative_words, front_rows
from qcompiler.report.html.sources import Sources
from qcompiler.report.html.spreads import spreads
from qcompiler.report.html.stored_bytes import StoredTensor, stored_tensors
from qcompiler.report.html.times import Profiled

REST = "graph and metadata"
"""What of a file is no constant."""

COPIES = "int8 copies for prefill"
"""Format of second forms of weights of few bits."""

RECIPE = "recipe.yaml"
"""Where a user puts the recipe of the page."""

FILES = "files"
"""Format of the parts of a result where no constant is known by its node."""


@dataclass(frozen=True)
class Found:
    """What was measured, and what the files hold."""

    diagnosis: Diagnosis | None
    profiles: tuple[Profiled, Profiled] | None
    speed: SpeedFacts | None
    outputs: tuple[ValueFacts, ...]
    constants: Sequence[StoredTensor] | None
    spreads: tuple[Spread, ...]
    nodes: tuple[NodeRow, ...]
    left_out: dict[str, int]
    unknown: tuple[str, ...]


def collect(sources: Sources, progress: Progress) -> Page:
    """Everything that a page says about ``sources``.

    Args:
        progress: called with a label, steps done, and steps in all where known.

    Raises:
        ModelError: a model cannot be read.
    """
    reference = load_model(sources.model)
    prepare(reference)
    return _page(sources, _found(sources, reference, progress))


def _found(sources: Sources, reference: ir.Model, progress: Progress) -> Found:
    with float_file(sources, reference) as float_path:
        measured = Measurements(sources, reference, float_path)
        progress("comparing nodes", 0, None)
        diagnosis = measured.diagnosis()
        progress("timing", 0, None)
        profiles, speed = measured.profiles(), measured.speed()
        outputs = measured.outputs()
    places = {str(node.name): place for place, node in enumerate(reference.graph.all_nodes())}
    before = stored_tensors(reference, places)
    after = _constants(sources, places, before)
    if after is None:
        measured.unknown.append("Bytes of each node: the parameters of native code carry no names.")
    if sources.manifest is None:
        measured.unknown.append(
            "Passes, solvers and reasons: no manifest of this compiler lies beside the model."
        )
    search = sources.search
    known = Known(
        reference,
        sources.manifest,
        sources.target,
        diagnosis,
        before,
        after,
        profiles,
        None if search is None else search.reasons,
        {} if search is None else alternative_words(search.alternatives),
    )
    nodes, left_out = node_rows(known)
    shown = spreads(diagnosis, reference, nodes, before, sources.manifest)
    unknown = tuple(measured.unknown)
    return Found(diagnosis, profiles, speed, outputs, after, shown, nodes, left_out, unknown)


def _page(sources: Sources, found: Found) -> Page:
    manifest, facts, diagnosis = sources.manifest, sources.facts, found.diagnosis
    bits = manifest.bits if manifest is not None else None
    untimed = sources.target.untimed or sources.target.caveat() or sources.untimed or "it failed"
    return Page(
        model=sources.name,
        result=str(sources.result),
        target=provenance.spelled_target(manifest) if manifest else sources.target.name,
        pipeline=provenance.spelled_pipeline(manifest) if manifest else "",
        made=_made(),
        size_before_bytes=model_size_bytes(sources.model) if isinstance(sources.model, str | Path) else None,
        size_after_bytes=model_size_bytes(sources.result),
        parameters=bits.parameters if bits else None,
        requested_bits=bits.requested if bits else None,
        achieved_bits=bits.achieved if bits else None,
        quantized_bits=bits.quantized if bits else None,
        speed=found.speed,
        timed_feeds=len(sources.feeds[:TIMED_FEEDS]),
        untimed="" if found.speed is not None else untimed,
        data=sources.data,
        outputs=found.outputs,
        verdict=diagnosis.verdict if diagnosis is not None and diagnosis.culprits else (),
        warnings=facts.warnings if facts is not None else tuple(manifest.notes if manifest else ()),
        findings=facts.findings if facts is not None else (),
        hints=(facts.hints if sources.search is None else sources.search.hints) if facts is not None else (),
        nodes=found.nodes,
        left_out=found.left_out,
        bytes=_parts(sources.result, found.nodes, found.constants),
        spreads=found.spreads,
        times=_times(found.profiles),
        search=sources.search,
        front=() if sources.search is None else front_rows(sources.search),
        unknown=found.unknown,
        command=_command(sources),
        command_needs=_needs(sources),
        recipe=provenance.recipe_of(manifest) if manifest else "",
        manifest=manifest.model_dump_json(indent=1) if manifest else "",
    )


def _constants(
    sources: Sources, places: Mapping[str, int], floats: Sequence[StoredTensor]
) -> list[StoredTensor] | None:
    """Constants of the result; None where neither its file nor the compile shows them."""
    if not is_deployed(sources.result):
        return stored_tensors(ir.load(sources.result), places, floats)
    return None if sources.lowered is None else stored_tensors(sources.lowered, places, floats)


def _parts(
    result: Path, nodes: Sequence[NodeRow], after: Sequence[StoredTensor] | None
) -> tuple[BytesPart, ...]:
    """What adds up to the size of the files."""
    if after is None:
        names = (result.name, *deployed_files(result))
        return tuple(BytesPart(FILES, name, result.with_name(name).stat().st_size) for name in names)
    parts = parts_of(nodes, after)
    rest = model_size_bytes(result) - sum(item.size_bytes for item in parts)
    return (*parts, BytesPart(REST, "", rest)) if rest > 0 else parts


def parts_of(nodes: Sequence[NodeRow], constants: Sequence[StoredTensor]) -> tuple[BytesPart, ...]:
    """Bytes of constants by the format of their node, second forms of weights apart."""
    formats = {row.name: row.format for row in nodes}
    names = {item.name for item in constants}
    counted: Counter[tuple[str, str]] = Counter()
    for item in constants:
        owner = item.owners[0] if item.owners else ""
        kind = COPIES if _is_copy(item.name, names) else formats.get(owner, item.dtype)
        counted[kind, owner] += item.size_bytes
    return tuple(BytesPart(kind, node, size) for (kind, node), size in counted.items() if size)


def _is_copy(name: str, names: Collection[str]) -> bool:
    """Whether ort-cpu stores it beside the blocks of few bits that decode reads."""
    weight, _, form = name.rpartition("_column")
    return form.startswith(("s", "_scale")) and f"{weight}_blocks" in names


def _times(profiles: tuple[Profiled, Profiled] | None) -> Times | None:
    if profiles is None:
        return None
    before, after = profiles
    return Times(before.total_us, after.total_us, before.other_us, after.other_us)


def _command(sources: Sources) -> str:
    """As typed, or as the manifest says it; "" for a model that is no file."""
    if sources.command or sources.manifest is None or not isinstance(sources.model, str | Path):
        return sources.command
    return provenance.command_of(sources.manifest, sources.name, None, _recipe_file(sources))


def _recipe_file(sources: Sources) -> str:
    beside = sources.result.with_suffix(".recipe.yaml")
    return str(beside) if beside.is_file() else RECIPE


def _needs(sources: Sources) -> tuple[str, ...]:
    """What a command that was not typed needs before it gives the same."""
    manifest = sources.manifest
    if sources.command or manifest is None or not _command(sources):
        return ()
    found = []
    if manifest.calibration is not None and "random" not in manifest.calibration.description:
        found.append(
            f"in the place of random put the data it was calibrated on: {manifest.calibration.description}"
        )
    if provenance.has_own_nodes(manifest) and _recipe_file(sources) == RECIPE:
        found.append(f"save the recipe below as {RECIPE}")
    return tuple(found)


def _made() -> str:
    from qcompiler import __version__

    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y-%m-%d %H:%M} UTC by qcompiler {__version__} on {platform.machine()}"
