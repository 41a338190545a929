"""Comparing values inside two models, feed by feed, in groups small enough for memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from qcompiler.backends.run_feed import run_feed
from qcompiler.data.feeds import Array, Feed
from qcompiler.verify.comparison import NodeComparison, Unobserved, node_comparison
from qcompiler.verify.metrics import Difference
from qcompiler.verify.observed import ObservedModel, is_float
from qcompiler.verify.points import Point
from qcompiler.verify.rescaling import SUSPICIOUS_DB, ChannelFit, rescaled_db

GROUP_BYTES = 256 << 20
"""What the observed values of one feed may take in both models together; more values take more runs."""

_ELEMENT_BYTES = 8
"""A float32 in each of the two models."""


def compare_inside(
    a: ObservedModel,
    b: ObservedModel,
    points: Sequence[Point],
    feeds: Iterable[Feed],
    *,
    name_of: Callable[[str], tuple[str, str]],
    group_bytes: int = GROUP_BYTES,
    allow_rescaling: bool = False,
) -> tuple[tuple[NodeComparison, ...], tuple[Unobserved, ...]]:
    """Compare every point over all feeds.

    Args:
        a: the reference.
        b: the model compared with it.
        points: where to look; those that hold no floats are left out.
        feeds: iterated once per group.
        name_of: name and op type of the node that makes a value, by the point's label.
        group_bytes: bound of the memory that observed values take.
        allow_rescaling: whether a scale per channel counts as no error, and is told instead.

    Returns:
        The comparisons in the order of ``points``, and the points whose values have different shapes.
    """
    repeatable = list(feeds) if isinstance(feeds, Iterator) else feeds
    first = next(iter(repeatable), None)
    if not points or first is None:
        return (), ()
    floats = a.float_values([point.a for point in points], first)
    usable = [point for point in points if point.a in floats]
    differences: dict[str, Difference] = defaultdict(Difference)
    axes = (1, -1) if allow_rescaling else ()
    fits = {point.label: tuple(ChannelFit(axis) for axis in axes) for point in usable}
    for group in _groups(a, usable, first, group_bytes):
        _run_group(a, b, group, repeatable, differences, fits)
    compared, unobserved = [], []
    for point in usable:
        if point.label not in differences:
            continue
        difference = differences[point.label]
        if difference.shape_mismatches:
            unobserved.append(Unobserved(point.label, "its shape is another in each model"))
            continue
        item = node_comparison(point.label, *name_of(point.label), difference, is_float=True)
        fitted = rescaled_db(fits[point.label], item.sqnr_db)
        compared.append(item if fitted is None else replace(item, sqnr_db=fitted, rescaled=True))
    return tuple(compared), tuple(unobserved)


def _groups(a: ObservedModel, points: Sequence[Point], feed: Feed, group_bytes: int) -> Iterator[list[Point]]:
    if not points:
        return
    counts = a.element_counts([point.a for point in points], feed)
    group: list[Point] = []
    held = 0
    for point in points:
        size = counts[point.a] * _ELEMENT_BYTES
        if group and held + size > group_bytes:
            yield group
            group, held = [], 0
        group.append(point)
        held += size
    yield group


def _run_group(
    a: ObservedModel,
    b: ObservedModel,
    points: Sequence[Point],
    feeds: Iterable[Feed],
    differences: dict[str, Difference],
    fits: Mapping[str, tuple[ChannelFit, ...]],
) -> None:
    session_a = a.session([point.a for point in points])
    session_b = b.session([point.b for point in points])
    for index, feed in enumerate(feeds):
        found_a, found_b = run_feed(session_a, feed, index), run_feed(session_b, feed, index)
        for point in points:
            if point.decode is None and not is_float(found_b[point.b]):
                continue
            array_a, array_b = found_a[point.a], _read(found_b[point.b], point)
            differences[point.label].update(array_a, array_b)
            if differences[point.label].sqnr_db < SUSPICIOUS_DB:
                for fit in fits[point.label]:
                    fit.update(array_a, array_b)


def _read(array: Array, point: Point) -> Array:
    is_codes = array.dtype in (np.dtype(np.uint8), np.dtype(np.int8))
    return point.decode.values(array) if point.decode is not None and is_codes else array
