"""What a page is made of: from a compile that has just ended, or from the files of an earlier one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from qcompiler.data import DataOptions, Feed, input_specs, open_data
from qcompiler.data.random import invent
from qcompiler.errors import ModelError
from qcompiler.load import load_model
from qcompiler.load.read import read_proto
from qcompiler.package.deployed import is_deployed
from qcompiler.package.manifest import Manifest
from qcompiler.report.facts import CompileFacts
from qcompiler.result import CompileResult, manifest_path

if TYPE_CHECKING:
    from qcompiler.backends.base import Target
    from qcompiler.report.search_facts import SearchFacts

FEEDS = 8
"""Feeds that accuracy is measured on."""

INVENTED = "random numbers, for want of data: figures of accuracy are worth little"


@dataclass(frozen=True)
class Sources:
    """Everything that is looked at.

    Attributes:
        model: the float model.
        result: the compiled file.
        manifest: None for what another quantizer made.
        feeds: samples like those that the model will see; what ``data`` says.
        timed: whether to measure, where the clock has not been read.
        untimed: why not.
        facts: of the compile that has just ended.
        lowered: the graph of the result, where its file is none.
        dialect: what the result means, in standard operators, where its file does not show it.
        command: what made it, as typed.
        search: what it was part of.
        max_ram_bytes: what a compile may take; None: not bounded.
    """

    model: str | Path | onnx.ModelProto | ir.Model
    result: Path
    manifest: Manifest | None
    target: Target
    feeds: Sequence[Feed]
    data: str
    threads: int = 1
    timed: bool = True
    untimed: str = ""
    facts: CompileFacts | None = None
    lowered: ir.Model | None = None
    dialect: ir.Model | None = None
    command: str = ""
    search: SearchFacts | None = None
    max_ram_bytes: int | None = None

    @property
    def name(self) -> str:
        """Of the float model, as a user knows it."""
        return str(self.model) if isinstance(self.model, str | Path) else "a model in memory"


def sources_of_files(
    model: Path, result: Path, data: object | None, options: DataOptions, *, threads: int, timed: bool
) -> Sources:
    """Look at files.

    Args:
        model: the float model.
        result: what was made of it; its manifest lies beside it.
        data: samples like those that the model will see; None: random numbers.
        options: how data is read.
        threads: of the sessions that are timed.
        timed: whether to measure.

    Raises:
        ModelError: a model or the manifest cannot be read.
        CalibrationError: the data does not fit.
    """
    if not is_deployed(result):
        read_proto(result)  # what is no model is found here
    manifest = read_manifest(result)
    specs = input_specs(load_model(model))
    source = invent(specs, options) if data is None else open_data(data, specs, options)
    return Sources(
        model=model,
        result=result,
        manifest=manifest,
        target=_target(manifest, result),
        feeds=list(itertools.islice(source, FEEDS)),
        data=INVENTED if data is None else source.description,
        threads=threads,
        timed=timed,
        untimed="" if timed else "--no-speed leaves it out",
    )


def sources_of_result(
    result: CompileResult, facts: CompileFacts, command: str, search: SearchFacts | None = None
) -> Sources:
    """Look at a compile that has just ended.

    Raises:
        ModelError: what it was made of is not known any more.
    """
    origin = result.origin
    if origin is None:
        raise ModelError(
            "the result does not know what it was compiled from; use `qcompile report FLOAT COMPILED`."
        )
    timed = origin.options.verify == "speed" or search is not None  # a search compiles many without the clock
    return Sources(
        model=origin.model,
        result=result.path,
        manifest=result.manifest,
        target=result.target,
        feeds=list(itertools.islice(origin.feeds, FEEDS)),
        data=origin.note,
        threads=origin.options.threads,
        timed=timed,
        untimed="" if timed else f"--verify {origin.options.verify} leaves it out",
        facts=facts,
        lowered=result.model,
        dialect=origin.dialect,
        command=command,
        search=search,
        max_ram_bytes=origin.options.max_ram_bytes,
    )


def read_manifest(model: Path) -> Manifest | None:
    """The manifest beside a compiled model; None where there is none.

    Raises:
        ModelError: it is damaged.
    """
    path = manifest_path(model)
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} is no manifest of this version ({str(error).splitlines()[0]}); compile again, or move it away."
        ) from error


def _target(manifest: Manifest | None, result: Path) -> Target:
    from qcompiler.pipeline.options import build
    from qcompiler.pipeline.parse import parse_target
    from qcompiler.pipeline.registry import target_class

    if manifest is None:
        return parse_target("tvm-cpu" if is_deployed(result) else "ort-cpu").resolved()
    kind = target_class(manifest.target.name)
    made: Target = build(kind, manifest.target.options, owner=f"target {manifest.target.name}")
    return made
