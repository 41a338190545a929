"""Gram matrices are the largest statistic there is: few enough of them in one run that memory stays bounded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

import onnx_ir as ir

from qcompiler.calibration.probes import GramSum
from qcompiler.calibration.requests import Gram, Request

GRAM_BYTES = 512 << 20
"""Products of one batch that may leave the runtime at once; more values take more runs over the data."""

_FLOAT_BYTES = 4
_BUDGET: ContextVar[int] = ContextVar("gram_budget", default=GRAM_BYTES)


@contextlib.contextmanager
def gram_budget(size_bytes: int) -> Iterator[None]:
    """Another budget than ``GRAM_BYTES``, for whatever is collected inside."""
    token = _BUDGET.set(size_bytes)
    try:
        yield
    finally:
        _BUDGET.reset(token)


def gram_groups(
    requests: Mapping[Request, GramSum], values: Mapping[str, ir.Value], budget_bytes: int | None = None
) -> Iterator[list[GramSum]]:
    """Split so that the products of one batch stay under ``budget_bytes``; one of unknown size goes alone."""
    budget_bytes = _BUDGET.get() if budget_bytes is None else budget_bytes
    group: list[GramSum] = []
    held = 0
    for request, probe in requests.items():
        size = _product_bytes(request, values, budget_bytes) if isinstance(request, Gram) else 0
        if group and held + size > budget_bytes:
            yield group
            group, held = [], 0
        group.append(probe)
        held += size
    if group:
        yield group


def _product_bytes(request: Gram, values: Mapping[str, ir.Value], unknown: int) -> int:
    value = values.get(request.value)
    if request.window is not None:
        return request.window.size**2 * _FLOAT_BYTES * (2 if request.drift else 1)
    channels = value.shape[request.axis] if value is not None and value.shape else None
    if not isinstance(channels, int):
        return unknown
    return channels * channels * _FLOAT_BYTES * (2 if request.drift else 1)
