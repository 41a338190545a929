"""Timings kept on disk, so that a machine measures a model's kernels once.

A timing is found again by the processor (model, features, cores), the runtime's version, the target, the number of
threads, the shapes of the feed, and the list of kernels that ran: op, attributes, and shapes and types of constants.
Values of weights are not part of it: another training of the same architecture, or another solver, is as fast.

Files lie in ``$XDG_CACHE_HOME/qcompiler/latency`` (``~/.cache``); deleting the folder has everything measured again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.auto.latency.in_situ import Kernel, Timing
from qcompiler.backends.base import Target
from qcompiler.backends.onnxruntime.measured_once import machine_key
from qcompiler.measure.sessions import Feed
from qcompiler.package.deployed import is_deployed
from qcompiler.pipeline.journal import Journal
from qcompiler.pipeline.options import spelled

logger = logging.getLogger(__name__)

_FORMAT = "1"


def cached_timing(key: str, measure: Callable[[], Timing], journal: Journal) -> Timing:
    """The timing under ``key``, measured where no file has it.

    What is steady is kept for other searches, and everything in the journal of this one, which goes on with it
    whatever others measure meanwhile.
    """
    path = cache_folder() / f"{key}.json"

    def solve() -> dict[str, npt.NDArray[np.uint8]]:
        found = _read(path)
        if found is None:
            found = measure()
            if found.steady:
                _publish(path, found)
        return {"timing": np.frombuffer(_written(found).encode(), np.uint8)}

    kept = np.asarray(journal.recall(f"latency/{key}", solve)["timing"], np.uint8)
    return _parsed(kept.tobytes().decode())


def timing_key(deployed: ir.Model, path: Path, target: Target, feed: Feed, threads: int) -> str:
    """A digest of all that a timing depends on.

    Args:
        deployed: the lowered model in ``path``.
        path: its file; for a library its index, which names the code by its hash.
        target: what runs it.
        feed: what it is timed on; only shapes and types count.
        threads: within an operator.
    """
    digest = hashlib.sha256()
    shapes = sorted(f"{name} {array.dtype}{array.shape}" for name, array in feed.items())
    facts = [
        _FORMAT,
        machine_key(),
        target.name,
        json.dumps(spelled(target), sort_keys=True),
        str(threads),
        *shapes,
    ]
    for fact in facts:
        digest.update(f"{fact}\n".encode())
    if is_deployed(path):
        digest.update(_library_version().encode())
    for node in deployed.graph.all_nodes():
        digest.update(_described(node).encode())
    return digest.hexdigest()[:32]


def cache_folder() -> Path:
    """Where timings are kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "qcompiler" / "latency"


def _described(node: ir.Node) -> str:
    """A node, its attributes, and the shapes and types of the constants that it reads."""
    constants = [
        f"{value.name} {value.const_value.dtype} {value.const_value.shape}"
        for value in node.inputs
        if value is not None and value.const_value is not None
    ]
    attributes = [
        f"{name}={attribute.value}"
        for name, attribute in sorted(node.attributes.items())
        if attribute.type
        in (ir.AttributeType.INT, ir.AttributeType.INTS, ir.AttributeType.STRING, ir.AttributeType.FLOAT)
    ]
    return "|".join([str(node.name), node.domain, node.op_type, *attributes, *constants, "\n"])


def _library_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{version('apache-tvm')} {version('qcompiler')}"
    except PackageNotFoundError:
        return ""


def _read(path: Path) -> Timing | None:
    try:
        return _parsed(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s cannot be read (%s): measured again", path, error)
        return None


def _parsed(text: str) -> Timing:
    facts = json.loads(text)
    kernels = tuple(Kernel(str(name), str(op_type), float(ms)) for name, op_type, ms in facts["kernels"])
    return Timing(float(facts["ms"]), float(facts["float_ms"]), kernels, steady=bool(facts["steady"]))


def _written(timing: Timing) -> str:
    return json.dumps(asdict(timing) | {"kernels": [[k.name, k.op_type, k.ms] for k in timing.kernels]})


def _publish(path: Path, timing: Timing) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            file.write(_written(timing))
        Path(file.name).replace(path)
    except OSError as error:
        logger.warning(
            "cannot keep timings in %s (%s): they are measured anew every time", path.parent, error
        )
