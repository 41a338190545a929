"""Values of one name that are not the same: scaled, equalized or rotated by a transform, or matched wrongly.

Such a value is wrong where it is made, what reads it is wrong on the float model's value, and both are right together.
Two signs of it: an error far above rounding, and an error alone, on float inputs, above that of the whole model at the
same place. Matches around such parts are dropped until what is left is right; where nothing becomes right the parts
are at fault, and their matches come back.
"""

from __future__ import annotations

import functools
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from qcompiler.diagnosis.errors import Scene, gathered_errors, weight_errors, with_matches
from qcompiler.diagnosis.quantizers import EXPOSED
from qcompiler.diagnosis.segments import Segment

FLOAT_DB = 60.0
"""Above this a part that is not quantized computes what the float model does."""

_ROUNDS = 4
_UNUSUAL_DB = 8.0
_CLEARLY_DB = 10.0
_SLIGHTLY_DB = 3.0


def without_transformed(here: Scene) -> Scene:
    """The scene without matches of transformed values."""
    gathered = {name: found.sqnr_db for name, found in gathered_errors(here).items()}
    first = _View(here, _alone(here), gathered)
    dropped: set[str] = set()
    last = first
    for _ in range(_ROUNDS):
        suspects = last.suspects()
        if not suspects:
            break
        dropped |= suspects
        last = _View(*_tried(here, dropped), gathered)
    if not dropped:
        return here
    guilty: set[str] = set()
    for group in _groups(here, first.wrong(), dropped):
        if not _is_explained(group, first, last):
            guilty |= group
    kept = dropped - guilty
    final = _View(*_tried(here, kept), gathered) if guilty else last
    return with_matches(here, here.matches.without(kept - _restorable(final, here, kept)))


def _tried(here: Scene, dropped: set[str]) -> tuple[Scene, dict[str, float]]:
    tried = with_matches(here, here.matches.without(dropped))
    return tried, _alone(tried)


def _restorable(final: _View, here: Scene, dropped: set[str]) -> set[str]:
    """Dropped values that are no worse than rounding makes them, and with which no part becomes wrong again."""
    fine = {
        part.value
        for part in here.parts
        if part.value in dropped and final.gathered[part.lifted] >= _rounding_db(part)
    }
    if not fine:
        return set()
    again = _View(*_tried(here, dropped - fine), final.gathered)
    before = {part.value for part in final.wrong()}
    worse = [part for part in again.wrong() if part.value not in before]
    bad = {name for part in worse for name in (part.value, *part.inputs)}
    return {name for group in _groups(here, [], fine) if not group & bad for name in group & fine}


def wrong_db(part: Segment) -> float:
    """The SQNR below which a part alone is not merely imprecise."""
    if not part.quantized and not any(str(node.name).endswith(EXPOSED) for node in part.nodes):
        return FLOAT_DB
    return _rounding_db(part)


def _rounding_db(part: Segment) -> float:
    return 25.0 if part.bits >= 8 else 10.0 if part.bits >= 4 else 3.0


def _alone(here: Scene) -> dict[str, float]:
    return {name: found.sqnr_db for name, found in weight_errors(here).items()}


@dataclass(frozen=True)
class _View:
    here: Scene
    alone: Mapping[str, float]
    gathered: Mapping[str, float]

    def is_wrong(self, part: Segment) -> bool:
        low = max(wrong_db(part), self.usual_db.get(part.bits, 0.0) - _UNUSUAL_DB if part.quantized else 0.0)
        return self.alone[part.lifted] < low or self.is_contradictory(part)

    @functools.cached_property
    def usual_db(self) -> dict[int, float]:
        """Median of the quantized parts, by their bits."""
        found: dict[int, list[float]] = defaultdict(list)
        for part in self.here.parts:
            if part.quantized:
                found[part.bits].append(self.alone[part.lifted])
        return {bits: statistics.median(values) for bits, values in found.items()}

    def is_contradictory(self, part: Segment) -> bool:
        """Whether float inputs make a part worse than the inputs that it gets."""
        return self.alone[part.lifted] < min(self.gathered[part.lifted], FLOAT_DB) - _SLIGHTLY_DB

    def wrong(self) -> list[Segment]:
        return [part for part in self.here.parts if self.is_wrong(part)]

    def suspects(self) -> set[str]:
        """Values not to match: of wrong parts those inputs that are wrong, or worse in the quantized model than what is
        made of them, and what these are made of if worse too; else, of float parts, what the part makes."""
        makers = {part.value: part for part in self.here.parts}
        public = {str(value.name) for value in self.here.lifted.model.graph.outputs}
        found: set[str] = set()
        for part in self.wrong():
            inputs = self._bad_inputs(part, makers)
            if not inputs and wrong_db(part) == FLOAT_DB and part.lifted not in public:
                inputs = {part.value}
            found |= inputs
        return found

    def _bad_inputs(self, part: Segment, makers: Mapping[str, Segment]) -> set[str]:
        limit = self.gathered[part.lifted] - _SLIGHTLY_DB
        pending = [makers[name] for name in part.inputs if name in makers]
        found = {maker.value for maker in pending if self.is_wrong(maker)}
        while pending:
            maker = pending.pop()
            if self.gathered[maker.lifted] < limit and maker.value not in found:
                found.add(maker.value)
                pending += [makers[name] for name in maker.inputs if name in makers]
        return found


def _is_explained(group: set[str], first: _View, last: _View) -> bool:
    """Whether every wrong part of a group that still stands has become right, or none was and no reader got worse."""
    standing = {part.value: part for part in last.here.parts}
    left = [part for part in first.wrong() if part.value in group and part.value in standing]
    for part in left:
        now = standing[part.value]
        gain = last.alone[now.lifted] - first.alone[part.lifted]
        enough = _SLIGHTLY_DB if first.is_contradictory(part) else _CLEARLY_DB
        if last.is_wrong(now) or gain < enough:
            return False
    if left:
        return True
    readers = [part for part in first.here.parts if group & set(part.inputs) and part.value in standing]
    worse = [
        part
        for part in readers
        if last.alone[standing[part.value].lifted] < first.alone[part.lifted] - _SLIGHTLY_DB
    ]
    return bool(readers) and not worse


def _groups(here: Scene, wrong: list[Segment], dropped: set[str]) -> list[set[str]]:
    """Wrong parts and dropped values that read one another, by the names of the values."""
    names = {part.value for part in wrong} | dropped
    groups: list[set[str]] = []
    for part in here.parts:
        if part.value not in names:
            continue
        linked = {part.value, *(name for name in part.inputs if name in names)}
        touching = [group for group in groups if group & linked]
        groups = [group for group in groups if not group & linked]
        groups.append(set().union(linked, *touching))
    return groups
