"""How much each choice of each group costs: the loss when this group alone takes it and all others stay in float.

For every choice the model is built once with the choice everywhere, and its groups are switched on one after another in
one session (``switchboard``).  Where a pass has changed more of a model than can be switched, every group is built
alone instead.  What was measured is kept in the journal, a key for each pair, so a search that goes on does not measure
again; nothing depends on timing or on random numbers.  Of many weight-only choices two are measured, and the others
follow from the energy of their errors (``second_order``).

Losses are KL or relative error to the float model (``yardstick``) on the first feeds of the calibration data: as many
as give ``ROWS`` rows of output (positions of a language model, pictures of a classifier) and ``SAMPLES`` samples, at
most ``FEEDS``; of large models fewer.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.auto.facts import FLOAT, Choice, Group, Problem, Table, Workbench
from qcompiler.auto.losses.second_order import (
    Anchors,
    Energies,
    anchors_of,
    between,
    ordered_columns,
)
from qcompiler.auto.losses.switchboard import Switchboard
from qcompiler.auto.losses.yardstick import Yardstick, first_feeds, judged_outputs, rows_of
from qcompiler.auto.metrics.metric import Metric
from qcompiler.data.feeds import Feed
from qcompiler.errors import QCompilerError
from qcompiler.verify.segmented import weight_bytes

logger = logging.getLogger(__name__)

ROWS, SAMPLES, FEEDS = 256, 4, 24
LEAST_ROWS = 128
JUDGED_ROWS, JUDGED_FEEDS = 2048, 64
"""Of what whole models are measured on: 512 rows tell solvers of a language model apart by 10 % of its KL."""
ROW_BYTES = 5e11
"""Bytes of weights times rows: of a model of more than 2 GB fewer rows are looked at, as each takes so much longer."""
OFF_LOSS = 1e-6
"""Loss of a model with every switch off above which more was changed than switches undo: rounding of float32 gives
1e-10, and one group of 8-bit weights 1e-5."""


def loss_table(problem: Problem, bench: Workbench, metric: Metric) -> Table:
    """``[groups, choices]`` losses of single groups; 0 for float, NaN where a choice is not allowed.

    The unit is that of the metric's surrogate: nats, or a ratio of energies (``Metric.surrogate_of`` converts a bound).

    Raises:
        CalibrationError: there is no data to run the model on, or it does not fit.
    """
    feeds = loss_feeds(bench)
    yardstick = Yardstick.of(bench.reference, feeds, kind=metric.surrogate, threads=bench.threads)
    anchors = anchors_of(problem)
    energies = None if anchors is None else Energies(problem, bench, feeds)
    table, energy = (np.full(problem.allowed.shape, np.nan) for _ in range(2))
    table[:, problem.choice(FLOAT)] = 0.0
    total, done = int(problem.allowed.sum()) - len(problem.groups), 0
    for column in ordered_columns(problem, anchors):
        choice = problem.choices[column]
        measuring = _Measuring(problem, bench, choice, yardstick)
        for row in np.flatnonzero(problem.allowed[:, column]):
            bench.tell(f"measuring what {choice.name} costs", done, total)
            group, done = problem.groups[row], done + 1
            if energies is not None and energies.covers(group):
                energy[row, column] = measuring.energy(group, energies)
            following = anchors is not None and column not in anchors
            known = (
                _following(problem, column, anchors, energy[row], table[row])
                if anchors and following
                else None
            )
            table[row, column] = measuring.of_group(group) if known is None else known
        if not choice.weight_only:
            _share_out(problem, measuring, table[:, column])
    return table


def _share_out(problem: Problem, measuring: _Measuring, losses: Table) -> None:
    """Let groups that read one activation lose together what they do together.

    Each alone loses what codes of the activation cost all of them.

    Args:
        problem: names the groups.
        measuring: of one choice.
        losses: ``[groups]`` of it, changed in place.
    """
    for rows in problem.shared:
        known = [row for row in rows if np.isfinite(losses[row])]
        together = measuring.of_groups([problem.groups[row] for row in known]) if len(known) > 1 else None
        alone = float(losses[known].sum())
        if together is not None and alone > 0:
            losses[known] *= together / alone


def _following(problem: Problem, column: int, anchors: Anchors, energy: Table, loss: Table) -> float | None:
    """The loss of a group's choice as it follows from measured ones; None where it must be measured.

    Args:
        problem: names the choices.
        column: the choice.
        anchors: the weight-only choices that are measured.
        energy: ``[choices]`` of the group, NaN where not known.
        loss: ``[choices]``, so too.
    """
    measured = [anchors.most_bits, anchors.fewest_bits]
    base = problem.wide(column)
    if base is None and not problem.choices[column].weight_only:
        return None
    needed = [column, *measured] if base is None else [column, base, *measured]
    if not (np.isfinite(energy[needed]).all() and np.isfinite(loss[needed[1:]]).all()):
        return None
    low, high = ((float(energy[at]), float(loss[at])) for at in measured)
    found = between(energy[column], low, high)
    return found if base is None else float(loss[base]) + max(found - between(energy[base], low, high), 0.0)


def loss_feeds(bench: Workbench) -> list[Feed]:
    """The feeds that losses of groups are measured on, held in memory."""
    return _enough(bench, first_feeds(bench.samples.calibration or bench.samples.held_out, FEEDS), ROWS)


def unseen_feeds(bench: Workbench) -> list[Feed]:
    """The feeds that the loss of whole models is measured on, held in memory.

    Codes are solved for calibration data, so these are of what is held out, and more, since a model takes one run of
    each and not one for every group; where too little is held out, calibration data too.
    """
    kept = _enough(bench, first_feeds(bench.samples.held_out, JUDGED_FEEDS), JUDGED_ROWS)
    if bench.samples.calibration is None or len(kept) >= FEEDS:
        return kept
    return _enough(bench, [*kept, *loss_feeds(bench)], ROWS, len(kept))


def _enough(bench: Workbench, feeds: Sequence[Feed], most: int, fewest: int = 1) -> list[Feed]:
    """The first ``fewest`` feeds and as many more as give ``most`` rows of output (fewer of large models)."""
    from qcompiler.auto.losses.streams import float_session
    from qcompiler.backends.run_feed import run_feed

    names = judged_outputs(bench.reference)
    session = float_session(bench.reference, names[:1], threads=bench.threads)
    wanted = int(np.clip(ROW_BYTES / max(weight_bytes(bench.reference), 1), LEAST_ROWS, most))
    least = SAMPLES if wanted == most else 1
    rows, samples, kept = 0, 0, list[Feed]()
    for index, feed in enumerate(feeds):
        if rows >= wanted and samples >= least and len(kept) >= fewest:
            break
        kept.append(feed)
        found = np.asarray(run_feed(session, feed, index)[names[0]])
        rows, samples = rows + len(rows_of(found, feed, None)), samples + len(np.atleast_1d(found))
    return kept


@dataclass
class _Measuring:
    """Losses of one choice; its model is built when the first loss is not in the journal."""

    problem: Problem
    bench: Workbench
    choice: Choice
    yardstick: Yardstick
    _board: Switchboard | None = field(default=None, init=False)
    _opened: bool = field(default=False, init=False)
    _transformed: bool = field(default=False, init=False)

    def of_group(self, group: Group) -> float:
        key = f"loss/{self.yardstick.kind}/{self.choice.words}/{group.name}"
        return recalled_number(self.bench, key, lambda: self._measured(group))

    def of_groups(self, groups: Sequence[Group]) -> float | None:
        """Loss of several groups at once; None where they cannot be switched."""

        def measure() -> float:
            board = self._switchboard()
            if board is None:
                return math.nan
            board.switch([group.name for group in groups])
            return self.yardstick.of_outputs(board.outputs(self.yardstick.feeds))

        names = "|".join(group.name for group in groups)
        found = recalled_number(
            self.bench, f"loss/{self.yardstick.kind}/{self.choice.words}/{names}", measure
        )
        return None if math.isnan(found) else found

    def energy(self, group: Group, energies: Energies) -> float:
        """Energy of the group's errors; NaN where they are not errors of the weights that the float model has."""

        def measure() -> float:
            board = self._switchboard()
            errors = None if board is None or self._transformed else board.errors(group)
            return math.nan if errors is None else energies.of(group, errors)

        return recalled_number(self.bench, f"energy/{self.choice.words}/{group.name}", measure)

    def _measured(self, group: Group) -> float:
        board = self._switchboard()
        if board is None:
            return self._alone(group)
        if not board.touches(group.name):
            return 0.0  # the pass left it in float
        board.switch([group.name])
        return self.yardstick.of_outputs(board.outputs(self.yardstick.feeds))

    def _switchboard(self) -> Switchboard | None:
        if not self._opened:
            self._opened = True
            self._board = self._checked()
        return self._board

    def _checked(self) -> Switchboard | None:
        """The switchboard of the uniform model; None where it is not the float model with every switch off."""
        built = self.bench.build(self.problem.uniform(self.choice.name))
        self._transformed = any(report.count("transformed") for report in built.passes)
        try:
            board = Switchboard(built.dialect, self.problem.groups, threads=self.bench.threads)
            off = self.yardstick.of_outputs(board.outputs(self.yardstick.feeds))
        except QCompilerError as error:
            logger.info("%s: groups are built one by one: %s", self.choice.name, error)
            return None
        if off > OFF_LOSS:
            logger.info(
                "%s: groups are built one by one: with all in float the loss is %g", self.choice.name, off
            )
            return None
        return board

    def _alone(self, group: Group) -> float:
        from qcompiler.verify.observed import OracleModel

        dialect = self.bench.build({group.name: self.choice.name}).dialect
        session = OracleModel(dialect, threads=self.bench.threads).session(self.yardstick.outputs)
        return self.yardstick.loss(session)


def recalled_number(bench: Workbench, key: str, measure: Callable[[], float]) -> float:
    """A figure that the journal knows, or ``measure`` gives."""

    def solve() -> Mapping[str, npt.NDArray[Any]]:
        return {"value": np.array(measure(), np.float64)}

    return float(bench.journal.recall(key, solve)["value"])
