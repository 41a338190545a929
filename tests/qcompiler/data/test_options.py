"""Impossible values are refused with the flag's name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qcompiler.data import (
    DataOptions,
)
from qcompiler.errors import OptionError


@pytest.mark.parametrize(
    ("make", "flag"),
    [
        (lambda: DataOptions(batch=0), "--calib-batch"),
        (lambda: DataOptions(limit=0), "--calib-samples"),
        (lambda: DataOptions(length=0), "--sequence-length"),
        (lambda: DataOptions(image_size=(0, 8)), "--image-size"),
        (lambda: DataOptions(image_resize=0.9), "--image-resize"),
        (lambda: DataOptions(image_scale=float("nan")), "--image-scale"),
        (lambda: DataOptions(image_mean=(0.1, 0.2)), "--image-mean"),
        (lambda: DataOptions(image_mean=(float("inf"),)), "--image-mean"),
        (lambda: DataOptions(image_std=(1.0, 0.0, 1.0)), "--image-std"),
        (lambda: DataOptions(image_layout="NCWH"), "--image-layout"),  # type: ignore[arg-type]
        (lambda: DataOptions(image_order="GBR"), "--image-order"),  # type: ignore[arg-type]
        (lambda: DataOptions(seed=-1), "--seed"),
    ],
)
def test_an_impossible_value_is_refused(make: Callable[[], DataOptions], flag: str) -> None:
    with pytest.raises(OptionError, match=f"^{flag} is .*expected"):
        make()
