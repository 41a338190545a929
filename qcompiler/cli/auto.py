"""The options of ``--passes auto``: what must hold of the result, and how it is judged."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qcompiler.cli.arguments import typed_words
from qcompiler.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcompiler.auto.facts import Bounds
    from qcompiler.auto.outcome import SearchResult
    from qcompiler.calibration.collect import Progress
    from qcompiler.report.facts import CompileFacts
    from qcompiler.report.search_facts import SearchFacts
    from qcompiler.request import CompileOptions

PANEL = "Search (--passes auto)"
AUTO = "auto"
_LATENCY = re.compile(r"(\d+(?:\.\d+)?)\s*(x|us|ms|s)", re.IGNORECASE)
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def _option(help: str, **settings: object) -> object:
    return typer.Option(help=help, rich_help_panel=PANEL, **settings)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Auto:
    """What is searched for."""

    max_drop: Annotated[
        float | None,
        _option(
            "Most that the metric may lose against the float model. Default without any bound: 0.01.", min=0
        ),
    ] = None
    max_size: Annotated[str | None, _option("Most that the files may take.", metavar="SIZE")] = None
    max_latency: Annotated[
        str | None, _option("Most that a run may take: 12ms, or 0.5x of the float model.", metavar="TIME")
    ] = None
    bits: Annotated[float | None, _option("Most bits a weight, scales counted.", min=0)] = None
    prefer: Annotated[
        Literal["size", "speed", "accuracy"] | None,
        _option("What is best within the bounds. Default: size with --max-drop, else accuracy."),
    ] = None
    metric: Annotated[
        str | None,
        _option(
            "top1, perplexity, spearman, kl, relative_error, or module:function of yours. Default: by the model.",
            metavar="NAME",
        ),
    ] = None
    metric_data: Annotated[
        Path | None,
        _option(
            "Data that the metric is computed on. Default: a part of --calib that calibration does not see."
        ),
    ] = None
    pareto: Annotated[bool, _option("Trace the front of size, latency and loss too, into a .front.json.")] = (
        False
    )
    estimate: Annotated[
        bool | None,
        _option("Estimate what choices cost instead of measuring it. Default: for large models."),
    ] = None

    def bounds(self) -> Bounds:
        """What must hold.

        Raises:
            OptionError: a size or a time that is none.
        """
        from qcompiler.auto.facts import Bounds
        from qcompiler.budget import parse_size

        ratio, milliseconds = parse_latency(self.max_latency)
        return Bounds(
            max_drop=self.max_drop,
            max_size_bytes=None if self.max_size is None else parse_size(self.max_size, "--max-size"),
            max_latency_ms=milliseconds,
            max_latency_ratio=ratio,
            max_bits=self.bits,
            prefer=self.prefer,
        )

    def refuse_without_auto(self) -> None:
        """Refuse options of a search where nothing is searched.

        Raises:
            OptionError: names the first that is given.
        """
        for field in dataclasses.fields(self):
            if getattr(self, field.name) != field.default:
                flag = f"--{field.name.replace('_', '-')}"
                raise OptionError(f"{flag} is for a search; write --passes auto, or leave it out.")


def searched(
    auto: Auto,
    model: Path,
    recipe: Path | None,
    calib: str | None,
    target: str | None,
    nodes: tuple[Sequence[str], Sequence[str]],
    output: Path | None,
    options: CompileOptions,
    progress: Progress | None,
) -> SearchResult:
    """Search as the command line asks.

    Raises:
        OptionError: beside a recipe.
    """
    from qcompiler.auto.search import SearchOptions, search

    if recipe is not None:
        raise OptionError("give either --passes auto or --recipe: a recipe says what a search would find.")
    return search(
        model,
        calib,
        bounds=auto.bounds(),
        metric=auto.metric,
        metric_data=auto.metric_data,
        target=target,
        include=nodes[0],
        exclude=nodes[1],
        output=output,
        options=SearchOptions(options, auto.pareto, estimate=auto.estimate),
        progress=progress,
    )


def facts_of_search(
    found: SearchResult, compiled: CompileFacts, auto: Auto, *, chose_target: bool
) -> SearchFacts:
    """What is shown of a search, with what to type next."""
    from qcompiler.package.deployed import is_deployed
    from qcompiler.report.commands import Command
    from qcompiler.report.hints import search_hints
    from qcompiler.report.search_facts import search_facts

    command = Command.of(found.result.manifest, compiled.model, typed_words())
    path = found.result.path
    hints = search_hints(
        command,
        str(found.recipe),
        "" if is_deployed(path) else str(path),
        traced=auto.pareto,
        drops=found.surrogate > 0,
    )
    return search_facts(found, compiled, auto.bounds(), hints=hints, chose_target=chose_target)


def parse_latency(text: str | None) -> tuple[float | None, float | None]:
    """``0.5x`` as (0.5, None), ``12ms`` as (None, 12.0).

    Raises:
        OptionError: another form, or nothing.
    """
    if text is None:
        return None, None
    found = _LATENCY.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise OptionError(f"--max-latency is {text!r}, expected a time or a share of float's: 12ms or 0.5x.")
    number, unit = float(found[1]), found[2].lower()
    return (number, None) if unit == "x" else (None, number * _MILLISECONDS[unit])
