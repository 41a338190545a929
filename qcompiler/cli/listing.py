"""``qcompile passes`` and ``qcompile targets``: what there is, every option with its default and meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.cli import options as cli
from qcompiler.cli.command import command

if TYPE_CHECKING:
    from qcompiler.report.catalog import Entry

Name = Annotated[str | None, typer.Argument(help="Show only this one, with its options.", show_default=False)]


@command
def passes_command(name: Name = None, json: cli.Json = False) -> None:
    """List the passes, or one pass with every option.

    Example: qcompile passes int8_static
    """
    from qcompiler.pipeline.registry import pass_class, pass_table
    from qcompiler.report.catalog import catalog

    _show(catalog("pass", [name] if name else list(pass_table()), pass_class), json=json)


@command
def targets_command(name: Name = None, json: cli.Json = False) -> None:
    """List the targets, or one target with every option.

    Example: qcompile targets ort-cpu
    """
    from qcompiler.pipeline.registry import TARGETS, target_class
    from qcompiler.report.catalog import catalog

    _show(catalog("target", [name] if name else list(TARGETS), target_class), json=json)


def _show(entries: Sequence[Entry], *, json: bool) -> None:
    from qcompiler.report.catalog import print_catalog
    from qcompiler.report.json import to_json

    if json:
        print(to_json(entries))
    else:
        print_catalog(entries)
