"""The held-out text that models are scored on is none that a search has seen."""

from __future__ import annotations

import numpy as np

from benchmarks.auto import windows_between


def test_windows_between_share_no_byte_with_those_known() -> None:
    text = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8)
    starts = np.array([0, 700, 1411, 4936])
    length = 64
    known = np.stack([text[start : start + length] for start in starts]).astype(np.int64)
    found = windows_between(text, known)
    positions = [
        next(at for at in range(len(text)) if (text[at : at + length] == window).all()) for window in found
    ]
    covered = {at + offset for at in positions for offset in range(length)}
    judged = {start + offset for start in starts for offset in range(length)}
    assert not covered & judged
    gaps = np.diff([*starts, len(text)]) - length
    assert len(found) == len(set(positions)) == sum(int(gap) // length for gap in gaps if gap > 0)
