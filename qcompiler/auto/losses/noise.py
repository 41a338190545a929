"""Losses of choices from the energies of their errors, by noise in the float model.

Of a few groups of every role the loss is measured with noise of two strengths: that of the choice with the most energy,
and that of one in the middle.  Between them the loss follows the line in logarithms through both (its slope is 1 to
second order), and groups between measured ones follow lines in logarithms too, of the loss that an energy makes.

The noise of a weight is its error when it is rounded to nearest, scaled.  Losses of many groups at once are more than
their sum where they are large; noise in every group shows by how much, for three choices of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.auto.facts import Problem, Table, Workbench
from qcompiler.auto.losses.columns import (
    Energies,
    Owner,
    context_of,
    format_of,
    noise_choice,
    noise_of,
    owners_of,
)
from qcompiler.auto.losses.second_order import between
from qcompiler.auto.losses.streams import Array, Noise, Stream, stream_losses
from qcompiler.auto.losses.yardstick import Yardstick
from qcompiler.auto.problem.roles import Role

LEAST_FACTOR, MOST_FACTOR = 0.5, 5.0
"""What noise in every group loses is seldom further from the sum of the groups' losses."""


@dataclass
class NoiseLosses:
    """Losses of choices.

    Attributes:
        problem: names them.
        bench: the search's.
        yardstick: has learnt from the float model.
        roles: of the groups.
        energies: of errors.
    """

    problem: Problem
    bench: Workbench
    yardstick: Yardstick
    roles: Sequence[Role]
    energies: Energies

    def table(self) -> Table:
        """``[groups, choices]``; 0 for float, NaN where a choice is not allowed or stores no weights alone."""
        solved = self.energies.solved
        strong, weak = np.array([_ends(row) for row in solved]).T
        sampled = [row for role in self.roles for row in role.sampled() if weak[row] > 0]
        columns = self._columns()
        streams = [Stream(self._shares(row, energy[row])) for row in sampled for energy in (weak, strong)]
        streams += [Stream(self._everywhere(column)) for column in columns]
        losses = self._measured(streams)
        pairs = dict(zip(sampled, zip(losses[::2], losses[1::2], strict=False), strict=False))
        found = np.where(np.isfinite(solved), 0.0, np.nan)
        for role in self.roles:
            known = [row for row in role.rows if row in pairs]
            low = role.spread({row: pairs[row][0] / weak[row] for row in known})
            high = role.spread({row: pairs[row][1] / strong[row] for row in known})
            for row in role.rows:
                ends = (weak[row], low[row] * weak[row]), (strong[row], high[row] * strong[row])
                found[row] = [
                    energy if np.isnan(energy) else between(energy, *ends) for energy in solved[row]
                ]
        return put_right(found, dict(zip(columns, losses[2 * len(sampled) :], strict=True)))

    def _columns(self) -> list[int]:
        """Choices that noise is put into every group for: of the least, middle and most energy of all groups."""
        totals = np.nansum(self.energies.solved, axis=0)
        ordered = [int(at) for at in np.argsort(totals, kind="stable") if totals[at] > 0]
        return list(dict.fromkeys(ordered[at] for at in (0, len(ordered) // 2, -1))) if ordered else []

    def _measured(self, streams: Sequence[Stream]) -> list[float]:
        """Losses of streams, from the journal where they were measured before."""

        def measure() -> Mapping[str, npt.NDArray[np.float64]]:
            found = stream_losses(
                self.bench.reference,
                streams,
                self._noise(),
                self.yardstick,
                threads=self.bench.threads,
                tell=lambda done, total: self.bench.tell("estimating losses", done, total),
            )
            return {"losses": np.array(found, np.float64)}

        return [float(loss) for loss in self.bench.journal.recall("streams", measure)["losses"]]

    def _noise(self) -> Noise:
        owners: dict[str, Owner] = {str(each.view.weight.name): each for each in self._owners}
        context = context_of(self.bench)

        def noise(name: str) -> Array:
            view = owners[name].view
            column = noise_choice(self.problem, owners[name].row)
            assert column is not None
            error = noise_of(view.matrix(), format_of(self.problem, column, view, context))
            moved = np.moveaxis(np.empty(view.weight_shape, np.bool_), view.output_axis, -1).shape
            return np.moveaxis(error.reshape(moved), -1, view.output_axis)

        return noise

    @property
    def _owners(self) -> list[Owner]:
        return owners_of(self.problem, self.bench)

    def _shares(self, row: int, energy: float) -> dict[str, float]:
        """How much of the noise of each weight of a group has this energy in all."""
        weights = [str(each.view.weight.name) for each in self._owners if each.row == row]
        total = sum(self.energies.rounded[name] for name in weights)
        return dict.fromkeys(weights, float(np.sqrt(energy / total)) if total > 0 else 0.0)

    def _everywhere(self, column: int) -> dict[str, float]:
        """The noise of a choice that is taken wherever it may be."""
        found: dict[str, float] = {}
        for row, energy in enumerate(self.energies.solved[:, column]):
            found |= self._shares(row, float(energy)) if energy > 0 else {}
        return found


def _ends(energies: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The most of a group's energies, and one in the middle; 0 where it has none."""
    positive = np.sort(energies[np.nan_to_num(energies) > 0])
    return (float(positive[-1]), float(positive[len(positive) // 2])) if len(positive) else (0.0, 0.0)


def put_right(losses: Table, uniform: Mapping[int, float]) -> Table:
    """Losses times what makes some choices add up to what they lose everywhere at once.

    Args:
        losses: ``[groups, choices]``.
        uniform: what choices lose that are taken everywhere, by index; factors of others lie between theirs.
    """
    sums = np.nansum(losses, axis=0)
    known = sorted(
        (column for column, loss in uniform.items() if loss > 0 and sums[column] > 0), key=sums.__getitem__
    )
    if not known:
        return losses
    factors = [np.clip(uniform[column] / sums[column], LEAST_FACTOR, MOST_FACTOR) for column in known]
    places = np.log(np.maximum(sums, 1e-30))
    found: Table = losses * np.exp(np.interp(places, places[known], np.log(factors)))
    return found
