"""A pass with the nodes that it is for, where these are not all that the request is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from qcompiler.errors import OptionError
from qcompiler.pipeline.base import NodeDecision, Pass, PassReport
from qcompiler.prepare.select import select_nodes

if TYPE_CHECKING:
    from qcompiler.pipeline.options import Scalar

NODE_KEYS = ("include", "exclude")
"""Keys beside the options of a pass in a recipe."""

UNSELECTED = "no pass of the recipe is for it"


@dataclass(frozen=True)
class Selected:
    """A pass for some of the nodes that the request is for: those that ``include`` leaves and ``exclude`` does not.

    Attributes:
        item: the pass; it may stand in a pipeline several times, with other options for other nodes.
        include: globs of node names, as in ``--include``; empty: all.
        exclude: globs of node names, as in ``--exclude``.
    """

    item: Pass
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether it has a selection of its own."""
        return bool(self.include or self.exclude)

    def nodes(self, model: ir.Model) -> frozenset[str]:
        """Names of the nodes of a prepared model that it is for.

        Raises:
            OptionError: a glob that matches no node.
        """
        return select_nodes(model, self.include, self.exclude, owner=f"pass {self.item.name}: ")


def selected(given: Pass | Selected) -> Selected:
    """A pass without a selection of its own is for all nodes."""
    return given if isinstance(given, Selected) else Selected(given)


def selections(model: ir.Model, steps: Sequence[Selected]) -> tuple[frozenset[str] | None, ...]:
    """The nodes of each pass; None where it is for all.

    Raises:
        OptionError: a glob that matches no node.
    """
    return tuple(step.nodes(model) if step.is_partial else None for step in steps)


def key_of(steps: Sequence[Selected]) -> Mapping[str, Sequence[Sequence[str]]]:
    """What the selections add to the key of a compile that can be resumed; nothing where there are none."""
    if not any(step.is_partial for step in steps):
        return {}
    return {"nodes of passes": [[*step.include, "", *step.exclude] for step in steps]}


def reported(
    reports: Sequence[PassReport], own: Sequence[frozenset[str] | None], model: ir.Model
) -> tuple[PassReport, ...]:
    """``reports``, each without the nodes that its pass was not for; those that no pass was for stay in the first."""
    if not any(names is not None for names in own):
        return tuple(reports)
    kept = [_kept(report, names) for report, names in zip(reports, own, strict=True)]
    seen = {decision.node for report in kept for decision in report.nodes}
    rest: dict[str, NodeDecision] = {}
    for report in reports:
        for decision in report.nodes:
            if decision.node not in seen:
                rest.setdefault(decision.node, replace(decision, detail=UNSELECTED))
    order = {str(node.name): at for at, node in enumerate(model.graph.all_nodes())}
    first = next(at for at, names in enumerate(own) if names is not None)
    nodes = sorted((*kept[first].nodes, *rest.values()), key=lambda item: order.get(item.node, len(order)))
    kept[first] = replace(kept[first], nodes=tuple(nodes))
    return tuple(kept)


def _kept(report: PassReport, names: frozenset[str] | None) -> PassReport:
    if names is None:
        return report
    nodes = (item for item in report.nodes if item.node in names or item.action != "skipped")
    return replace(report, nodes=tuple(nodes))


def split_options(
    options: Mapping[str, Scalar | list[str]],
) -> tuple[dict[str, Scalar], dict[str, tuple[str, ...]]]:
    """The options of a pass in a recipe, and its ``include`` and ``exclude``.

    Raises:
        OptionError: a list where a pass takes one value.
    """
    globs: dict[str, tuple[str, ...]] = {}
    plain: dict[str, Scalar] = {}
    for name, value in options.items():
        if name in NODE_KEYS:
            globs[name] = tuple(value) if isinstance(value, list) else (str(value),)
        elif isinstance(value, list):
            raise OptionError(
                f"option {name!r} of a pass in a recipe is a list, expected one value; only include "
                "and exclude are lists."
            )
        else:
            plain[name] = value
    return plain, globs
