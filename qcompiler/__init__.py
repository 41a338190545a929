"""qcompiler: the quantization compiler for ONNX.

    import qcompiler
    result = qcompiler.compile("model.onnx", passes="smoothquant,int8_dynamic", calibration="data.npz")
    session = onnxruntime.InferenceSession(result.path)

What is exported here is public; everything else may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcompiler.auto.facts import Bounds
    from qcompiler.auto.outcome import SearchResult
    from qcompiler.auto.search import SearchOptions, search
    from qcompiler.data.options import DataOptions
    from qcompiler.diagnosis.facts import Diagnosis
    from qcompiler.diagnosis.run import DiagnoseOptions, diagnose
    from qcompiler.driver import compile
    from qcompiler.errors import QCompilerError
    from qcompiler.request import CompileOptions
    from qcompiler.result import CompileResult

__version__ = "0.1.0"
__all__ = [
    "Bounds",
    "CompileOptions",
    "CompileResult",
    "DataOptions",
    "DiagnoseOptions",
    "Diagnosis",
    "QCompilerError",
    "SearchOptions",
    "SearchResult",
    "__version__",
    "compile",
    "diagnose",
    "search",
]

_HOMES = {
    "Bounds": "qcompiler.auto.facts",
    "CompileOptions": "qcompiler.request",
    "CompileResult": "qcompiler.result",
    "DataOptions": "qcompiler.data.options",
    "DiagnoseOptions": "qcompiler.diagnosis.run",
    "Diagnosis": "qcompiler.diagnosis.facts",
    "QCompilerError": "qcompiler.errors",
    "SearchOptions": "qcompiler.auto.search",
    "SearchResult": "qcompiler.auto.outcome",
    "compile": "qcompiler.driver",
    "diagnose": "qcompiler.diagnosis.run",
    "search": "qcompiler.auto.search",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: the command line starts without the runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module 'qcompiler' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted(__all__)
