"""Proving a build: it computes what it should, and it is not slower than float."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from qcompiler.build import Build, build, quantized_keys
from qcompiler.data import Feed
from qcompiler.errors import ModelError, VerificationError
from qcompiler.graph.stored_half import stored_types
from qcompiler.package.write import write_model
from qcompiler.pipeline.run import Pipeline
from qcompiler.request import CompileOptions
from qcompiler.samples import Samples
from qcompiler.verify.speed import NodeCost, SpeedCheck, measure_speed, slowest_nodes
from qcompiler.verify.verify import Limits, Verification, verify_model

SPEED_FEEDS = 4
"""Feeds that a timing cycles through."""


def check(built: Build, pipeline: Pipeline, samples: Samples, options: CompileOptions) -> Verification | None:
    """Make the three comparisons on held-out data.

    Raises:
        VerificationError: one failed; the message names the node, the figure and a remedy.
    """
    if options.verify == "none":
        return None
    pipeline.tell("verifying")
    verification = verify_model(
        pipeline.reference,
        built.dialect,
        built.path,
        samples.held_out,
        pipeline.target,
        limits=Limits(min_cosine=options.min_cosine),
        lowered=built.legalized.lowered,
        threads=options.threads,
    )
    if verification.failures:
        more = f" ({len(verification.failures) - 1} more)" if len(verification.failures) > 1 else ""
        raise VerificationError(f"{verification.failures[0]}{more}")
    return verification


def never_slower(
    built: Build, pipeline: Pipeline, source: object, samples: Samples, options: CompileOptions
) -> tuple[Build, SpeedCheck | None]:
    """Time the build against float; put its most harmful nodes back to float until it is not slower.

    Each round puts back twice as many nodes as the one before, worst first, so that a model with hundreds of
    them is not compiled hundreds of times.
    """
    target = pipeline.target  # this machine's timing says nothing about another
    if options.verify != "speed" or target.caveat() or target.untimed:
        return built, None
    pipeline.tell("timing")
    baseline = _baseline(source, pipeline, built.path.parent)
    feeds = [feed for feed, _ in zip(samples.held_out, range(SPEED_FEEDS), strict=False)]
    speed = measure_speed(baseline, built.path, feeds, threads=options.threads)
    step = 1
    while (
        speed.slower
        and target.profiled
        and (worst := _worst(built, pipeline, baseline, feeds, options.threads)[:step])
    ):
        reverted = (*built.reverted, *worst)
        built = build(pipeline, built.path, reverted, external=options.external)
        pipeline.tell("timing")
        speed = measure_speed(baseline, built.path, feeds, threads=options.threads)
        step *= 2
    return built, speed


def _worst(
    built: Build, pipeline: Pipeline, baseline: Path, feeds: Sequence[Feed], threads: int
) -> list[str]:
    """Quantized nodes from the one that loses most; all that are left, so that the search always ends."""
    keys = quantized_keys(pipeline.reference, built.passes)
    costs: list[NodeCost] = slowest_nodes(baseline, built.path, feeds, keys, threads=threads)
    ordered = [cost.node for cost in costs]
    return ordered + [key.name for key in keys if key.name not in ordered]


def _baseline(source: object, pipeline: Pipeline, folder: Path) -> Path:
    """The user's own file, or the prepared model where there is none or the runtime cannot run its bfloat16."""
    if isinstance(source, str | Path) and _runs(Path(source), pipeline):
        return Path(source)
    scratch = folder / "float"
    scratch.mkdir(exist_ok=True)
    path = scratch / "float.onnx"
    write_model(pipeline.reference.clone(), path)
    return path


def _runs(path: Path, pipeline: Pipeline) -> bool:
    """Whether the runtime opens the user's file; tried only where it holds bfloat16, since opening takes long."""
    if ir.DataType.BFLOAT16 not in stored_types(pipeline.reference):
        return True
    from qcompiler.backends.onnxruntime.session import open_file, session_options

    try:
        open_file(path, session_options(threads=1))
    except ModelError:
        return False
    return True
