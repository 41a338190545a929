"""Overlaps, suppression and pairing of boxes, on boxes small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.detections import matched, overlap, suppress

UNIT = np.array([0.0, 0.0, 1.0, 1.0])
HALF = np.array([0.0, 0.0, 1.0, 0.5])
AWAY = np.array([2.0, 2.0, 3.0, 3.0])


def test_overlap_is_intersection_over_union() -> None:
    found = overlap(UNIT, np.stack([UNIT, HALF, AWAY]))
    np.testing.assert_allclose(found, [1.0, 0.5, 0.0], atol=1e-12)  # exact but for the division's guard


def test_the_better_of_two_overlapping_boxes_stays() -> None:
    boxes = np.stack([HALF, UNIT, AWAY, AWAY])
    kept = suppress(boxes, np.array([0.8, 0.9, 0.95, 0.1]), threshold=0.5, most_overlap=0.4)
    np.testing.assert_array_equal(kept, np.stack([AWAY, UNIT]))


def test_no_box_over_the_threshold_is_an_empty_list() -> None:
    assert suppress(UNIT[None], np.array([0.2]), threshold=0.5, most_overlap=0.4).shape == (0, 4)


def test_a_box_is_paired_once_with_its_best() -> None:
    pairs = matched(np.stack([UNIT, HALF]), UNIT[None], least_overlap=0.4)
    assert pairs == [pytest.approx(1.0)]
    assert matched(UNIT[None], AWAY[None], least_overlap=0.4) == []
