"""``qcompile compile MODEL --passes ...``"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qcompiler.cli import options as cli
from qcompiler.cli.arguments import typed_command, typed_words
from qcompiler.cli.auto import AUTO, Auto, facts_of_search, searched
from qcompiler.cli.command import command
from qcompiler.cli.data import Reading
from qcompiler.cli.logs import is_quiet

if TYPE_CHECKING:
    from pathlib import Path

    from qcompiler.auto.outcome import SearchResult
    from qcompiler.calibration.collect import Progress
    from qcompiler.report.facts import CompileFacts
    from qcompiler.report.search_facts import SearchFacts
    from qcompiler.result import CompileResult


@command
def compile_command(
    model: cli.Model,
    *,
    passes: cli.Passes = None,
    recipe: cli.Recipe = None,
    target: cli.Target = None,
    size_first: cli.SizeFirst = False,
    include: cli.Include = None,
    exclude: cli.Exclude = None,
    opset: cli.Opset = 21,
    calib: cli.Calib = None,
    reading: Reading,
    auto: Auto,
    checks: cli.Checks,
    output: cli.Output = None,
    external_data: cli.ExternalData = None,
    max_ram: cli.MaxRam = None,
    report: cli.Report = None,
    json: cli.Json = False,
) -> None:
    """Compile a model: quantize it, lower it to the target, verify it.

    Example: qcompile model.onnx --passes smoothquant,int8_static --calib data.npz -o out/
    """
    from qcompiler.budget import parse_size
    from qcompiler.cli.progress import progress_display
    from qcompiler.driver import compile as compile_model
    from qcompiler.report.html.write import require_writable
    from qcompiler.request import CompileOptions

    options = CompileOptions(
        verify=checks.verify,
        verify_data=checks.verify_data,
        strict=checks.strict,
        min_cosine=checks.min_cosine,
        threads=checks.threads,
        data=reading.options(model),
        opset=opset,
        external=external_data,
        max_ram_bytes=None if max_ram is None else parse_size(max_ram),
    )
    if report is not None:
        require_writable(report)
    chosen = cli.with_size_first(target, beside_recipe=recipe is not None) if size_first else target
    found = None
    if passes != AUTO:
        auto.refuse_without_auto()
    with progress_display("searching" if passes == AUTO else "compiling") as progress:
        if passes == AUTO:
            found = searched(
                auto, model, recipe, calib, chosen, (include or (), exclude or ()), output, options, progress
            )
            result = found.result
        else:
            result = compile_model(
                model,
                passes,
                recipe=recipe,
                calibration=calib,
                target=chosen,
                include=include or (),
                exclude=exclude or (),
                output=output,
                options=options,
                progress=progress,
            )
        facts, of_search = _told(
            result, found, model, auto, checks, report, progress, chose_target=target is None
        )
    _show(facts, of_search, json=json)


def _told(
    result: CompileResult,
    found: SearchResult | None,
    model: Path,
    auto: Auto,
    checks: cli.Checks,
    report: Path | None,
    progress: Progress | None,
    *,
    chose_target: bool,
) -> tuple[CompileFacts, SearchFacts | None]:
    """What is shown of a result and of the search that it was part of; the page is written if it is asked for."""
    from qcompiler.report.gather import gather
    from qcompiler.report.html.write import report_result

    facts = gather(
        result,
        model,
        threads=checks.threads,
        verified_on=str(checks.verify_data or "random numbers"),
        typed=typed_words(),
        reasons=None if found is None else found.reasons,
    )
    search = None if found is None else facts_of_search(found, facts, auto, chose_target=chose_target)
    if report is None:
        return facts, search
    report_result(result, report, facts=facts, command=typed_command(), search=search, progress=progress)
    facts = replace(facts, report=str(report))
    if search is not None:
        search = replace(search, compiled=replace(search.compiled, report=str(report)))
    return facts, search


def _show(facts: CompileFacts, found: SearchFacts | None, *, json: bool) -> None:
    """Print the facts of a compile, or of the search that it was part of."""
    from qcompiler.report.json import to_json
    from qcompiler.report.search import print_search
    from qcompiler.report.terminal import print_report

    if json:
        print(to_json(facts if found is None else found))
    elif not is_quiet():
        print_report(facts) if found is None else print_search(found)
