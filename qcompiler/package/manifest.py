"""The manifest: what was compiled, from what, how, and what came out.  The same inputs give the same manifest.

Timings are not in it, because no two runs agree on them; they are in the report.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from qcompiler.pipeline.options import Scalar

_PACKAGES = ("qcompiler", "numpy", "onnx", "onnx-ir", "onnxscript", "onnxruntime")
_CHUNK_BYTES = 1 << 20


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Record):
    """One file by content."""

    name: str
    size_bytes: int
    sha256: str


class CalibrationRecord(_Record):
    """What the statistics were taken from, and what was held out to verify."""

    description: str
    sha256: str | None
    samples: int | None
    held_out: str
    """Where the verification samples came from."""


class ConfiguredRecord(_Record):
    """A pass or target with every option as resolved."""

    name: str
    options: dict[str, Scalar]
    include: list[str] = []
    """Globs of the nodes that a pass alone is for."""
    exclude: list[str] = []


class NodeRecord(_Record):
    """One node of the user's file."""

    name: str
    op_type: str
    decisions: dict[str, str]
    """By pass: what was done, or why not."""
    kernel: str = ""
    """The kernel that runs it, read back from the runtime; empty for nodes that were not quantized."""
    integer: bool = False
    note: str = ""
    sqnr_db: float | None = None


class BitsRecord(_Record):
    """Weights: how many, and how many bits each."""

    parameters: int
    requested: float
    """Bits of a code, the fewest that any pass was asked for."""
    achieved: float
    """All bytes of constants in the file, over all weights: what stayed float and wider containers included."""
    quantized: float = 0.0
    """Of weights in low-bit formats: codes, scales, zero points as the format packs them; 0 where there are none."""
    quantized_share: float = 0.0
    """Share of the weights that are in low-bit formats."""


class Manifest(_Record):
    """Everything that decides the bytes of the result, and what was found in it."""

    versions: dict[str, str]
    source: list[FileRecord]
    result: list[FileRecord]
    calibration: CalibrationRecord | None
    pipeline: list[ConfiguredRecord]
    target: ConfiguredRecord
    include: list[str]
    exclude: list[str]
    reverted: list[str]
    """Nodes put back to float because they made the model slower."""
    bits: BitsRecord
    nodes: list[NodeRecord]
    notes: list[str]


def package_versions() -> dict[str, str]:
    """Versions of what takes part in a compile."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def file_record(path: Path) -> FileRecord:
    """Size and SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return FileRecord(name=path.name, size_bytes=path.stat().st_size, sha256=digest.hexdigest())
