"""``qcompile diagnose`` on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from qcompiler.report.console import heading, plain_table, print_list, print_table, print_text, stdout_console
from qcompiler.report.layers import by_layer
from qcompiler.verify.metrics import EXACT_DB, format_db

if TYPE_CHECKING:
    from qcompiler.diagnosis.facts import ActivationReport, Diagnosis, NodeFacts

NOTHING = "-"


def print_diagnosis(found: Diagnosis, worst: int) -> None:
    """Print the verdict, what to do, and the ``worst`` worst nodes and activations."""
    console = stdout_console()
    console.print(f"{found.quantized} against {found.reference}", style="bold", soft_wrap=True)
    console.print(f"  on {found.data}", soft_wrap=True)
    kinds = Counter(item.kind for item in found.nodes if item.kind for _ in item.members)
    stored = [f"{count} weights {kind}" for kind, count in kinds.items()]
    activations = [f"{len(found.activations)} quantized activations"] if found.activations else []
    console.print(f"  {', '.join([*stored, *activations])}", soft_wrap=True)
    heading(console, "Outputs")
    _print_outputs(console, found)
    heading(console, "Verdict")
    print_list(console, found.verdict)
    _print_remedies(console, found)
    _print_nodes(console, found.nodes, worst)
    _print_activations(console, found.activations, worst)
    _print_weights(console, found.nodes, worst)
    _print_growth(console, found)
    if found.notes:
        heading(console, "Notes")
        print_list(console, found.notes)


def _print_outputs(console: Console, found: Diagnosis) -> None:
    table = plain_table("as written", "as run", "cosine", "output", right=("as written", "as run", "cosine"))
    for name, item in by_layer(found.outputs):
        written = format_db(item.sqnr_db) if item.is_float else f"{item.exact_share:.1%} equal"
        run = format_db(item.deployed_db) if item.deployed_db is not None and item.is_float else NOTHING
        table.add_row(written, run, f"{item.cosine:.4f}" if item.is_float else "", name)
    print_table(console, table)


def _print_remedies(console: Console, found: Diagnosis) -> None:
    if not found.remedies:
        return
    heading(console, "What to do")
    for item in found.remedies:
        print_text(console, f"# {item.text}", style="dim")
        console.print(f"  {item.command}", soft_wrap=True)


def _print_nodes(console: Console, nodes: Sequence[NodeFacts], worst: int) -> None:
    shown = sorted(nodes, key=_rank)[:worst]
    if not shown:
        return
    heading(console, f"Nodes ({len(shown)} worst of {len(nodes)} quantized; SQNR in dB)")
    figures = ("weights", "alone", "gathered", "only", "without")
    table = plain_table(*figures, "node", right=figures)
    for item in shown:
        effect = item.effect
        table.add_row(
            _db(item.weights_db),
            _db(item.alone_db),
            _db(item.gathered_db),
            _db(effect.only) if effect is not None else NOTHING,
            _db(effect.without) if effect is not None else NOTHING,
            " + ".join(item.members),
        )
    print_table(console, table)
    legend = (
        "weights: its output with float activations; alone: with float inputs that it quantizes; gathered: in the "
        "quantized model; only: the model's output with this node alone quantized; without: with it alone in float"
    )
    print_text(console, legend, style="dim")


def _rank(item: NodeFacts) -> tuple[bool, float]:
    effect = item.effect
    return (effect is None, effect.only if effect is not None else item.weights_db)


def _print_activations(console: Console, activations: Sequence[ActivationReport], worst: int) -> None:
    order = sorted(
        activations, key=lambda a: (a.effect is None, a.effect.only if a.effect is not None else a.sqnr_db)
    )
    shown = order[:worst]
    if not shown:
        return
    heading(console, f"Activations ({len(shown)} worst of {len(activations)} quantized; SQNR in dB)")
    right = ("alone", "only", "without", "clipped", "outliers")
    table = plain_table(
        "alone", "only", "without", "values", "clip range", "clipped", "outliers", "activation", right=right
    )
    for item in shown:
        facts, effect = item.facts, item.effect
        dynamic = facts.clip_low is None or facts.clip_high is None
        table.add_row(
            _db(item.sqnr_db),
            _db(effect.only) if effect is not None else NOTHING,
            _db(effect.without) if effect is not None else NOTHING,
            _range(facts.low, facts.high),
            "run time" if dynamic else _range(facts.clip_low or 0.0, facts.clip_high or 0.0),
            NOTHING if dynamic else f"{facts.clipped_share:.1%}",
            f"{len(facts.outlier_channels)}/{facts.channels}" if facts.outlier_channels else NOTHING,
            item.name,
        )
    print_table(console, table)


def _print_weights(console: Console, nodes: Sequence[NodeFacts], worst: int) -> None:
    faulty = [(node, facts) for node in nodes for facts in node.weights if facts.fault is not None]
    if not faulty:
        return
    heading(console, "Weights that are stored wrongly")
    print_list(
        console,
        [f"{node.name}, {facts.name}: {facts.fault.text}" for node, facts in faulty[:worst] if facts.fault],
    )


def _print_growth(console: Console, found: Diagnosis) -> None:
    if not found.growth:
        return
    heading(console, "Where the error grows (SQNR in dB)")
    figures = ("inputs", "output", "alone")
    table = plain_table(*figures, "op", "node", right=figures)
    for item in found.growth:
        table.add_row(_db(item.before_db), _db(item.after_db), _db(item.alone_db), item.op_type, item.node)
    print_table(console, table)


def _db(value: float) -> str:
    if value >= EXACT_DB:
        return "exact"
    return "none" if value <= -EXACT_DB else f"{value:.1f}"


def _range(low: float, high: float) -> str:
    return f"{low:.2g}..{high:.2g}"
