"""The commands of ``qcompile``; each imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from qcompiler.cli.bench import bench_command
from qcompiler.cli.compare import compare_command
from qcompiler.cli.compile import compile_command
from qcompiler.cli.diagnose import diagnose_command
from qcompiler.cli.eval import eval_command
from qcompiler.cli.export import export_command
from qcompiler.cli.generate import generate_command
from qcompiler.cli.inspect import inspect_command
from qcompiler.cli.listing import passes_command, targets_command
from qcompiler.cli.report import report_command

app = typer.Typer(
    name="qcompile",
    help="The quantization compiler for ONNX: makes a float model small and fast, and proves what it made.",
    epilog="`qcompile MODEL --passes ...` is short for `qcompile compile MODEL --passes ...`. "
    "First steps: qcompile model.onnx --passes int8_dynamic",
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        from qcompiler import __version__

        typer.echo(f"qcompile {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """The quantization compiler for ONNX: makes a float model small and fast, and proves what it made."""
    del version


app.command("compile")(compile_command)
app.command("inspect")(inspect_command)
app.command("compare")(compare_command)
app.command("diagnose")(diagnose_command)
app.command("report")(report_command)
app.command("bench")(bench_command)
app.command("export")(export_command)
app.command("generate")(generate_command)
app.command("eval")(eval_command)
app.command("passes")(passes_command)
app.command("targets")(targets_command)
