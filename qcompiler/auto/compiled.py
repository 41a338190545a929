"""Candidates as they lie on disk: compiled and proven once, also by a search that was killed and goes on.

Each has a folder of its own, named after its pipeline, with the files that would be published, the model before it was
lowered, and a record of what the compile found out.  The record is written last, and names the manifest by its hash,
which names the other files by theirs: a candidate whose files are not those that were proven is compiled again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from pydantic import TypeAdapter

from qcompiler.auto.builds import Builds, owners_of
from qcompiler.auto.problem.form import form_for
from qcompiler.auto.recipe import recipe_text, words
from qcompiler.backends.base import LegalizeReport, NodeKernel
from qcompiler.driver import compile_request
from qcompiler.errors import OutputError, QCompilerError
from qcompiler.package.durable import write_synced
from qcompiler.package.manifest import Manifest, file_record
from qcompiler.package.write import cannot_write, write_model
from qcompiler.pipeline.base import PassReport
from qcompiler.pipeline.selected import Selected
from qcompiler.remember import Solved
from qcompiler.request import CompileOptions, resolve
from qcompiler.result import CompileResult, Origin, manifest_path
from qcompiler.verify.verify import Verification

logger = logging.getLogger(__name__)

_RECORD = "record.json"
_GRAPHS = "graphs"
"""Folder of what is not published: the model before it was lowered, and as lowered where no .onnx file holds it."""


@dataclass(frozen=True)
class Compiled:
    """A pipeline that was tried.

    Attributes:
        path: of the model.
        failure: why it is no candidate, in words; "" where it passes verification.
        seconds: it took when it was compiled.
    """

    path: Path
    failure: str
    seconds: float


@dataclass(frozen=True)
class _Record:
    """What a compile found out that its files do not say; ``manifest`` is the SHA-256 of that file."""

    failure: str = ""
    manifest: str = ""
    seconds: float = 0.0
    passes: tuple[PassReport, ...] = ()
    legalized: LegalizeReport = dataclasses.field(default_factory=LegalizeReport)
    kernels: tuple[NodeKernel, ...] = ()
    verification: Verification | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compiler:
    """Compiles the candidates of one search, as ``--recipe`` would.

    Attributes:
        model: as the user gave it.
        calibration: as the user gave it.
        include: globs of the request.
        exclude: globs of the request.
        name: of the file that is published.
        options: of every compile.
        bench: the search's: its journal has the codes that were solved, and candidates lie in its folder.
    """

    model: str | Path | onnx.ModelProto | ir.Model
    calibration: object | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    name: str
    options: CompileOptions
    bench: Builds

    def key(self, steps: Sequence[Selected]) -> str:
        """A digest of the pipeline and of what it is compiled with."""
        target = form_for(self.bench.target, steps)
        text = recipe_text(steps, words(target, target.name), "", self.include, self.exclude)
        given = self.options
        proof = [given.verify, given.min_cosine, given.strict, given.external, given.max_ram_bytes]
        return hashlib.sha256(f"{proof}\n{text}".encode()).hexdigest()[:16]

    def compiled(self, steps: Sequence[Selected]) -> Compiled:
        """Compile and prove a pipeline, unless that was done before.

        Raises:
            OutputError: the candidate cannot be written.
        """
        path = self._path(steps)
        known = _read(path)
        if known is not None:
            return Compiled(path, known.failure, known.seconds)
        shutil.rmtree(path.parent / _GRAPHS, ignore_errors=True)  # a killed process may have left half of it
        started = time.monotonic()
        try:
            record = _kept(self._compile(steps, path))
        except OutputError:
            raise
        except QCompilerError as error:
            shutil.rmtree(path.parent, ignore_errors=True)
            record = _Record(failure=str(error))
        record = dataclasses.replace(record, seconds=time.monotonic() - started)
        _write(path, record)
        return Compiled(path, record.failure, record.seconds)

    def result(self, steps: Sequence[Selected]) -> CompileResult:
        """What the compile of a pipeline gave that was :meth:`compiled`."""
        path = self._path(steps)
        record = _read(path)
        assert record is not None
        samples = self.bench.samples
        dialect, lowered = (_loaded(file) for file in (_graph(path, "dialect"), _lowered(path)))
        return CompileResult(
            path=path,
            model=lowered,
            target=form_for(self.bench.target, steps).resolved(),
            manifest=Manifest.model_validate_json(manifest_path(path).read_text("utf-8")),
            passes=record.passes,
            legalized=record.legalized,
            kernels=record.kernels,
            verification=record.verification,
            speed=None,
            warnings=record.warnings,
            origin=Origin(self.model, samples.held_out, samples.held_out_note, self.options, dialect),
        )

    def _compile(self, steps: Sequence[Selected], path: Path) -> CompileResult:
        bench = self.bench
        request = resolve(list(steps), None, form_for(bench.target, steps), self.include, self.exclude)
        solved = Solved(bench.journal, owners_of(request.steps), bench.seen)
        progress = None if bench.progress is None else bench.tell
        return compile_request(self.model, request, self.calibration, path, self.options, progress, solved)

    def _path(self, steps: Sequence[Selected]) -> Path:
        return self.bench.folder / "candidates" / self.key(steps) / self.name


def _kept(made: CompileResult) -> _Record:
    """Write what is not among the published files, and say what else was found out."""
    assert made.origin is not None
    graphs = {"dialect": made.origin.dialect}
    graphs |= {} if made.path.suffix == ".onnx" else {"lowered": made.model}
    for name, model in graphs.items():
        file = _graph(made.path, name)
        file.parent.mkdir(exist_ok=True)
        write_model(model, file)
    return _Record(
        manifest=file_record(made.manifest_path).sha256,
        passes=made.passes,
        legalized=made.legalized,
        kernels=made.kernels,
        verification=made.verification,
        warnings=made.warnings,
    )


def _write(path: Path, record: _Record) -> None:
    content = json.dumps(TypeAdapter(_Record).dump_python(record))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(path.parent / _RECORD, content.encode())
    except OSError as error:
        raise cannot_write(path, error) from error


def _read(path: Path) -> _Record | None:
    """The record of a candidate whose files are those that were proven; None where there is none."""
    try:
        content = json.loads((path.parent / _RECORD).read_text("utf-8"))
        record = TypeAdapter(_Record).validate_python(content)
        whole = bool(record.failure) or _is_whole(path, record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s): compiled again", path.parent, error)
        return None
    if not whole:
        logger.warning("%s is not what was proven: compiled again", path)
    return record if whole else None


def _is_whole(path: Path, record: _Record) -> bool:
    if file_record(manifest_path(path)).sha256 != record.manifest:
        return False
    manifest = Manifest.model_validate_json(manifest_path(path).read_text("utf-8"))
    return all(file_record(path.with_name(each.name)) == each for each in manifest.result)


def _graph(path: Path, name: str) -> Path:
    return path.parent / _GRAPHS / f"{name}.onnx"


def _lowered(path: Path) -> Path:
    return path if path.suffix == ".onnx" else _graph(path, "lowered")


def _loaded(path: Path) -> ir.Model:
    """A model that can still be read when its file is gone: what lies beside it is mapped now."""
    model = ir.load(path)
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value.numpy()
    return model
