"""``qcompile inspect MODEL``"""

from __future__ import annotations

from qcompiler.cli import options as cli
from qcompiler.cli.command import command


@command
def inspect_command(model: cli.Model, target: cli.Target = None, json: cli.Json = False) -> None:
    """Show what a model is made of, and what each pass and the target could do with it.

    Example: qcompile inspect model.onnx --target ort-cpu
    """
    from qcompiler.cli.progress import progress_display
    from qcompiler.inspect.model import inspect_model
    from qcompiler.pipeline.parse import parse_target
    from qcompiler.report.inspection import print_inspection
    from qcompiler.report.json import to_json

    with progress_display("inspecting"):
        found = inspect_model(model, parse_target(target or "ort-cpu"))
    if json:
        print(to_json(found))
    else:
        print_inspection(found)
