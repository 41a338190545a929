"""The committed data is what the training recipes select."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.models.catalog import DIGITS

pytest.importorskip("torch", reason="the extra train is not installed")


def test_digits_are_split_as_committed() -> None:
    pytest.importorskip("sklearn", reason="the extra train is not installed")
    from qcompiler.models.digits.train import splits

    training, calibration, test = splits()
    assert [len(part.labels) for part in (training, calibration, test)] == [1181, 256, 360]
    np.testing.assert_array_equal(calibration.images, DIGITS.calibration_feeds()["image"])
    np.testing.assert_array_equal(test.images, DIGITS.heldout_feeds()["image"])
    assert DIGITS.labels is not None
    np.testing.assert_array_equal(test.labels, np.load(DIGITS.labels))


@pytest.mark.export
def test_windows_of_text_reach_both_ends_and_stay_on_their_side() -> None:
    pytest.importorskip("transformers", reason="the extra train is not installed")
    from qcompiler.models.pydoc_lm.train import corpus, windows

    training, heldout = corpus()
    assert len(heldout) / (len(training) + len(heldout)) == pytest.approx(0.1, abs=1e-4)  # whole bytes
    cut = windows(training, 64, 128)
    assert cut.shape == (64, 128)
    assert cut.dtype == np.int64
    np.testing.assert_array_equal(cut[0], training[:128])
    np.testing.assert_array_equal(cut[-1], training[-128:])
