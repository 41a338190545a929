"""``make demo``: compile the two trained models of the repository and print what came out.

The convolutional classifier and the byte-level language model are real, trained models that lie in the package, with
held-out data, so that accuracy is measured and not asserted.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from qcompiler.driver import compile
from qcompiler.models.catalog import DIGITS, PYDOC_LM, TrainedModel
from qcompiler.request import CompileOptions
from qcompiler.result import CompileResult


@dataclass(frozen=True)
class Example:
    """One line of the demo."""

    model: TrainedModel
    passes: str


EXAMPLES = (
    Example(DIGITS, "int8_static,bias_correction"),
    Example(PYDOC_LM, "smoothquant,int8_dynamic"),
)


def main() -> None:
    """Compile every example into a temporary folder and show the table."""
    console = Console()
    table = Table(title="qcompiler demo: one thread, held-out data")
    for column in ("model", "passes", "size", "speed", "accuracy", "output SQNR"):
        table.add_column(column, overflow="fold")
    with tempfile.TemporaryDirectory(prefix="qcompiler-demo-") as folder:
        for example in EXAMPLES:
            with console.status(f"compiling {example.model.name} ..."):
                table.add_row(*_row(example, Path(folder)))
    console.print(table)
    console.print("Try it on yours:  qcompile model.onnx --passes int8_dynamic")


def _row(example: Example, folder: Path) -> list[str]:
    model = example.model
    result = compile(
        model.onnx,
        example.passes,
        calibration=model.calibration,
        output=folder,
        options=CompileOptions(verify="speed"),
    )
    before, after = model.onnx.stat().st_size, result.path.stat().st_size
    accuracy = f"{model.metric} {model.evaluate(model.onnx):.4g} -> {model.evaluate(result.path):.4g}"
    return [
        model.name,
        example.passes,
        f"{before / 1e3:.0f} kB -> {after / 1e3:.0f} kB",
        _speed(result),
        accuracy,
        _noise(result),
    ]


def _speed(result: CompileResult) -> str:
    return "" if result.speed is None else f"{result.speed.ratio:.2f}x of float"


def _noise(result: CompileResult) -> str:
    if result.verification is None:
        return ""
    return f"{result.verification.deployed.outputs[0].sqnr_db:.1f} dB"


if __name__ == "__main__":
    main()
