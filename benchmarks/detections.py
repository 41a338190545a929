"""Detections of an anchor-based detector: suppression of overlapping boxes, and what two models agree on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def overlap(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of ``box`` ``[4]`` (x1, y1, x2, y2) with ``boxes`` ``[N, 4]``: ``[N]``."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    union = np.prod(box[2:] - box[:2]) + areas - shared
    return np.asarray(shared / np.maximum(union, 1e-12))


def suppress(boxes: Floats, scores: Floats, *, threshold: float, most_overlap: float) -> Floats:
    """Boxes ``[M, 4]`` over ``threshold`` ``[N]``, best first, without those that overlap a better one."""
    order = np.argsort(-scores, kind="stable")
    left = boxes[order[scores[order] > threshold]]
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][overlap(left[0], left[1:]) <= most_overlap]
    return np.array(kept, boxes.dtype).reshape(-1, 4)


def matched(reference: Floats, found: Floats, *, least_overlap: float) -> list[float]:
    """Overlap of each reference box with the found box that it is paired with, best pairs first.

    Every box is paired at most once; pairs under ``least_overlap`` do not count.
    """
    if not len(reference) or not len(found):
        return []
    table = np.stack([overlap(box, found) for box in reference])
    pairs = []
    while table.size and (best := float(table.max())) >= least_overlap:
        row, column = np.unravel_index(int(table.argmax()), table.shape)
        pairs.append(best)
        table[row, :] = table[:, column] = -1
    return pairs
