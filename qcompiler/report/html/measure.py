"""Running the float and the compiled model for a page; what cannot be found out is said, with the reason."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from qcompiler.backends.base import NodeKey
from qcompiler.diagnosis.facts import Diagnosis
from qcompiler.diagnosis.pairing import COPIES
from qcompiler.diagnosis.run import DiagnoseOptions, diagnose
from qcompiler.errors import QCompilerError
from qcompiler.package.deployed import is_deployed
from qcompiler.package.write import write_model
from qcompiler.report.facts import SpeedFacts, ValueFacts
from qcompiler.report.html.sources import Sources
from qcompiler.report.html.times import Profiled, profiled
from qcompiler.report.units import megabytes
from qcompiler.verify.compare import compare_outputs
from qcompiler.verify.observed import OracleModel
from qcompiler.verify.segmented import weight_bytes
from qcompiler.verify.speed import measure_speed

TIMED_FEEDS = 4
TIMED_SECONDS = 4.0


@contextlib.contextmanager
def float_file(sources: Sources, reference: ir.Model) -> Iterator[Path]:
    """A file of the float model: the user's, or one that is gone afterwards."""
    if isinstance(sources.model, str | Path):
        yield Path(sources.model)
        return
    with tempfile.TemporaryDirectory(prefix="qcompiler-report-") as folder:
        path = Path(folder) / "float.onnx"
        write_model(reference.clone(), path)
        yield path


@dataclass
class Measurements:
    """What is found out by running models.

    Attributes:
        reference: the prepared float model.
        float_path: a file of the float model.
        unknown: what could not be found out, and why.
    """

    sources: Sources
    reference: ir.Model
    float_path: Path
    unknown: list[str] = field(default_factory=list)

    def diagnosis(self) -> Diagnosis | None:
        """Errors and histograms of nodes."""
        sources = self.sources
        quantized = sources.dialect if is_deployed(sources.result) else sources.result
        what = "SQNR of nodes alone, ranges of codes, histograms of activations"
        if quantized is None:
            self.unknown.append(
                f"{what}: native code does not show them; qcompile --report looks at them while it compiles."
            )
            return None
        needed, most = COPIES * weight_bytes(self.reference), sources.max_ram_bytes
        if most is not None and needed > most:
            self.unknown.append(
                f"{what}: they take {megabytes(needed)} of memory, and --max-ram is {megabytes(most)}."
            )
            return None
        options = DiagnoseOptions(samples=len(sources.feeds), suspects=0, threads=sources.threads)
        try:
            found = diagnose(sources.model, quantized, list(sources.feeds), options=options)
        except QCompilerError as error:
            self.unknown.append(f"{what}: {error}")
            return None
        self.unknown += found.notes
        return found

    def profiles(self) -> tuple[Profiled, Profiled] | None:
        """Time of the nodes of both models."""
        sources = self.sources
        reason = self._unprofiled()
        if reason:
            self.unknown.append(f"Time of each node: {reason}.")
            return None
        keys = [
            NodeKey(str(node.name), node.op_type, tuple(str(value.name) for value in node.outputs))
            for node in self.reference.graph.all_nodes()
        ]
        try:
            before, after = (
                profiled(path, sources.feeds[0], keys, threads=sources.threads)
                for path in (self.float_path, sources.result)
            )
        except QCompilerError as error:
            self.unknown.append(f"Time of each node: {error}")
            return None
        return before, after

    def _unprofiled(self) -> str:
        sources = self.sources
        if not sources.target.profiled or is_deployed(sources.result):
            return f"native code by {sources.target.name} does not say it"
        return sources.target.caveat().rstrip(".") or ("" if sources.timed else sources.untimed)

    def speed(self) -> SpeedFacts | None:
        """Both models timed in turn, unless the compile has done it."""
        sources = self.sources
        if sources.facts is not None and sources.facts.speed is not None:
            return sources.facts.speed
        if not sources.timed or sources.target.untimed or sources.target.caveat():
            return None
        feeds, threads = sources.feeds[:TIMED_FEEDS], sources.threads
        try:
            found = measure_speed(
                self.float_path, sources.result, feeds, threads=threads, seconds=TIMED_SECONDS
            )
        except QCompilerError as error:
            self.unknown.append(f"Speed: {error}")
            return None
        return SpeedFacts(found.ratio, found.low, found.high, found.float_ms, found.deployed_ms, threads)

    def outputs(self) -> tuple[ValueFacts, ...]:
        """The graph outputs of what runs against the float model's, unless the compile has compared them."""
        sources = self.sources
        if sources.facts is not None:
            return sources.facts.outputs
        try:
            session = sources.target.session(sources.result, threads=sources.threads)
            names = session.output_names
            float_session = OracleModel(self.reference, threads=sources.threads).session(names)
            found, _ = compare_outputs(self.reference, float_session, session, sources.feeds)
        except QCompilerError as error:
            self.unknown.append(f"Accuracy of the outputs: {error}")
            return ()
        return tuple(
            ValueFacts(
                comparison="deployed",
                value=item.value,
                node=item.node,
                op_type=item.op_type,
                sqnr_db=item.sqnr_db,
                cosine=item.cosine,
                max_abs_error=item.max_abs_error,
                exact_share=item.exact_share,
                is_float=item.is_float,
            )
            for item in found
        )
